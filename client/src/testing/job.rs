//! A job with any number of inputs and outputs, under a test's control.

use tidemill_dataflow::flow::FlowBuilder;
use tidemill_dataflow::harness::{Bench, Error as HarnessError, Feeder, FromTest, Harness};
use tidemill_dataflow::record::Control;
use tidemill_dataflow::runtime::counter::Counters;

use super::TestOutput;
use crate::stream::{DataStream, StreamEnd};
use crate::{Data, Environment, Error, Pipe, RuntimeMode};

/// A stream of what a test feeds.
///
/// ```
/// use tidemill::testing::{TestHarness, TestStream};
/// use tidemill::{DataStream, Pipe};
///
/// fn doubled(numbers: TestStream<u64>) -> DataStream<impl Pipe<Out = u64>> {
///     numbers.map(|number| 2 * number)
/// }
///
/// # fn main() -> Result<(), tidemill::Error> {
/// let mut harness = TestHarness::new(doubled)?;
/// harness.push(4, None)?;
/// assert_eq!(harness.records(), [8]);
/// # Ok(())
/// # }
/// ```
pub type TestStream<T> = DataStream<FromTest<T>>;

/// Feeds one input of a [`TestJob`].
///
/// ```
/// # fn main() -> Result<(), tidemill::Error> {
/// let mut job = tidemill::testing::TestJob::new()?;
/// let (numbers, stream) = job.input::<u64>();
/// let output = job.output(stream);
/// job.push(&numbers, 7, None)?;
/// assert_eq!(output.records(), [7]);
/// # Ok(())
/// # }
/// ```
pub struct TestInput<T> {
    feeder: Feeder<T>,
}

/// What a job under test is: described, or at work.
enum Stage {
    Described(Bench),
    Running(Box<Harness>),
}

/// A job with any number of inputs and outputs, under a test's control.
///
/// It is described first: inputs, operators, outputs. The first call that feeds it starts it.
///
/// ```
/// # fn main() -> Result<(), tidemill::Error> {
/// use tidemill::testing::TestJob;
///
/// let mut job = TestJob::new()?;
/// let (numbers, number_stream) = job.input::<u64>();
/// let (words, word_stream) = job.input::<String>();
/// let both = number_stream.connect(word_stream).map(|number| number.to_string(), |word| word);
/// let both = job.output(both);
/// job.push(&numbers, 1, 10)?;
/// job.push(&words, "one".to_owned(), 10)?;
/// assert_eq!(both.records(), ["1", "one"]);
/// job.watermark(&numbers, 10)?;
/// assert!(both.watermarks().is_empty());
/// job.watermark(&words, 5)?;
/// assert_eq!(both.watermarks(), [5]);
/// # Ok(())
/// # }
/// ```
pub struct TestJob {
    pub(super) environment: Environment,
    mode: RuntimeMode,
    stage: Stage,
}

impl TestJob {
    /// A job without operators yet.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// let job = tidemill::testing::TestJob::new()?;
    /// # let _ = job;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Environment::with_arguments`]'s.
    pub fn new() -> Result<Self, Error> {
        let environment = Environment::with_arguments(["-p", "1"])?;
        Ok(Self { environment, mode: RuntimeMode::Streaming, stage: Stage::Described(Bench::default()) })
    }

