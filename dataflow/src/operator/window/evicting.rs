//! Windows with an evictor: they keep all their records, with their times, and compute anew whenever they fire.

use std::fmt::Debug;

use tidemill_model::key::Key;

use super::WindowFunction;
use crate::engine::window::{AnyEvictor, Contents, Sharing, Stamped};
use crate::function::{Collector, WindowContext};
use crate::record::{Data, Timestamp};
use crate::runtime::sink::{Subtask, UserError};

/// Whether there is an evictor, as a type: without one nothing is paid for it.
pub trait Eviction<T: Data>: Clone + Debug + Send + Sync + 'static {
    /// A window function with evictions around it.
    type Around<K: Key, F: WindowFunction<K, T>>: WindowFunction<K, T, Out = F::Out>;

    /// Puts evictions around a window function.
    fn wrap<K: Key, F: WindowFunction<K, T>>(self, function: F) -> Self::Around<K, F>;
}

/// No evictor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoEvictor;

impl<T: Data> Eviction<T> for NoEvictor {
    type Around<K: Key, F: WindowFunction<K, T>> = F;

    fn wrap<K: Key, F: WindowFunction<K, T>>(self, function: F) -> F {
        function
    }
}

impl<T: Data> Eviction<T> for AnyEvictor<T> {
    type Around<K: Key, F: WindowFunction<K, T>> = EvictingWindow<T, F>;

    fn wrap<K: Key, F: WindowFunction<K, T>>(self, function: F) -> EvictingWindow<T, F> {
        EvictingWindow { evictor: self, function }
    }
}

/// Keeps all records, evicts some, and has `function` compute the rest.
#[derive(Clone)]
pub struct EvictingWindow<T, F> {
    evictor: AnyEvictor<T>,
    function: F,
}

impl<K: Key, T: Data, F: WindowFunction<K, T>> WindowFunction<K, T> for EvictingWindow<T, F> {
    type Contents = Vec<Stamped<T>>;
    type Out = F::Out;
    /// What is evicted from one window stays in others.
    const SHARING: Sharing = Sharing::Windows;

    fn open(&mut self, subtask: Subtask) -> Result<(), UserError> {
        self.function.open(subtask)
    }

    #[inline]
    fn fold(&mut self, contents: &mut Option<Vec<Stamped<T>>>, record: T, time: Timestamp) {
        contents.get_or_insert_default().push(Stamped { timestamp: time, value: record });
    }

    fn merge(&mut self, into: &mut Vec<Stamped<T>>, mut from: Vec<Stamped<T>>) {
        into.append(&mut from);
    }

    fn fire(
        &mut self,
        contents: Contents<'_, Vec<Stamped<T>>>,
        context: &mut WindowContext<'_, K>,
        out: &mut Collector<F::Out>,
    ) -> Result<(), UserError> {
        let (function, mut result) = (&mut self.function, Ok(()));
        self.evictor.around(context.window(), contents, context.watermark(), |_, elements| {
            let mut left = None;
            for element in elements {
                function.fold(&mut left, element.value.clone(), element.timestamp);
            }
            if let Some(left) = left {
                result = function.fire(Contents::Given(left), context, out);
            }
        });
        result
    }
}
