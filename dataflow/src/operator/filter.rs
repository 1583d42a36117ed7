//! `filter`: only the records that satisfy a predicate.

use std::rc::Rc;

use tidemill_model::execution::Failure;

use crate::flow::OperatorIndex;
use crate::pipe::{Pipe, Placement, Upstream};
use crate::push::{Push, Stopped, blame_on};
use crate::record::{Control, Data, Timestamp};
use crate::runtime::task::{Task, TaskContext};

/// A pipe followed by a predicate.
pub struct Filter<P, F> {
    upstream: P,
    predicate: F,
    operator: OperatorIndex,
}

impl<P, F> Filter<P, F> {
    /// The records of `upstream` that satisfy `predicate`.
    pub fn new(upstream: P, predicate: F, operator: OperatorIndex) -> Self {
        Self { upstream, predicate, operator }
    }
}

impl<P: Pipe, F> Pipe for Filter<P, F>
where
    F: FnMut(&P::Out) -> bool + Clone + Send + Sync + 'static,
{
    type Out = P::Out;
    type Placed = Filter<Upstream<P>, F>;

    fn fuse<N: Push<P::Out> + 'static>(&self, next: N, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        let operator = context.operator_name(self.operator);
        self.upstream.fuse(FilterOperator { predicate: self.predicate.clone(), operator, next }, context)
    }

    fn place(self, placement: &mut Placement<'_>) -> Self::Placed {
        Filter { upstream: placement.after(self.upstream), predicate: self.predicate, operator: self.operator }
    }
}

struct FilterOperator<F, N> {
    predicate: F,
    operator: Rc<str>,
    next: N,
}

impl<T: Data, F: FnMut(&T) -> bool, N: Push<T>> Push<T> for FilterOperator<F, N> {
    #[inline(always)]
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        let predicate = &mut self.predicate;
        if blame_on(&self.operator, &record, || predicate(&record)) { self.next.push(record, time) } else { Ok(()) }
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        self.next.control(control)
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.next.flush()
    }
}
