//! A stream as a type: a source, or a chain's input, followed by operators, to be fused with what comes next.

use std::marker::PhantomData;
use std::time::Duration;

use tidemill_model::execution::{Failure, FailureKind};

use crate::flow::{FlowBuilder, VertexIndex, rebalance_factory};
use crate::push::{Push, Stopped};
use crate::record::{Control, Data, END_OF_TIME};
use crate::runtime::gate::InputTask;
use crate::runtime::source::{PlainReader, PlainSource, Reading};
use crate::runtime::task::{Task, TaskContext};

/// The description of a chain up to some point; each sub-task fuses a copy of it into one loop.
pub trait Pipe: Send + Sync + Sized + 'static {
    /// The records that come out.
    type Out: Data;

    /// The same pipe when its last operator may run in a vertex of its own.
    type Placed: Pipe<Out = Self::Out>;

    /// The chain that ends in `next`, ready to run on this thread.
    ///
    /// # Errors
    /// An input or output cannot be opened.
    fn fuse<N: Push<Self::Out> + 'static>(&self, next: N, context: &TaskContext) -> Result<Box<dyn Task>, Failure>;

    /// Gives the last operator its own parallelism, which may move it to a vertex of its own.
    fn place(self, placement: &mut Placement<'_>) -> Self::Placed;
}

/// Where the last operator of a stream is to run.
pub struct Placement<'a> {
    builder: &'a mut FlowBuilder,
    vertex: VertexIndex,
    parallelism: u32,
    chaining: Chaining,
}

/// Whether an operator may stay in one chain with what precedes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chaining {
    /// When the parallelism is the same.
    Allowed,
    /// Never.
    Broken,
}

impl<'a> Placement<'a> {
    /// `vertex` is the one that the stream ends in.
    pub fn new(builder: &'a mut FlowBuilder, vertex: VertexIndex, parallelism: u32, chaining: Chaining) -> Self {
        Self { builder, vertex, parallelism, chaining }
    }

    /// The vertex that the stream ends in now.
    #[must_use]
    pub fn vertex(&self) -> VertexIndex {
        self.vertex
    }

    /// For an operator that begins its vertex.
    pub(crate) fn whole_vertex(&mut self) {
        self.builder.set_parallelism(self.vertex, self.parallelism);
    }

    /// For an operator that follows `upstream` in its chain: equal parallelism keeps them together.
    pub(crate) fn after<P: Pipe>(&mut self, upstream: P) -> Upstream<P> {
        if self.builder.is_alone(self.vertex) {
            self.whole_vertex();
            return Upstream::Fused(upstream);
        }
        if self.chaining == Chaining::Allowed && self.builder.parallelism(self.vertex) == self.parallelism {
            return Upstream::Fused(upstream);
        }
        self.vertex = self.builder.cut_last_operator(self.vertex, rebalance_factory(upstream), self.parallelism);
        Upstream::Exchanged(Input::new())
    }
}

/// What precedes an operator whose parallelism was set: the same chain, or an exchange.
pub enum Upstream<P: Pipe> {
    /// In one loop with it.
    Fused(P),
    /// In another vertex.
    Exchanged(Input<P::Out>),
}

impl<P: Pipe> Pipe for Upstream<P> {
    type Out = P::Out;
    type Placed = Self;

    fn fuse<N: Push<P::Out> + 'static>(&self, next: N, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        match self {
            Self::Fused(pipe) => pipe.fuse(next, context),
            Self::Exchanged(input) => input.fuse(next, context),
        }
    }

    fn place(self, placement: &mut Placement<'_>) -> Self {
        placement.whole_vertex();
        self
    }
}

/// The records that arrive over an exchange.
pub struct Input<T> {
    records: PhantomData<fn() -> T>,
}

impl<T> Input<T> {
    /// The input of a vertex.
    #[must_use]
    pub fn new() -> Self {
        Self { records: PhantomData }
    }
}

impl<T> Default for Input<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Data> Pipe for Input<T> {
    type Out = T;
    type Placed = Self;

    fn fuse<N: Push<T> + 'static>(&self, next: N, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        Ok(Box::new(InputTask::new(context.input_gate::<T>()?, next)))
    }

    fn place(self, placement: &mut Placement<'_>) -> Self {
        placement.whole_vertex();
        self
    }
}

/// The records of a source without splits.
pub struct FromSource<S> {
    source: S,
}

impl<S> FromSource<S> {
    /// The stream of `source`.
    pub fn new(source: S) -> Self {
        Self { source }
    }
}

impl<S: PlainSource> Pipe for FromSource<S> {
    type Out = S::Out;
    type Placed = Self;

    fn fuse<N: Push<S::Out> + 'static>(&self, next: N, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        let mut positions = context.restored_values(&context.first_uid().state(POSITION))?;
        if let (Some(before), false) = (context.other_parallelism(), positions.is_empty()) {
            let message = format!(
                "restore source: its {before} sub-tasks had shares of their own, which {} cannot take over; give it the \
                 parallelism of before, or use a source with splits",
                context.parallelism()
            );
            return Err(context.failure(FailureKind::InvalidInput, None, message));
        }
        let restored = positions.pop();
        let (reader, context) = (self.source.open(context, restored)?, context.clone());
        Ok(Box::new(SourceTask { reader, next, context, records: PhantomData }))
    }

    fn place(self, placement: &mut Placement<'_>) -> Self {
        placement.whole_vertex();
        self
    }
}

/// The name of the state that says how far a source has read.
const POSITION: &str = "position";

/// A chain that begins with a source.
struct SourceTask<T, R, N> {
    reader: R,
    next: N,
    context: TaskContext,
    records: PhantomData<fn(T)>,
}

impl<T, R: PlainReader<T>, N: Push<T>> SourceTask<T, R, N> {
    #[cold]
    fn on_checkpoint_news(&mut self) -> Result<(), Stopped> {
        if let Some(checkpoint) = self.context.take_completed() {
            self.next.control(Control::Completed(checkpoint))?;
            self.context.confirm(checkpoint);
        }
        if let Some(checkpoint) = self.context.wanted_trigger() {
            self.context.keep_value(self.context.first_uid().state(POSITION), self.reader.position());
            self.next.control(Control::Barrier(checkpoint))?;
            self.context.barrier_passed(checkpoint);
        }
        Ok(())
    }
}

impl<T, R: PlainReader<T>, N: Push<T>> Task for SourceTask<T, R, N> {
    fn run(&mut self) -> Result<(), Stopped> {
        if self.context.had_finished() {
            return self.next.control(Control::FinishedBefore);
        }
        loop {
            self.context.poll()?;
            if let Some(now) = self.context.take_due() {
                self.next.control(Control::ProcessingTime(now))?;
            }
            if self.context.has_checkpoint_news() {
                self.on_checkpoint_news()?;
            }
            match self.reader.read(&mut self.next, &self.context)? {
                Reading::More => {}
                Reading::Wait(duration) => {
                    self.next.flush()?;
                    let until_due = self.context.until_due().unwrap_or(Duration::MAX);
                    self.context.wait(duration.min(until_due))?;
                }
                Reading::Ended => break,
            }
            if self.context.is_draining() {
                break;
            }
        }
        self.next.control(Control::Watermark(END_OF_TIME))?;
        self.next.control(Control::EndOfInput)
    }
}
