//! How much of a batch a slow task processes before it looks at what else there is.

use std::time::Duration;

/// How long a piece is to take: a checkpoint that overtakes waits for the end of one.
const PIECE: Duration = Duration::from_millis(5);

/// The size of pieces, by how long the last one took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pieces {
    records: usize,
}

impl Default for Pieces {
    /// Nothing is known of the task yet.
    fn default() -> Self {
        Self { records: 128 }
    }
}

impl Pieces {
    /// How many records the next piece has at most.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// A piece of so many records took so long.
    pub fn took(&mut self, records: usize, time: Duration) {
        let wanted =
            PIECE.as_nanos().saturating_mul(u128::try_from(records).unwrap_or(u128::MAX)) / time.as_nanos().max(1);
        self.records = usize::try_from(wanted).unwrap_or(usize::MAX).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_slow_when_its_last_piece_took_long() {
        let mut pieces = Pieces::default();
        assert!(pieces.records() < 1024);
        pieces.took(1024, Duration::from_micros(20));
        assert!(pieces.records() > 1024);
        pieces.took(1024, Duration::from_millis(1024));
        assert_eq!(pieces.records(), 5);
        pieces.took(5, Duration::from_secs(60));
        assert_eq!(pieces.records(), 1);
        pieces.took(1, Duration::ZERO);
        assert!(pieces.records() > 1024);
    }
}
