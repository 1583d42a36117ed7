//! `from_source`: sources that the user wrote.

use tidemill_dataflow::operator::WatermarkGenerator;
use tidemill_dataflow::runtime::source::{FromSplits, NoTimes, Source, WithTimes};

use super::{DataStream, WatermarkStrategy};
use crate::environment::Environment;

impl Environment {
    /// A stream of the records of a source of one's own.
    ///
    /// An enumerator finds the splits of the input, in a hidden sub-task of the job; each split goes to the sub-task
    /// with the fewest waiting. Event times that readers emit reach operators that need them, but no watermarks are
    /// sent: see [`from_source_with_watermarks`](Self::from_source_with_watermarks).
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use tidemill::{Boundedness, Discovery, Reading, Source, SourceOutput, SplitEnumerator, SplitReader, UserError};
    ///
    /// /// Numbers below a limit; a split is a number and where it ends.
    /// #[derive(Clone)]
    /// struct Numbers {
    ///     below: u64,
    /// }
    ///
    /// impl Source for Numbers {
    ///     type Out = u64;
    ///     type Split = (u64, u64);
    ///     type Enumerator = Tens;
    ///     type Reader = Count;
    ///
    ///     fn boundedness(&self) -> Boundedness {
    ///         Boundedness::Bounded
    ///     }
    ///
    ///     fn enumerator(&self, _readers: u32, restored: Option<u64>) -> Result<Tens, UserError> {
    ///         Ok(Tens { next: restored.unwrap_or(0), below: self.below })
    ///     }
    ///
    ///     fn reader(&self, (next, end): (u64, u64)) -> Result<Count, UserError> {
    ///         Ok(Count { next, end })
    ///     }
    /// }
    ///
    /// struct Tens {
    ///     next: u64,
    ///     below: u64,
    /// }
    ///
    /// impl SplitEnumerator for Tens {
    ///     type Split = (u64, u64);
    ///     type State = u64;
    ///
    ///     fn state(&self) -> u64 {
    ///         self.next
    ///     }
    ///
    ///     fn discover(&mut self) -> Result<Discovery<(u64, u64)>, UserError> {
    ///         if self.next >= self.below {
    ///             return Ok(Discovery::Done);
    ///         }
    ///         let split = (self.next, self.below.min(self.next + 10));
    ///         self.next = split.1;
    ///         Ok(Discovery::Splits(vec![split]))
    ///     }
    /// }
    ///
    /// struct Count {
    ///     next: u64,
    ///     end: u64,
    /// }
    ///
    /// impl SplitReader for Count {
    ///     type Out = u64;
    ///     type Split = (u64, u64);
    ///
    ///     fn read<O: SourceOutput<u64>>(&mut self, out: &mut O) -> Result<Reading, UserError> {
    ///         if self.next == self.end {
    ///             return Ok(Reading::Ended);
    ///         }
    ///         out.emit(self.next);
    ///         self.next += 1;
    ///         Ok(Reading::More)
    ///     }
    ///
    ///     fn split(&self) -> (u64, u64) {
    ///         (self.next, self.end)
    ///     }
    /// }
    ///
    /// # let env = tidemill::Environment::with_arguments(["-p", "2"])?;
    /// let numbers = env.from_source(Numbers { below: 95 }).name("Source: numbers").collect();
    /// # let mut numbers = env.execute("numbers")?.collected(&numbers)?;
    /// # numbers.sort();
    /// assert_eq!(numbers, (0..95).collect::<Vec<u64>>());
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_source<S: Source>(&self, source: S) -> DataStream<FromSplits<S, NoTimes>> {
        let stream = self.split_source("Source: custom", vec![source_type::<S>()], source, NoTimes);
        self.build(|builder| builder.mark_assigns_time(stream.operator));
        stream
    }

    /// A stream of the records of a source, with event times and watermarks that are made split by split.
    ///
    /// The watermark of a sub-task is the lowest of the splits that it reads at present: a split that lags behind
    /// holds others back, one that is idle does not. While splits that were found wait to be read, it stands still.
    /// Sources and splits that run ahead can be made to wait:
    /// [`with_alignment`](crate::WatermarkStrategy::with_alignment).
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// use std::time::Duration;
    /// use tidemill::{Boundedness, Discovery, Reading, Source, SourceOutput, SplitEnumerator, SplitReader};
    /// use tidemill::{UserError, WatermarkStrategy};
    ///
    /// /// A split is how many ticks are left.
    /// #[derive(Clone)]
    /// struct Ticks(Option<i64>);
    ///
    /// impl Source for Ticks {
    ///     type Out = i64;
    ///     type Split = i64;
    ///     type Enumerator = Self;
    ///     type Reader = Self;
    ///
    ///     fn boundedness(&self) -> Boundedness {
    ///         Boundedness::Unbounded
    ///     }
    ///
    ///     fn enumerator(&self, _readers: u32, restored: Option<Option<i64>>) -> Result<Self, UserError> {
    ///         Ok(Self(restored.unwrap_or(self.0)))
    ///     }
    ///
    ///     fn reader(&self, left: i64) -> Result<Self, UserError> {
    ///         Ok(Self(Some(left)))
    ///     }
    /// }
    ///
    /// impl SplitEnumerator for Ticks {
    ///     type Split = i64;
    ///     type State = Option<i64>;
    ///
    ///     fn state(&self) -> Option<i64> {
    ///         self.0
    ///     }
    ///
    ///     fn discover(&mut self) -> Result<Discovery<i64>, UserError> {
    ///         Ok(self.0.take().map_or(Discovery::Done, |left| Discovery::Splits(vec![left])))
    ///     }
    /// }
    ///
    /// impl SplitReader for Ticks {
    ///     type Out = i64;
    ///     type Split = i64;
    ///
    ///     fn read<O: SourceOutput<i64>>(&mut self, out: &mut O) -> Result<Reading, UserError> {
    ///         let Some(left) = self.0.filter(|left| *left > 0) else { return Ok(Reading::Ended) };
    ///         out.emit(1_000 - left);
    ///         self.0 = Some(left - 1);
    ///         Ok(Reading::More)
    ///     }
    ///
    ///     fn split(&self) -> i64 {
    ///         self.0.unwrap_or(0)
    ///     }
    /// }
    ///
    /// let strategy = WatermarkStrategy::monotonous(|tick: &i64| *tick).with_idleness(Duration::from_secs(10));
    /// let ticks = env.from_source_with_watermarks(Ticks(Some(100)), strategy).collect();
    /// assert_eq!(env.execute("ticks")?.collected(&ticks)?.len(), 100);
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_source_with_watermarks<S, F, G>(
        &self,
        source: S,
        strategy: WatermarkStrategy<F, G>,
    ) -> DataStream<FromSplits<S, WithTimes<F, G>>>
    where
        S: Source,
        F: FnMut(&S::Out) -> i64 + Clone + Send + Sync + 'static,
        G: WatermarkGenerator<S::Out>,
    {
        let (times, alignment) = strategy.per_split();
        let stream = self.split_source("Source: custom", vec![source_type::<S>()], source, times);
        if let Some(alignment) = alignment {
            self.build(|builder| builder.align_watermarks(stream.operator, alignment));
        }
        stream
    }
}

fn source_type<S>() -> String {
    format!("source {}", std::any::type_name::<S>())
}
