//! Event time: gives records their times, and tells downstream how far time has come.

use std::rc::Rc;
use std::time::Duration;

use tidemill_model::execution::{Failure, FailureKind};
use tidemill_model::job::RuntimeMode;

use crate::flow::OperatorIndex;
use crate::pipe::{Pipe, Placement, Upstream};
use crate::push::{Push, Stopped, blame, blame_on};
use crate::record::{Control, Data, END_OF_TIME, NO_TIME, Timestamp};
use crate::runtime::task::{Task, TaskContext};

/// How often watermarks are sent at most, while records come: a millisecond figure, as Flink's
/// `pipeline.auto-watermark-interval`.
const WATERMARK_INTERVAL_MS: Timestamp = 200;

/// Says from the times of the records so far up to which time no more will come.
pub trait WatermarkGenerator<T>: Clone + Send + Sync + 'static {
    /// Takes a record with its time; an answer is sent at once.
    fn on_record(&mut self, record: &T, time: Timestamp) -> Option<Timestamp>;

    /// The watermark that is sent now and then; none while nothing is known.
    fn on_interval(&mut self) -> Option<Timestamp>;
}

/// Records are at most this much out of order.
#[derive(Debug, Clone, Copy)]
pub struct BoundedOutOfOrderness {
    bound_ms: Timestamp,
    latest: Option<Timestamp>,
}

impl BoundedOutOfOrderness {
    /// A record comes at most `bound` (whole milliseconds) after one with a later time.
    #[must_use]
    pub fn new(bound: Duration) -> Self {
        Self { bound_ms: Timestamp::try_from(bound.as_millis()).unwrap_or(Timestamp::MAX), latest: None }
    }
}

impl<T> WatermarkGenerator<T> for BoundedOutOfOrderness {
    #[inline(always)]
    fn on_record(&mut self, _record: &T, time: Timestamp) -> Option<Timestamp> {
        self.latest = self.latest.max(Some(time));
        None
    }

    fn on_interval(&mut self) -> Option<Timestamp> {
        // Another record of the latest time may come.
        self.latest.map(|latest| latest.saturating_sub(self.bound_ms).saturating_sub(1))
    }
}

/// A pipe whose records are given event times, and watermarks.
pub struct AssignTimestamps<P, F, G> {
    upstream: P,
    assigner: F,
    generator: G,
    /// Milliseconds without a record after which the stream counts as idle.
    idle_after_ms: Option<Timestamp>,
    operator: OperatorIndex,
}

impl<P, F, G> AssignTimestamps<P, F, G> {
    /// Times by `assigner`, watermarks by `generator`.
    pub fn new(upstream: P, (assigner, generator): (F, G), idle: Option<Duration>, operator: OperatorIndex) -> Self {
        let idle_after_ms = idle.map(|idle| Timestamp::try_from(idle.as_millis()).unwrap_or(Timestamp::MAX));
        Self { upstream, assigner, generator, idle_after_ms, operator }
    }
}

impl<P: Pipe, F, G: WatermarkGenerator<P::Out>> Pipe for AssignTimestamps<P, F, G>
where
    F: FnMut(&P::Out, Timestamp) -> Timestamp + Clone + Send + Sync + 'static,
{
    type Out = P::Out;
    type Placed = AssignTimestamps<Upstream<P>, F, G>;

    fn fuse<N: Push<P::Out> + 'static>(&self, next: N, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        let mut operator = AssignTimestampsOperator {
            assigner: self.assigner.clone(),
            generator: self.generator.clone(),
            idle_after_ms: self.idle_after_ms,
            sent: Timestamp::MIN,
            seen: false,
            last_record: context.processing_time(),
            next_look: Timestamp::MIN,
            idle: false,
            // In batch mode all that matters is that the end comes.
            periodic: context.mode() == RuntimeMode::Streaming,
            operator: context.operator_name(self.operator),
            next,
            context: context.clone(),
        };
        if operator.periodic {
            operator.sleep();
        }
        self.upstream.fuse(operator, context)
    }

    fn place(self, placement: &mut Placement<'_>) -> Self::Placed {
        let Self { upstream, assigner, generator, idle_after_ms, operator } = self;
        AssignTimestamps { upstream: placement.after(upstream), assigner, generator, idle_after_ms, operator }
    }
}