    /// Sets whether aggregates give final results once (batch) or running updates (streaming, as they do by default).
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// let mut job = tidemill::testing::TestJob::new()?.with_runtime_mode(tidemill::RuntimeMode::Batch);
    /// let (numbers, stream) = job.input::<u64>();
    /// let counts = job.output(stream.key_by(|_| ()).count());
    /// job.push(&numbers, 1, None)?;
    /// job.push(&numbers, 2, None)?;
    /// assert_eq!(counts.records(), []);
    /// job.end_input(&numbers)?;
    /// assert_eq!(counts.records(), [((), 2)]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_runtime_mode(self, mode: RuntimeMode) -> Self {
        Self { mode, ..self }
    }

    fn bench(&mut self) -> &mut Bench {
        match &mut self.stage {
            Stage::Described(bench) => bench,
            Stage::Running(_) => panic!("describe the whole job before the first call that feeds it"),
        }
    }

    /// A further input, and the stream of what it is fed.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let mut job = tidemill::testing::TestJob::new()?;
    /// let (left, left_stream) = job.input::<u64>();
    /// let (right, right_stream) = job.input::<u64>();
    /// let both = job.output(left_stream.union(right_stream));
    /// job.push(&right, 2, None)?;
    /// job.push(&left, 1, None)?;
    /// assert_eq!(both.records(), [2, 1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// The job was fed already.
    pub fn input<T: Data>(&mut self) -> (TestInput<T>, TestStream<T>) {
        let (pipe, feeder) = self.bench().input();
        (TestInput { feeder }, self.environment.fed_stream(pipe))
    }

    /// Ends a stream in an output that shows what comes.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let mut job = tidemill::testing::TestJob::new()?;
    /// let (numbers, stream) = job.input::<u64>();
    /// let output = job.output(stream.map(|number| number * number));
    /// job.push(&numbers, 3, None)?;
    /// assert_eq!(output.records(), [9]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// The job was fed already.
    pub fn output<P: Pipe>(&mut self, stream: DataStream<P>) -> TestOutput<P::Out> {
        self.end(stream).1
    }

    pub(super) fn end<P: Pipe>(&mut self, stream: DataStream<P>) -> (StreamEnd, TestOutput<P::Out>) {
        let (sink, observations) = self.bench().output(stream.end_parallelism());
        (stream.observe(sink), TestOutput { observations })
    }

    fn running(&mut self) -> Result<&mut Harness, Error> {
        if let Stage::Described(bench) = &mut self.stage {
            let builder = FlowBuilder::new(Counters::default());
            let builder = self.environment.build(|described| std::mem::replace(described, builder));
            let flow = builder.build(self.mode)?;
            self.stage = Stage::Running(Box::new(Harness::start(flow, std::mem::take(bench))));
        }
        match &mut self.stage {
            Stage::Running(harness) => Ok(harness),
            Stage::Described(_) => unreachable!("it was started above"),
        }
    }

    fn run(&mut self, step: impl FnOnce(&mut Harness) -> Result<(), HarnessError>) -> Result<(), Error> {
        let harness = self.running()?;
        step(harness).map_err(|error| match error {
            HarnessError::Failed(failure) => Error::JobFailed { job: harness.job(), failure },
            HarnessError::Ended | HarnessError::Foreign | HarnessError::Stuck => Error::Test(error),
        })
    }

    /// Feeds a record, with its event time if it has one.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let mut job = tidemill::testing::TestJob::new()?;
    /// # let (numbers, stream) = job.input::<u64>();
    /// # let output = job.output(stream);
    /// job.push(&numbers, 1, 1_000)?;
    /// job.push(&numbers, 2, None)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The flow is not valid, the job has failed, or this input was ended.
    pub fn push<T: Data>(
        &mut self,
        input: &TestInput<T>,
        record: T,
        time: impl Into<Option<i64>>,
    ) -> Result<(), Error> {
        self.run(|harness| harness.push(&input.feeder, record, time.into()))
    }

    /// Feeds a watermark: no record with a time up to this one will come.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let mut job = tidemill::testing::TestJob::new()?;
    /// # let (numbers, stream) = job.input::<u64>();
    /// # let output = job.output(stream);
    /// job.watermark(&numbers, 1_000)?;
    /// # assert_eq!(output.watermarks(), [1_000]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`push`](Self::push)'s.
    pub fn watermark<T: Data>(&mut self, input: &TestInput<T>, time: i64) -> Result<(), Error> {
        self.run(|harness| harness.control(&input.feeder, Control::Watermark(time)))
    }

    /// Says that nothing comes for an unknown time, so that others need not wait for this input's watermarks.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let mut job = tidemill::testing::TestJob::new()?;
    /// # let (numbers, stream) = job.input::<u64>();
    /// # let output = job.output(stream);
    /// job.idle(&numbers)?;
    /// assert_eq!(output.events(), [tidemill::testing::TestEvent::Idle]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`push`](Self::push)'s.
    pub fn idle<T: Data>(&mut self, input: &TestInput<T>) -> Result<(), Error> {
        self.run(|harness| harness.control(&input.feeder, Control::Idle))
    }

    /// Takes [`idle`](Self::idle) back.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let mut job = tidemill::testing::TestJob::new()?;
    /// # let (numbers, stream) = job.input::<u64>();
    /// # let output = job.output(stream);
    /// job.idle(&numbers)?;
    /// job.active(&numbers)?;
    /// # assert_eq!(output.events().len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`push`](Self::push)'s.
    pub fn active<T: Data>(&mut self, input: &TestInput<T>) -> Result<(), Error> {
        self.run(|harness| harness.control(&input.feeder, Control::Active))
    }

    /// Ends an input as a bounded source does: with the last of all watermarks, and the end.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let mut job = tidemill::testing::TestJob::new()?;
    /// # let (numbers, stream) = job.input::<u64>();
    /// # let output = job.output(stream);
    /// use tidemill::testing::TestEvent;
    ///
    /// job.end_input(&numbers)?;
    /// assert_eq!(output.events(), [TestEvent::Watermark(i64::MAX), TestEvent::EndOfInput]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`push`](Self::push)'s.
    pub fn end_input<T: Data>(&mut self, input: &TestInput<T>) -> Result<(), Error> {
        self.run(|harness| harness.control(&input.feeder, Control::EndOfInput))
    }

    /// Sets the clock that processing time is taken from, in milliseconds; what is due happens before it returns.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let mut job = tidemill::testing::TestJob::new()?;
    /// # let (numbers, stream) = job.input::<u64>();
    /// # let output = job.output(stream);
    /// job.set_processing_time(60_000)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`push`](Self::push)'s.
    pub fn set_processing_time(&mut self, time: i64) -> Result<(), Error> {
        self.run(|harness| harness.set_processing_time(time))
    }
}
