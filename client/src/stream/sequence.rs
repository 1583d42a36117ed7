//! `generate_sequence`: consecutive numbers, at a given rate or as fast as they are taken.

use std::ops::{Range, RangeFrom};

use tidemill_dataflow::pipe::FromSource;
use tidemill_dataflow::runtime::source::SequenceSource;

use super::DataStream;
use crate::environment::Environment;

/// A range of numbers, with or without an end.
///
/// ```
/// use tidemill::SequenceRange;
///
/// assert_eq!(SequenceRange::from(3..5), SequenceRange { start: 3, end: Some(5) });
/// assert_eq!(SequenceRange::from(3..), SequenceRange { start: 3, end: None });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceRange {
    /// The first number.
    pub start: u64,
    /// The number behind the last; none: without end.
    pub end: Option<u64>,
}

impl From<Range<u64>> for SequenceRange {
    fn from(range: Range<u64>) -> Self {
        Self { start: range.start, end: Some(range.end) }
    }
}

impl From<RangeFrom<u64>> for SequenceRange {
    fn from(range: RangeFrom<u64>) -> Self {
        Self { start: range.start, end: None }
    }
}

impl Environment {
    /// A stream of the numbers of `range`: sub-task p of P emits `start + p`, `start + p + P` and so on, in order.
    ///
    /// With a rate, so many records a second are emitted by all sub-tasks together. A range without end makes an
    /// endless job, which runs in streaming mode.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let numbers = env.generate_sequence(0..1000, Some(1_000_000)).collect();
    /// assert_eq!(env.execute("sequence")?.collected(&numbers)?.len(), 1000);
    /// # Ok(())
    /// # }
    /// ```
    pub fn generate_sequence(
        &self,
        range: impl Into<SequenceRange>,
        records_per_second: Option<u64>,
    ) -> DataStream<FromSource<SequenceSource>> {
        let SequenceRange { start, end } = range.into();
        let parameters = vec![format!("from {start} to {end:?} at {records_per_second:?}/s")];
        let source = SequenceSource::new(start, end, records_per_second);
        let stream = self.source("Source: sequence", parameters, |_| source);
        if end.is_none() {
            self.build(|builder| builder.mark_unbounded(stream.operator));
        }
        stream
    }
}
