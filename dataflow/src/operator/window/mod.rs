//! Windows of keyed records: what is made of their contents, and the operator that runs the window engine for each key.

mod aggregate;
mod elements;
mod evicting;
mod host;
mod joined;
mod operator;

use tidemill_model::execution::Failure;
use tidemill_model::key::Key;

use crate::engine::window::{Contents, Sharing, Windowing};
use crate::flow::OperatorIndex;
use crate::function::{Collector, OutputTag, WindowContext};
use crate::key_selector::KeySelector;
use crate::pipe::{Input, Pipe, Placement};
use crate::push::Push;
use crate::record::{Data, Timestamp};
use crate::runtime::sink::{Subtask, UserError};
use crate::runtime::task::{Task, TaskContext};

pub use aggregate::{AggregateWindow, Folding, Incremental, NoMerge, Reducing, Typed};
pub use elements::ProcessWindow;
pub use evicting::{EvictingWindow, Eviction, NoEvictor};
pub use joined::{CoGroupWindow, Sides};

/// The counter of records that came too late for all their windows and were dropped.
pub const LATE_RECORDS_DROPPED: &str = "late-records-dropped";

/// What a window keeps of its records, and what is made of that when it fires.
pub trait WindowFunction<K: Key, T>: Clone + Send + Sync + 'static {
    /// What is kept of at least one record.
    type Contents: Data;
    /// What is emitted.
    type Out: Data;

    /// Whether overlapping windows may share contents.
    const SHARING: Sharing;

    /// Whether contents can be merged, as sessions need it.
    const MERGES: bool = true;

    /// Called once in each sub-task, before the first record.
    ///
    /// # Errors
    /// The user's function cannot work.
    fn open(&mut self, _subtask: Subtask) -> Result<(), UserError> {
        Ok(())
    }

    /// Takes a record in; contents are absent for the first.
    fn fold(&mut self, contents: &mut Option<Self::Contents>, record: T, time: Timestamp);

    /// Takes in what a later pane or session has.
    fn merge(&mut self, into: &mut Self::Contents, from: Self::Contents);

    /// Emits what a fired window has come to.
    ///
    /// # Errors
    /// The user's function cannot go on.
    fn fire(
        &mut self,
        contents: Contents<'_, Self::Contents>,
        context: &mut WindowContext<'_, K>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;
}

/// The session gap that a record brings with it, where windows ask for it.
pub trait SessionGap<T>: Clone + Send + Sync + 'static {
    /// In milliseconds.
    fn gap(&mut self, record: &T) -> i64;
}

/// For windows that do not ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoGap;

impl<T> SessionGap<T> for NoGap {
    #[inline(always)]
    fn gap(&mut self, _record: &T) -> i64 {
        0
    }
}

/// A keyed exchange followed by windows.
pub struct Window<T, S, G, F> {
    input: Input<T>,
    selector: S,
    gap: G,
    function: F,
    windowing: Windowing<T>,
    late: Option<OutputTag<T>>,
    operator: OperatorIndex,
}

impl<T, S, G, F> Window<T, S, G, F> {
    /// Keys by `selector`, puts records into windows by `windowing`, makes results with `function`; what is too late
    /// goes to the side output `late`, or is dropped and counted.
    pub fn new(
        selector: S,
        (windowing, gap): (Windowing<T>, G),
        function: F,
        late: Option<OutputTag<T>>,
        operator: OperatorIndex,
    ) -> Self {
        Self { input: Input::new(), selector, gap, function, windowing, late, operator }
    }
}

impl<T, S, G, F> Pipe for Window<T, S, G, F>
where
    T: Data,
    S: KeySelector<T>,
    G: SessionGap<T>,
    F: WindowFunction<S::Key, T>,
{
    type Out = F::Out;
    type Placed = Self;

    fn fuse<N: Push<F::Out> + 'static>(&self, next: N, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        self.input.fuse(operator::WindowOperator::new(self, next, context)?, context)
    }

    fn place(self, placement: &mut Placement<'_>) -> Self {
        placement.whole_vertex();
        self
    }
}
