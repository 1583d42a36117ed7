//! Asynchronous calls for each record, many at a time: their results come out in order, or as they come.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use tidemill_model::execution::{Failure, FailureKind};
use tokio::task::AbortHandle;

use super::process::user_failure;
use crate::engine::pending::{Output, Pending, Ticket};
use crate::flow::OperatorIndex;
use crate::function::{AsyncCall, AsyncOutcome};
use crate::pipe::{Pipe, Placement, Upstream};
use crate::push::{Push, Stopped, blame};
use crate::record::{Control, Data, Timestamp};
use crate::runtime::sink::UserError;
use crate::runtime::task::{Task, TaskContext};

/// A pipe for each of whose records an asynchronous function is called.
pub struct AsyncFlatMap<P: Pipe, F, I> {
    upstream: P,
    call: Arc<AsyncCall<P::Out, F, I>>,
    operator: OperatorIndex,
}

impl<P: Pipe, F, I> AsyncFlatMap<P, F, I> {
    /// `upstream`, each of whose records goes through `call`.
    pub fn new(upstream: P, call: AsyncCall<P::Out, F, I>, operator: OperatorIndex) -> Self {
        Self { upstream, call: Arc::new(call), operator }
    }
}

impl<P, F, A, I, U> Pipe for AsyncFlatMap<P, F, I>
where
    P: Pipe,
    F: Fn(P::Out) -> A + Send + Sync + 'static,
    A: Future<Output = Result<I, UserError>> + Send + 'static,
    I: IntoIterator<Item = U> + Send + 'static,
    U: Data,
{
    type Out = U;
    type Placed = AsyncFlatMap<Upstream<P>, F, I>;

    fn fuse<N: Push<U> + 'static>(&self, next: N, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        let options = self.call.options();
        let (sender, results) = bounded(options.capacity());
        let operator = AsyncOperator {
            pending: Pending::new(options.order(), options.capacity()),
            call: Arc::clone(&self.call),
            results,
            sender,
            running: Vec::new(),
            operator: context.operator_name(self.operator),
            next,
            context: context.clone(),
        };
        self.upstream.fuse(operator, context)
    }

    fn place(self, placement: &mut Placement<'_>) -> Self::Placed {
        AsyncFlatMap { upstream: placement.after(self.upstream), call: self.call, operator: self.operator }
    }
}

struct AsyncOperator<T, F, I, N> {
    pending: Pending<AsyncOutcome<I>>,
    call: Arc<AsyncCall<T, F, I>>,
    /// As many as calls may run have room, so that none waits to tell its result.
    results: Receiver<(Ticket, AsyncOutcome<I>)>,
    sender: Sender<(Ticket, AsyncOutcome<I>)>,
    /// Calls to be aborted when the task stops, among them some that have ended.
    running: Vec<AbortHandle>,
    operator: Rc<str>,
    next: N,
    context: TaskContext,
}

impl<T, F, I, N> Drop for AsyncOperator<T, F, I, N> {
    fn drop(&mut self) {
        for call in &self.running {
            call.abort();
        }
    }
}

impl<T, F, A, I, U, N> AsyncOperator<T, F, I, N>
where
    T: Data,
    F: Fn(T) -> A + Send + Sync + 'static,
    A: Future<Output = Result<I, UserError>> + Send + 'static,
    I: IntoIterator<Item = U> + Send + 'static,
    N: Push<U>,
{
    /// Sends on what can come out by now.
    fn advance(&mut self) -> Result<(), Stopped> {
        for (ticket, outcome) in self.results.try_iter() {
            self.pending.complete(ticket, outcome);
        }
        while let Some(output) = self.pending.pop() {
            match output {
                Output::Result(outcome, time) => self.emit(outcome, time)?,
                Output::Control(control) => self.next.control(control)?,
            }
        }
        Ok(())
    }

    fn emit(&mut self, outcome: AsyncOutcome<I>, time: Timestamp) -> Result<(), Stopped> {
        let (kind, message) = match outcome {
            AsyncOutcome::Done(records) => {
                let next = &mut self.next;
                return blame(&self.operator, || records.into_iter().try_for_each(|record| next.push(record, time)));
            }
            AsyncOutcome::Failed(error) => {
                return Err(self.context.fail(user_failure(&self.context, &self.operator, &error)));
            }
            AsyncOutcome::TimedOut(limit) => {
                let advice = "raise the time-out, or say what is to be emitted then";
                (FailureKind::Io, format!("call asynchronous function: no answer within {limit:?}; {advice}"))
            }
            AsyncOutcome::Panicked(message) => (FailureKind::Panic, message),
        };
        Err(self.context.fail(self.context.failure(kind, Some(&self.operator), message)))
    }

    /// Waits until a call ends, and sends on what can come out; meanwhile no input is taken.
    fn wait(&mut self) -> Result<(), Stopped> {
        self.next.flush()?;
        // While results went out the task may have waited for room, and read there that a call has ended.
        if self.results.is_empty() {
            self.context.wait_for_mail()?;
        }
        self.advance()
    }

    fn wait_for_room(&mut self) -> Result<(), Stopped> {
        self.advance()?;
        while !self.pending.has_room() {
            self.wait()?;
        }
        Ok(())
    }

    fn begin(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        let ticket = self.pending.begin(time);
        let (call, sender, waker) = (Arc::clone(&self.call), self.sender.clone(), self.context.waker());
        let future = async move {
            let outcome = call.run(record).await;
            // There is room; nobody listens any more when the task has stopped.
            let _ = sender.try_send((ticket, outcome));
            waker.wake();
        };
        let spawned = self.context.async_pool().spawn(future);
        let handle = spawned.map_err(|message| {
            self.context.fail(self.context.failure(FailureKind::Io, Some(&self.operator), message))
        })?;
        if self.running.len() >= 2 * self.call.options().capacity() {
            self.running.retain(|call| !call.is_finished());
        }
        self.running.push(handle);
        Ok(())
    }
}

impl<T, F, A, I, U, N> Push<T> for AsyncOperator<T, F, I, N>
where
    T: Data,
    F: Fn(T) -> A + Send + Sync + 'static,
    A: Future<Output = Result<I, UserError>> + Send + 'static,
    I: IntoIterator<Item = U> + Send + 'static,
    N: Push<U>,
{
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        self.wait_for_room()?;
        self.begin(record, time)
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        match control {
            Control::Watermark(_) | Control::Idle | Control::Active => {
                self.wait_for_room()?;
                self.pending.control(control);
                self.advance()
            }
            // The task was woken by a call that has ended, or it is this late.
            Control::ProcessingTime(_) => {
                self.advance()?;
                self.next.control(control)
            }
            // A snapshot has no calls under way: it waits for their results.
            Control::Barrier(_) | Control::EndOfInput => {
                self.advance()?;
                while !self.pending.is_empty() {
                    self.wait()?;
                }
                self.next.control(control)
            }
            Control::Completed(_) | Control::FinishedBefore => self.next.control(control),
        }
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.advance()?;
        self.next.flush()
    }
}
