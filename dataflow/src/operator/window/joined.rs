//! Windows over two streams: what came from either is kept side by side.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use tidemill_model::key::Key;

use super::WindowFunction;
use crate::engine::window::{Contents, Sharing};
use crate::function::{Collector, Either, WindowContext};
use crate::record::{Data, Timestamp};
use crate::runtime::sink::UserError;

/// What a window has of two streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sides<L, R> {
    /// Of the first.
    pub left: Vec<L>,
    /// Of the second.
    pub right: Vec<R>,
}

/// Calls a function with all records of both streams in a window.
pub struct CoGroupWindow<F, O> {
    function: F,
    out: PhantomData<fn() -> O>,
}

impl<F, O> CoGroupWindow<F, O> {
    /// Calls `function`.
    pub fn new(function: F) -> Self {
        Self { function, out: PhantomData }
    }
}

impl<F: Clone, O> Clone for CoGroupWindow<F, O> {
    fn clone(&self) -> Self {
        Self::new(self.function.clone())
    }
}

impl<K, L, R, F, O> WindowFunction<K, Either<L, R>> for CoGroupWindow<F, O>
where
    K: Key,
    L: Data,
    R: Data,
    O: Data,
    F: FnMut(&K, &[L], &[R], &mut Vec<O>) + Clone + Send + Sync + 'static,
{
    type Contents = Sides<L, R>;
    type Out = O;
    const SHARING: Sharing = Sharing::Panes;

    #[inline]
    fn fold(&mut self, contents: &mut Option<Sides<L, R>>, record: Either<L, R>, _time: Timestamp) {
        let sides = contents.get_or_insert_with(|| Sides { left: Vec::new(), right: Vec::new() });
        match record {
            Either::Left(record) => sides.left.push(record),
            Either::Right(record) => sides.right.push(record),
        }
    }

    fn merge(&mut self, into: &mut Sides<L, R>, mut from: Sides<L, R>) {
        into.left.append(&mut from.left);
        into.right.append(&mut from.right);
    }

    fn fire(
        &mut self,
        contents: Contents<'_, Sides<L, R>>,
        context: &mut WindowContext<'_, K>,
        out: &mut Collector<O>,
    ) -> Result<(), UserError> {
        let (sides, mut records) = (contents.get(), Vec::new());
        (self.function)(context.key, &sides.left, &sides.right, &mut records);
        records.into_iter().for_each(|record| out.emit(record));
        Ok(())
    }
}
