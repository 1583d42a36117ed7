//! A source of numbers, at a given rate or as fast as they are taken.

use tidemill_model::execution::Failure;

use super::{PlainReader, PlainSource, Reading};
use crate::engine::pace::Pace;
use crate::push::{Push, Stopped};
use crate::record::NO_TIME;
use crate::runtime::clock::Stopwatch;
use crate::runtime::task::TaskContext;

/// How many numbers are emitted at a time.
const NUMBERS_PER_READ: u64 = 1024;

/// How many are emitted between two looks whether the task has something else to do: what follows in the chain may take
/// long for each.
const NUMBERS_PER_LOOK: u64 = 64;

/// Emits the numbers of a range in order: sub-task p of P takes `start + p`, `start + p + P` and so on.
#[derive(Debug, Clone)]
pub struct SequenceSource {
    start: u64,
    /// None: without end.
    end: Option<u64>,
    per_second: Option<u64>,
}

impl SequenceSource {
    /// Numbers from `start` to before `end`, `per_second` of them among all sub-tasks.
    #[must_use]
    pub fn new(start: u64, end: Option<u64>, per_second: Option<u64>) -> Self {
        Self { start, end, per_second }
    }

    /// How many numbers a sub-task has.
    fn share(&self, subtask: u32, parallelism: u32) -> u64 {
        let first = self.start.saturating_add(u64::from(subtask));
        let left = self.end.unwrap_or(u64::MAX).saturating_sub(first);
        left.div_ceil(u64::from(parallelism))
    }
}

/// The numbers of one sub-task.
pub struct SequenceReader {
    number: u64,
    step: u64,
    emitted: u64,
    /// How many an earlier attempt had emitted: the pace counts from there.
    restored: u64,
    share: u64,
    pace: Option<Pace>,
    watch: Stopwatch,
}

impl PlainSource for SequenceSource {
    type Out = u64;
    type Reader = SequenceReader;

    fn open(&self, context: &TaskContext, position: Option<u64>) -> Result<SequenceReader, Failure> {
        let emitted = position.unwrap_or(0);
        let (subtask, parallelism) = (context.subtask().0, context.parallelism());
        Ok(SequenceReader {
            number: self
                .start
                .saturating_add(u64::from(subtask))
                .wrapping_add(emitted.wrapping_mul(u64::from(parallelism))),
            step: u64::from(parallelism),
            emitted,
            restored: emitted,
            share: self.share(subtask, parallelism),
            pace: self.per_second.map(|per_second| Pace::new(per_second, parallelism)),
            watch: Stopwatch::start(),
        })
    }
}

impl PlainReader<u64> for SequenceReader {
    type Position = u64;

    fn position(&self) -> u64 {
        self.emitted
    }

    fn read<N: Push<u64>>(&mut self, next: &mut N, context: &TaskContext) -> Result<Reading, Stopped> {
        if self.emitted >= self.share {
            return Ok(Reading::Ended);
        }
        let due = self.pace.map_or(u64::MAX, |pace| self.restored.saturating_add(pace.due(self.watch.elapsed())));
        let due = due.min(self.share);
        let until = due.min(self.emitted + NUMBERS_PER_READ);
        if let (true, Some(pace)) = (until <= self.emitted, self.pace) {
            return Ok(Reading::Wait(pace.due_at(self.emitted - self.restored).saturating_sub(self.watch.elapsed())));
        }
        while self.emitted < until && !context.has_mail() {
            let chunk = until.min(self.emitted + NUMBERS_PER_LOOK);
            context.count_in(chunk - self.emitted);
            let mut number = self.number;
            for _ in self.emitted..chunk {
                next.push(number, NO_TIME)?;
                number = number.wrapping_add(self.step);
            }
            self.number = number;
            self.emitted = chunk;
        }
        Ok(Reading::More)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_all_subtasks_make_the_range() {
        for (start, end) in [(0, 0), (5, 5), (0, 10), (3, 100), (7, 5)] {
            for parallelism in 1..5 {
                let source = SequenceSource::new(start, Some(end), None);
                let total: u64 = (0..parallelism).map(|subtask| source.share(subtask, parallelism)).sum();
                assert_eq!(total, end.saturating_sub(start), "{start}..{end} / {parallelism}");
            }
        }
    }
}
