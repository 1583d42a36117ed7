//! `flat_map`: any number of records out for each record in.

use std::marker::PhantomData;
use std::rc::Rc;

use tidemill_model::execution::Failure;

use crate::flow::OperatorIndex;
use crate::pipe::{Pipe, Placement, Upstream};
use crate::push::{Push, Stopped, blame, showing};
use crate::record::{Control, Data, Timestamp};
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

impl<T: Data, I: IntoIterator, F: FnMut(T) -> I, N: Push<I::Item>> Push<T> for FlatMapOperator<F, N> {
    #[inline(always)]
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        let function = &mut self.function;
        let mut records = blame(&self.operator, || showing(record, function).into_iter());
        while let Some(record) = blame(&self.operator, || records.next()) {
            self.next.push(record, time)?;
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

/// A pipe followed by a function that appends any number of records to a list that is used again and again.
pub struct FlatMapInto<P, U, F> {
    upstream: P,
    function: F,
    operator: OperatorIndex,
    records: PhantomData<fn() -> U>,
}

impl<P, U, F> FlatMapInto<P, U, F> {
    /// `upstream`, each of whose records goes through `function`.
    pub fn new(upstream: P, function: F, operator: OperatorIndex) -> Self {
        Self { upstream, function, operator, records: PhantomData }
    }
}

impl<P: Pipe, U: Data, F> Pipe for FlatMapInto<P, U, F>
where
    F: FnMut(P::Out, &mut Vec<U>) + Clone + Send + Sync + 'static,
{
    type Out = U;
    type Placed = FlatMapInto<Upstream<P>, U, F>;

    fn fuse<N: Push<U> + 'static>(&self, next: N, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        let operator = context.operator_name(self.operator);
        let (function, records) = (self.function.clone(), Vec::new());
        self.upstream.fuse(FlatMapIntoOperator { function, operator, records, next }, context)
    }

    fn place(self, placement: &mut Placement<'_>) -> Self::Placed {
        FlatMapInto::new(placement.after(self.upstream), self.function, self.operator)
    }
}

struct FlatMapIntoOperator<U, F, N> {
    function: F,
    operator: Rc<str>,
    records: Vec<U>,
    next: N,
}

impl<T: Data, U, F: FnMut(T, &mut Vec<U>), N: Push<U>> Push<T> for FlatMapIntoOperator<U, F, N> {
    #[inline(always)]
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        let (function, records) = (&mut self.function, &mut self.records);
        blame(&self.operator, || showing(record, |record| function(record, records)));
        for record in self.records.drain(..) {
            self.next.push(record, time)?;
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
