//! `flat_map`: any number of records out for each record in.

use std::rc::Rc;

use tidemill_model::execution::Failure;

use crate::flow::OperatorIndex;
use crate::pipe::{Pipe, Placement, Upstream};
use crate::push::{Push, Stopped, blame};
use crate::record::{Control, Data};
use crate::runtime::task::{Task, TaskContext};

/// A pipe followed by a function that makes an iterator of each record.
pub struct FlatMap<P, F> {
    upstream: P,
    function: F,
    operator: OperatorIndex,
}

impl<P, F> FlatMap<P, F> {
    /// `upstream`, each of whose records goes through `function`.
    pub fn new(upstream: P, function: F, operator: OperatorIndex) -> Self {
        Self { upstream, function, operator }
    }
}

impl<P: Pipe, I, F> Pipe for FlatMap<P, F>
where
    I: IntoIterator,
    I::Item: Data,
    F: FnMut(P::Out) -> I + Clone + Send + Sync + 'static,
{
    type Out = I::Item;
    type Placed = FlatMap<Upstream<P>, F>;

    fn fuse<N: Push<I::Item> + 'static>(&self, next: N, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        let operator = context.operator_name(self.operator);
        self.upstream.fuse(FlatMapOperator { function: self.function.clone(), operator, next }, context)
    }

    fn place(self, placement: &mut Placement<'_>) -> Self::Placed {
        FlatMap { upstream: placement.after(self.upstream), function: self.function, operator: self.operator }
    }
}

struct FlatMapOperator<F, N> {
    function: F,
    operator: Rc<str>,
    next: N,
}

impl<T, I: IntoIterator, F: FnMut(T) -> I, N: Push<I::Item>> Push<T> for FlatMapOperator<F, N> {
    #[inline(always)]
    fn push(&mut self, record: T) -> Result<(), Stopped> {
        let function = &mut self.function;
        let mut records = blame(&self.operator, || function(record).into_iter());
        while let Some(record) = blame(&self.operator, || records.next()) {
            self.next.push(record)?;
        }
        Ok(())
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        self.next.control(control)
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.next.flush()
    }
}
