//! How many records a rate-limited source owes by now.

use std::time::Duration;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// The pace of one sub-task of a source with a rate for all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    per_second: u64,
    parallelism: u32,
}

impl Pace {
    /// `per_second` records among `parallelism` sub-tasks; a rate of 0 counts as 1.
    #[must_use]
    pub fn new(per_second: u64, parallelism: u32) -> Self {
        Self { per_second: per_second.max(1), parallelism: parallelism.max(1) }
    }

    /// How many records are due in all, `elapsed` after the start: the first one at once.
    #[must_use]
    pub fn due(self, elapsed: Duration) -> u64 {
        let due =
            elapsed.as_nanos() * u128::from(self.per_second) / (NANOS_PER_SECOND * u128::from(self.parallelism)) + 1;
        u64::try_from(due).unwrap_or(u64::MAX)
    }

    /// How long after the start the record of this number, from 0, is due.
    #[must_use]
    pub fn due_at(self, number: u64) -> Duration {
        let nanos = (u128::from(number) * u128::from(self.parallelism) * NANOS_PER_SECOND)
            .div_ceil(u128::from(self.per_second));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_due_exactly_at_its_time() {
        for (per_second, parallelism) in [(1, 1), (3, 2), (1_000_000, 7), (7, 1000)] {
            let pace = Pace::new(per_second, parallelism);
            for number in [0u64, 1, 2, 10, 12_345] {
                let at = pace.due_at(number);
                assert!(pace.due(at) > number, "{per_second}/{parallelism}: {number}");
                if let Some(before) = at.checked_sub(Duration::from_nanos(1)) {
                    assert!(pace.due(before) <= number, "{per_second}/{parallelism}: {number}");
                }
            }
        }
    }
}
