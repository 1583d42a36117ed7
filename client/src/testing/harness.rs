//! One input, one output, and the side outputs of the last operator.

use tidemill_dataflow::record::Data;

use super::{TestEvent, TestInput, TestJob, TestOutput, TestStream};
use crate::stream::{DataStream, StreamEnd};
use crate::{Error, OutputTag, Pipe, RuntimeMode};

/// An operator or pipeline with one input and one output, under a test's control.
///
/// A failure of the job is the error of the call that caused it.
///
/// ```
/// use tidemill::testing::{TestHarness, TestStream};
/// use tidemill::{Collector, KeyedContext, Timer, UserError};
///
/// /// Says when a key has been silent for a second.
/// #[derive(Clone)]
/// struct Silence;
///
/// impl tidemill::KeyedProcessFunction<u64, u64> for Silence {
///     type Out = String;
///
///     fn process(
///         &mut self, _: u64, context: &mut KeyedContext<'_, u64>, _: &mut Collector<String>,
///     ) -> Result<(), UserError> {
///         let time = context.processing_time() + 1_000;
///         context.set_processing_timer(time);
///         Ok(())
///     }
///
///     fn on_timer(
///         &mut self, timer: Timer, context: &mut KeyedContext<'_, u64>, out: &mut Collector<String>,
///     ) -> Result<(), UserError> {
///         out.emit(format!("{} is silent at {}", context.key(), timer.time));
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<(), tidemill::Error> {
/// let mut harness = TestHarness::new(|keys: TestStream<u64>| keys.key_by(|key| *key).process(Silence))?;
/// harness.push(7, None)?;
/// harness.set_processing_time(999)?;
/// assert_eq!(harness.records(), Vec::<String>::new());
/// harness.set_processing_time(1_000)?;
/// assert_eq!(harness.records(), ["7 is silent at 1000"]);
/// # Ok(())
/// # }
/// ```
pub struct TestHarness<T, U> {
    job: TestJob,
    input: TestInput<T>,
    end: StreamEnd,
    output: TestOutput<U>,
}

impl<T: Data, U: Data> TestHarness<T, U> {
    /// The harness of what `pipeline` makes of its input, in streaming mode.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use tidemill::testing::{TestHarness, TestStream};
    ///
    /// let mut harness = TestHarness::new(|numbers: TestStream<u64>| numbers.filter(|number| number % 2 == 0))?;
    /// harness.push(1, None)?;
    /// harness.push(2, None)?;
    /// assert_eq!(harness.records(), [2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`TestJob::new`]'s.
    pub fn new<P: Pipe<Out = U>>(pipeline: impl FnOnce(TestStream<T>) -> DataStream<P>) -> Result<Self, Error> {
        Self::with_runtime_mode(RuntimeMode::Streaming, pipeline)
    }

    /// The harness in this mode.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use tidemill::RuntimeMode;
    /// use tidemill::testing::{TestHarness, TestStream};
    ///
    /// let count = |numbers: TestStream<u64>| numbers.key_by(|_| ()).count();
    /// let mut harness = TestHarness::with_runtime_mode(RuntimeMode::Batch, count)?;
    /// harness.push(5, None)?;
    /// harness.push(6, None)?;
    /// harness.end_input()?;
    /// assert_eq!(harness.records(), [((), 2)]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`TestJob::new`]'s.
    pub fn with_runtime_mode<P: Pipe<Out = U>>(
        mode: RuntimeMode,
        pipeline: impl FnOnce(TestStream<T>) -> DataStream<P>,
    ) -> Result<Self, Error> {
        let mut job = TestJob::new()?.with_runtime_mode(mode);
        let (input, stream) = job.input();
        let (end, output) = job.end(pipeline(stream));
        Ok(Self { job, input, end, output })
    }

    /// A side output of the pipeline's last operator; to be asked for before anything is fed.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use tidemill::testing::{TestHarness, TestStream};
    /// use tidemill::{Collector, OutputTag, ProcessContext, UserError};
    ///
    /// #[derive(Clone)]
    /// struct OddAside(OutputTag<u64>);
    ///
    /// impl tidemill::ProcessFunction<u64> for OddAside {
    ///     type Out = u64;
    ///
    ///     fn process(
    ///         &mut self, number: u64, context: &mut ProcessContext<'_>, out: &mut Collector<u64>,
    ///     ) -> Result<(), UserError> {
    ///         if number % 2 == 0 { out.emit(number) } else { context.output(&self.0, number) }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let tag = OutputTag::new("odd");
    /// let function = OddAside(tag.clone());
    /// let mut harness = TestHarness::new(|numbers: TestStream<u64>| numbers.process(function))?;
    /// let odd = harness.side_output(&tag);
    /// harness.push(1, None)?;
    /// harness.push(2, None)?;
    /// assert_eq!((harness.records(), odd.records()), (vec![2], vec![1]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// Something was fed already.
    pub fn side_output<S: Data>(&mut self, tag: &OutputTag<S>) -> TestOutput<S> {
        let side = self.job.environment.side_output_at(&self.end, tag);
        self.job.output(side)
    }

    /// Feeds a record, with its event time if it has one.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # use tidemill::testing::{TestEvent, TestHarness, TestStream};
    /// let mut harness = TestHarness::new(|numbers: TestStream<u64>| numbers.map(|number| number + 1))?;
    /// harness.push(1, 1_000)?;
    /// harness.push(2, None)?;
    /// assert_eq!(harness.events(), [TestEvent::Record(2, Some(1_000)), TestEvent::Record(3, None)]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`TestJob::push`]'s.
    pub fn push(&mut self, record: T, time: impl Into<Option<i64>>) -> Result<(), Error> {
        self.job.push(&self.input, record, time)
    }

    /// Feeds a watermark: no record with a time up to this one will come.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # use tidemill::testing::{TestEvent, TestHarness, TestStream};
    /// let mut harness = TestHarness::new(|numbers: TestStream<u64>| numbers.map(|number| number + 1))?;
    /// harness.watermark(5)?;
    /// assert_eq!(harness.watermarks(), [5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`TestJob::push`]'s.
    pub fn watermark(&mut self, time: i64) -> Result<(), Error> {
        self.job.watermark(&self.input, time)
    }

    /// Says that nothing comes for an unknown time.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # use tidemill::testing::{TestEvent, TestHarness, TestStream};
    /// let mut harness = TestHarness::new(|numbers: TestStream<u64>| numbers.map(|number| number + 1))?;
    /// harness.idle()?;
    /// assert_eq!(harness.events(), [TestEvent::Idle]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`TestJob::push`]'s.
    pub fn idle(&mut self) -> Result<(), Error> {
        self.job.idle(&self.input)
    }

    /// Takes [`idle`](Self::idle) back.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # use tidemill::testing::{TestEvent, TestHarness, TestStream};
    /// let mut harness = TestHarness::new(|numbers: TestStream<u64>| numbers.map(|number| number + 1))?;
    /// harness.idle()?;
    /// harness.active()?;
    /// assert_eq!(harness.events(), [TestEvent::Idle, TestEvent::Active]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`TestJob::push`]'s.
    pub fn active(&mut self) -> Result<(), Error> {
        self.job.active(&self.input)
    }

    /// Ends the input as a bounded source does: with the last of all watermarks, and the end.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # use tidemill::testing::{TestEvent, TestHarness, TestStream};
    /// let mut harness = TestHarness::new(|numbers: TestStream<u64>| numbers.map(|number| number + 1))?;
    /// harness.end_input()?;
    /// assert_eq!(harness.events(), [TestEvent::Watermark(i64::MAX), TestEvent::EndOfInput]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`TestJob::push`]'s.
    pub fn end_input(&mut self) -> Result<(), Error> {
        self.job.end_input(&self.input)
    }

    /// Sets the clock that processing time is taken from, in milliseconds; what is due happens before it returns.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # use tidemill::testing::{TestEvent, TestHarness, TestStream};
    /// let mut harness = TestHarness::new(|numbers: TestStream<u64>| numbers.map(|number| number + 1))?;
    /// harness.set_processing_time(60_000)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`TestJob::push`]'s.
    pub fn set_processing_time(&mut self, time: i64) -> Result<(), Error> {
        self.job.set_processing_time(time)
    }

    /// Everything that came out since the last [`take_events`](Self::take_events), in order.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # use tidemill::testing::{TestEvent, TestHarness, TestStream};
    /// let mut harness = TestHarness::new(|numbers: TestStream<u64>| numbers.map(|number| number + 1))?;
    /// harness.push(1, None)?;
    /// harness.watermark(5)?;
    /// assert_eq!(harness.events(), [TestEvent::Record(2, None), TestEvent::Watermark(5)]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn events(&self) -> Vec<TestEvent<U>> {
        self.output.events()
    }

    /// The records among the [`events`](Self::events).
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # use tidemill::testing::{TestEvent, TestHarness, TestStream};
    /// let mut harness = TestHarness::new(|numbers: TestStream<u64>| numbers.map(|number| number + 1))?;
    /// harness.push(1, None)?;
    /// assert_eq!(harness.records(), [2]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn records(&self) -> Vec<U> {
        self.output.records()
    }

    /// The watermarks among the [`events`](Self::events).
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # use tidemill::testing::{TestEvent, TestHarness, TestStream};
    /// let mut harness = TestHarness::new(|numbers: TestStream<u64>| numbers.map(|number| number + 1))?;
    /// harness.watermark(5)?;
    /// assert_eq!(harness.watermarks(), [5]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn watermarks(&self) -> Vec<i64> {
        self.output.watermarks()
    }

    /// Takes what came out since the last call.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # use tidemill::testing::{TestEvent, TestHarness, TestStream};
    /// let mut harness = TestHarness::new(|numbers: TestStream<u64>| numbers.map(|number| number + 1))?;
    /// harness.push(1, None)?;
    /// assert_eq!(harness.take_events().len(), 1);
    /// assert_eq!(harness.take_events().len(), 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn take_events(&self) -> Vec<TestEvent<U>> {
        self.output.take_events()
    }
}
