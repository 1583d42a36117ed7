//! What a program has said about windows, and how an operator is made of it.

use tidemill_dataflow::engine::window::{AnyTrigger, Assigner, Error, Windowing};
use tidemill_dataflow::flow::{self, FlowBuilder, VertexIndex};
use tidemill_dataflow::function::OutputTag;
use tidemill_dataflow::key_selector::KeySelector;
use tidemill_dataflow::operator::window::{Eviction, Window, WindowFunction};
use tidemill_dataflow::record::Data;

use super::windows::{WindowKind, Windows};
use crate::environment::Environment;
use crate::stream::{DataStream, keyed_types};

/// Which windows, and all that can be set about them.
pub(super) struct Settings<T, W, E> {
    pub(super) windows: Windows<W>,
    pub(super) trigger: Option<AnyTrigger<T>>,
    pub(super) evictor: E,
    /// In milliseconds.
    pub(super) lateness: i64,
    pub(super) late: Option<OutputTag<T>>,
    pub(super) parallelism: u32,
    /// What was wrong with a setting.
    pub(super) error: Option<Error>,
}

/// The operator that is made of all this.
pub(super) type Windowed<T, W, E, S, F> =
    Window<T, S, <W as WindowKind<T>>::Gap, <E as Eviction<T>>::Around<<S as KeySelector<T>>::Key, F>>;

impl<T: Data, W, E> Settings<T, W, E> {
    pub(super) fn new(windows: Windows<W>, evictor: E, parallelism: u32) -> Self {
        Self { windows, trigger: None, evictor, lateness: 0, late: None, parallelism, error: None }
    }
}

impl<T: Data, W: WindowKind<T>, E: Eviction<T>> Settings<T, W, E> {
    /// Adds the operator; `exchange` leads its input to the vertex.
    pub(super) fn operate<S, F>(
        self,
        environment: Environment,
        name: &str,
        (selector, function): (S, F),
        exchange: impl FnOnce(&mut FlowBuilder, VertexIndex),
    ) -> DataStream<Windowed<T, W, E, S, F>>
    where
        S: KeySelector<T>,
        F: WindowFunction<S::Key, T>,
    {
        let Self { windows, trigger, evictor, lateness, late, parallelism, error } = self;
        let mut details = keyed_types::<S::Key, T, F::Out>();
        let assigner = windows.assigner();
        details.push(format!("{assigner:?}, trigger {trigger:?}, evictor {evictor:?}, lateness {lateness} ms"));
        let windowing = match error {
            Some(error) => Err(error),
            None => assigner.and_then(|assigner| {
                windowing::<S::Key, T, <E as Eviction<T>>::Around<S::Key, F>>(assigner, trigger, lateness)
            }),
        };
        let (vertex, operator, windowing) = environment.build(|builder| {
            let target = builder.add_vertex(parallelism);
            exchange(builder, target);
            let operator = builder.add_operator(target, name, details);
            builder.mark_needs_time(operator);
            builder.mark_has_side_outputs(operator);
            builder.mark_assigns_time(operator);
            let windowing = windowing.unwrap_or_else(|reason| {
                builder.add_defect(flow::Error::Window { operator: name.to_owned(), reason });
                Windowing::count(1).expect("one is not zero")
            });
            (target, operator, windowing)
        });
        let gap = windows.kind.into_gap();
        let pipe = Window::new(selector, (windowing, gap), evictor.wrap(function), late, operator);
        DataStream { environment, pipe, vertex, operator }
    }
}

fn windowing<K, T, F>(assigner: Assigner, trigger: Option<AnyTrigger<T>>, lateness: i64) -> Result<Windowing<T>, Error>
where
    K: tidemill_model::key::Key,
    T: Data,
    F: WindowFunction<K, T>,
{
    if assigner.merges() && !F::MERGES {
        return Err(Error::ContentsCannotMerge);
    }
    Windowing::new(assigner, trigger, lateness, F::SHARING)
}
