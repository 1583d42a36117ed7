//! An asynchronous function of the user's with its limits: how many calls at a time, how long, how often.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::engine::pending::Order;
use crate::record::Data;
use crate::runtime::executor::panic_message;
use crate::runtime::sink::UserError;

/// The most calls of a sub-task: room for their results is made beforehand.
const CAPACITY_MAX: usize = 64 * 1024;

/// How asynchronous calls are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsyncOptions {
    order: Order,
    capacity: usize,
    timeout: Option<Duration>,
    retries: u32,
    first_delay: Duration,
    longest_delay: Duration,
}

impl AsyncOptions {
    /// Results come out in the order of their records; at most `capacity` (1 to 65536) calls run or wait for an
    /// earlier one in each sub-task.
    #[must_use]
    pub fn ordered(capacity: usize) -> Self {
        Self::new(Order::Ordered, capacity)
    }

    /// Results come out as soon as they are known, except that none overtakes a watermark or is overtaken by one; at
    /// most `capacity` (1 to 65536) calls run in each sub-task.
    #[must_use]
    pub fn unordered(capacity: usize) -> Self {
        Self::new(Order::Unordered, capacity)
    }

    fn new(order: Order, capacity: usize) -> Self {
        let capacity = capacity.clamp(1, CAPACITY_MAX);
        Self { order, capacity, timeout: None, retries: 0, first_delay: Duration::ZERO, longest_delay: Duration::ZERO }
    }

    /// A call that has no result after so long, with all its retries, has failed.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// A call that fails is made again, up to `retries` times: after `first_delay`, then after twice as long each
    /// time, though never longer than `longest_delay`.
    #[must_use]
    pub fn with_retries(self, retries: u32, first_delay: Duration, longest_delay: Duration) -> Self {
        Self { retries, first_delay, longest_delay: longest_delay.max(first_delay), ..self }
    }

    pub(crate) fn order(&self) -> Order {
        self.order
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    fn delay(&self, retry: u32) -> Duration {
        self.first_delay.saturating_mul(2u32.saturating_pow(retry)).min(self.longest_delay)
    }
}

/// What became of a call.
pub(crate) enum AsyncOutcome<I> {
    /// These are the results.
    Done(I),
    /// It failed, and is not made again.
    Failed(UserError),
    /// It took longer than this.
    TimedOut(Duration),
    /// The user's code panicked.
    Panicked(String),
}

/// What is emitted for a record whose call took too long.
type OnTimeout<T, I> = Box<dyn Fn(T) -> Result<I, UserError> + Send + Sync>;

/// An asynchronous function, and how it is called.
pub struct AsyncCall<T, F, I> {
    function: F,
    on_timeout: Option<OnTimeout<T, I>>,
    options: AsyncOptions,
}

impl<T, F, I> AsyncCall<T, F, I> {
    /// Calls `function`; a call that takes too long fails.
    pub fn new(function: F, options: AsyncOptions) -> Self {
        Self { function, on_timeout: None, options }
    }

    /// The same with a function that says what is emitted for a record whose call takes too long.
    #[must_use]
    pub fn or_else(self, on_timeout: impl Fn(T) -> Result<I, UserError> + Send + Sync + 'static) -> Self {
        Self { on_timeout: Some(Box::new(on_timeout)), ..self }
    }

    /// How calls are made.
    #[must_use]
    pub fn options(&self) -> &AsyncOptions {
        &self.options
    }
}

impl<T: Data, F, A, I> AsyncCall<T, F, I>
where
    F: Fn(T) -> A + Send + Sync,
    A: Future<Output = Result<I, UserError>> + Send,
{
    /// The whole of one call.
    pub(crate) async fn run(&self, record: T) -> AsyncOutcome<I> {
        let mut future = pin!(self.limited(record));
        // A panic must not end the threads' runtime silently: the task would wait for ever.
        let caught = poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(outcome)) => Poll::Ready(outcome),
            Err(panic) => Poll::Ready(AsyncOutcome::Panicked(panic_message(panic.as_ref()))),
        });
        caught.await
    }

    async fn limited(&self, record: T) -> AsyncOutcome<I> {
        let Some(limit) = self.options.timeout else { return self.repeated(record).await };
        let kept = self.on_timeout.as_ref().map(|on_timeout| (on_timeout, record.clone()));
        match (tokio::time::timeout(limit, self.repeated(record)).await, kept) {
            (Ok(outcome), _) => outcome,
            (Err(_), None) => AsyncOutcome::TimedOut(limit),
            (Err(_), Some((on_timeout, record))) => match on_timeout(record) {
                Ok(results) => AsyncOutcome::Done(results),
                Err(error) => AsyncOutcome::Failed(error),
            },
        }
    }

    async fn repeated(&self, record: T) -> AsyncOutcome<I> {
        for retry in 0..self.options.retries {
            if let Ok(results) = (self.function)(record.clone()).await {
                return AsyncOutcome::Done(results);
            }
            tokio::time::sleep(self.options.delay(retry)).await;
        }
        match (self.function)(record).await {
            Ok(results) => AsyncOutcome::Done(results),
            Err(error) => AsyncOutcome::Failed(error),
        }
    }
}
