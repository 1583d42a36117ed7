//! `map`: one record out for each record in.

use std::rc::Rc;

use tidemill_model::execution::Failure;

use crate::flow::OperatorIndex;
use crate::pipe::{Pipe, Placement, Upstream};
use crate::push::{Push, Stopped, blame, showing};
use crate::record::{Control, Data, Timestamp};
use crate::runtime::task::{Task, TaskContext};

/// A pipe followed by a function.
pub struct Map<P, F> {
    upstream: P,
    function: F,
    operator: OperatorIndex,
}

impl<P, F> Map<P, F> {
    /// `upstream`, each of whose records goes through `function`.
    pub fn new(upstream: P, function: F, operator: OperatorIndex) -> Self {
        Self { upstream, function, operator }
    }
}

impl<P: Pipe, U: Data, F> Pipe for Map<P, F>
where
    F: FnMut(P::Out) -> U + Clone + Send + Sync + 'static,
{
    type Out = U;
    type Placed = Map<Upstream<P>, F>;

    fn fuse<N: Push<U> + 'static>(&self, next: N, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        let operator = context.operator_name(self.operator);
        self.upstream.fuse(MapOperator { function: self.function.clone(), operator, next }, context)
    }

    fn place(self, placement: &mut Placement<'_>) -> Self::Placed {
        Map { upstream: placement.after(self.upstream), function: self.function, operator: self.operator }
    }
}

struct MapOperator<F, N> {
    function: F,
    operator: Rc<str>,
    next: N,
}

impl<T: Data, U, F: FnMut(T) -> U, N: Push<U>> Push<T> for MapOperator<F, N> {
    #[inline(always)]
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        let function = &mut self.function;
        let mapped = blame(&self.operator, || showing(record, function));
        self.next.push(mapped, time)
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        self.next.control(control)
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.next.flush()
    }
}
