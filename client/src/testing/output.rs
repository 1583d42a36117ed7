//! What came out of a job under test.

use tidemill_dataflow::harness::{Observations, TestEvent};

/// What came out of one stream of a job under test.
///
/// ```
/// # fn main() -> Result<(), tidemill::Error> {
/// use tidemill::testing::{TestEvent, TestJob};
///
/// let mut job = TestJob::new()?;
/// let (numbers, stream) = job.input::<u64>();
/// let even = job.output(stream.filter(|number| number % 2 == 0));
/// job.push(&numbers, 1, 10)?;
/// job.push(&numbers, 2, 20)?;
/// assert_eq!(even.events(), [TestEvent::Record(2, Some(20))]);
/// # Ok(())
/// # }
/// ```
pub struct TestOutput<T> {
    pub(super) observations: Observations<T>,
}

impl<T: Clone> TestOutput<T> {
    /// Everything since the last [`take_events`](Self::take_events), in order.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let mut job = tidemill::testing::TestJob::new()?;
    /// # let (numbers, stream) = job.input::<u64>();
    /// let output = job.output(stream);
    /// job.watermark(&numbers, 5)?;
    /// assert_eq!(output.events(), [tidemill::testing::TestEvent::Watermark(5)]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn events(&self) -> Vec<TestEvent<T>> {
        self.observations.events().clone()
    }

    /// The records among the [`events`](Self::events).
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let mut job = tidemill::testing::TestJob::new()?;
    /// # let (numbers, stream) = job.input::<u64>();
    /// let output = job.output(stream.map(|number| number + 1));
    /// job.push(&numbers, 1, None)?;
    /// assert_eq!(output.records(), [2]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn records(&self) -> Vec<T> {
        records(&self.observations.events())
    }

    /// The watermarks among the [`events`](Self::events).
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let mut job = tidemill::testing::TestJob::new()?;
    /// # let (numbers, stream) = job.input::<u64>();
    /// let output = job.output(stream);
    /// job.watermark(&numbers, 5)?;
    /// job.end_input(&numbers)?;
    /// assert_eq!(output.watermarks(), [5, i64::MAX]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn watermarks(&self) -> Vec<i64> {
        let time = |event: &TestEvent<T>| match event {
            TestEvent::Watermark(time) => Some(*time),
            TestEvent::Record(..) | TestEvent::Idle | TestEvent::Active | TestEvent::EndOfInput => None,
        };
        self.observations.events().iter().filter_map(time).collect()
    }

    /// Takes what came since the last call.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let mut job = tidemill::testing::TestJob::new()?;
    /// # let (numbers, stream) = job.input::<u64>();
    /// let output = job.output(stream);
    /// job.push(&numbers, 1, None)?;
    /// assert_eq!(output.take_events().len(), 1);
    /// assert_eq!(output.take_events().len(), 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn take_events(&self) -> Vec<TestEvent<T>> {
        self.observations.take()
    }
}

fn records<T: Clone>(events: &[TestEvent<T>]) -> Vec<T> {
    let record = |event: &TestEvent<T>| match event {
        TestEvent::Record(record, _) => Some(record.clone()),
        TestEvent::Watermark(_) | TestEvent::Idle | TestEvent::Active | TestEvent::EndOfInput => None,
    };
    events.iter().filter_map(record).collect()
}
