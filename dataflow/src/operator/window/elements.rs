//! Windows that keep all their records for a function of the user's.

use tidemill_model::key::Key;

use super::WindowFunction;
use crate::engine::window::{Contents, Sharing};
use crate::function::{Collector, ProcessWindowFunction, WindowContext};
use crate::record::{Data, Timestamp};
use crate::runtime::sink::{Subtask, UserError};

/// Keeps all records of a window.
#[derive(Clone)]
pub struct ProcessWindow<F>(pub F);

impl<K: Key, T: Data, F: ProcessWindowFunction<K, T>> WindowFunction<K, T> for ProcessWindow<F> {
    type Contents = Vec<T>;
    type Out = F::Out;
    const SHARING: Sharing = Sharing::Panes;

    fn open(&mut self, subtask: Subtask) -> Result<(), UserError> {
        self.0.open(subtask)
    }

    #[inline]
    fn fold(&mut self, contents: &mut Option<Vec<T>>, record: T, _time: Timestamp) {
        contents.get_or_insert_default().push(record);
    }

    fn merge(&mut self, into: &mut Vec<T>, mut from: Vec<T>) {
        into.append(&mut from);
    }

    fn fire(
        &mut self,
        contents: Contents<'_, Vec<T>>,
        context: &mut WindowContext<'_, K>,
        out: &mut Collector<F::Out>,
    ) -> Result<(), UserError> {
        self.0.process(contents.get(), context, out)
    }
}