struct AssignTimestampsOperator<F, G, N> {
    assigner: F,
    generator: G,
    idle_after_ms: Option<Timestamp>,
    /// The last watermark that was sent.
    sent: Timestamp,
    /// Whether a record came since the last look at the clock.
    seen: bool,
    /// When the clock was looked at and a record had come.
    last_record: Timestamp,
    /// When the clock is looked at next: others in the chain may have it looked at sooner.
    next_look: Timestamp,
    idle: bool,
    periodic: bool,
    operator: Rc<str>,
    next: N,
    context: TaskContext,
}

impl<F, G, N> AssignTimestampsOperator<F, G, N> {
    fn sleep(&mut self) {
        let interval = self.idle_after_ms.map_or(WATERMARK_INTERVAL_MS, |idle| WATERMARK_INTERVAL_MS.min(idle.max(1)));
        self.next_look = self.context.processing_time().saturating_add(interval);
        self.context.wake_at(self.next_look);
    }

    fn send<T>(&mut self, watermark: Timestamp) -> Result<(), Stopped>
    where
        N: Push<T>,
    {
        if watermark <= self.sent {
            return Ok(());
        }
        self.sent = watermark;
        self.next.control(Control::Watermark(watermark))
    }

    #[cold]
    fn refuse(&self) -> Stopped {
        let message = "assign event time: i64::MIN stands for \"no time\"; give the record a later one".to_owned();
        self.context.fail(self.context.failure(FailureKind::InvalidInput, Some(&self.operator), message))
    }

    /// Looks at the clock: sends what is due, and notices that nothing has come for long.
    fn on_interval<T>(&mut self, now: Timestamp) -> Result<(), Stopped>
    where
        G: WatermarkGenerator<T>,
        N: Push<T>,
    {
        if std::mem::take(&mut self.seen) {
            self.last_record = now;
        }
        let generator = &mut self.generator;
        if let Some(watermark) = blame(&self.operator, || generator.on_interval()) {
            self.send(watermark)?;
        }
        let silent = now.saturating_sub(self.last_record);
        if !self.idle && self.idle_after_ms.is_some_and(|limit| silent >= limit) {
            self.idle = true;
            self.next.control(Control::Idle)?;
        }
        self.sleep();
        Ok(())
    }
}

impl<T, F, G, N> Push<T> for AssignTimestampsOperator<F, G, N>
where
    T: Data,
    F: FnMut(&T, Timestamp) -> Timestamp,
    G: WatermarkGenerator<T>,
    N: Push<T>,
{
    #[inline(always)]
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        let (assigner, generator) = (&mut self.assigner, &mut self.generator);
        let (time, watermark) = blame_on(&self.operator, &record, || {
            let time = assigner(&record, time);
            (time, generator.on_record(&record, time))
        });
        if time == NO_TIME {
            return Err(self.refuse());
        }
        self.seen = true;
        if self.idle {
            self.idle = false;
            self.next.control(Control::Active)?;
        }
        self.next.push(record, time)?;
        watermark.map_or(Ok(()), |watermark| self.send(watermark))
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        match control {
            // What upstream says of time is overruled, except that it has ended.
            Control::Watermark(END_OF_TIME) => self.send(END_OF_TIME),
            Control::Watermark(_) | Control::Idle | Control::Active => Ok(()),
            Control::ProcessingTime(now) => {
                if self.periodic && now >= self.next_look {
                    self.on_interval(now)?;
                } else if self.periodic {
                    self.context.wake_at(self.next_look);
                }
                self.next.control(control)
            }
            Control::Barrier(_) | Control::EndOfInput | Control::Completed(_) | Control::FinishedBefore => {
                self.next.control(control)
            }
        }
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.next.flush()
    }
}
