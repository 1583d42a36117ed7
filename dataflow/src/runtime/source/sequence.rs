//! A source of numbers, at a given rate or as fast as they are taken.

use super::Source;
use crate::engine::pace::Pace;
use crate::push::{Push, Stopped};
use crate::runtime::clock::Stopwatch;
use crate::runtime::task::TaskContext;

/// How many numbers are emitted between two looks into the mailbox.
const NUMBERS_PER_POLL: u64 = 1024;

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

impl Source for SequenceSource {
    type Out = u64;

    fn run<N: Push<u64>>(&mut self, next: &mut N, context: &TaskContext) -> Result<(), Stopped> {
        let (subtask, parallelism) = (context.subtask().0, context.parallelism());
        let (share, step) = (self.share(subtask, parallelism), u64::from(parallelism));
        let pace = self.per_second.map(|per_second| Pace::new(per_second, parallelism));
        let watch = Stopwatch::start();
        let mut number = self.start.saturating_add(u64::from(subtask));
        let mut emitted = 0u64;
        while emitted < share {
            context.poll()?;
            let due = pace.map_or(u64::MAX, |pace| pace.due(watch.elapsed())).min(share);
            let until = due.min(emitted + NUMBERS_PER_POLL);
            if let (true, Some(pace)) = (until <= emitted, pace) {
                next.flush()?;
                context.wait(pace.due_at(emitted).saturating_sub(watch.elapsed()))?;
                continue;
            }
            context.count_in(until - emitted);
            for _ in emitted..until {
                next.push(number)?;
                number = number.wrapping_add(step);
            }
            emitted = until;
        }
        Ok(())
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
