//! Jobs of which every record is known: what goes in, what has to come out, and what came of it.
//!
//! A sequence has the numbers below a limit, dealt out to splits in turn. The job writes each number to one sink, and to
//! another one how often its key has come by then. Both commit with checkpoints.

pub mod conduct;
pub mod note;
pub mod record;
pub mod source;
mod watch;

use serde::{Deserialize, Serialize};

/// How many keys there are.
pub const KEYS: u64 = 2_000;
/// The folder of numbers, below the job's own.
pub const NUMBERS: &str = "numbers";
/// The folder of counts.
pub const COUNTS: &str = "counts";
/// The folder of what readers write down.
pub const NOTES: &str = "notes";
/// The file at which the job goes on at full speed.
pub const RELEASE: &str = "release";

/// One record: a number, and what shows that it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Numbered {
    /// The number.
    pub id: u64,
    /// [`check_of`] it.
    pub check: u32,
}

impl Numbered {
    /// The record of a number.
    #[must_use]
    pub fn new(id: u64) -> Self {
        Self { id, check: check_of(id) }
    }

    /// As it is written.
    #[must_use]
    pub fn line(self) -> String {
        format!("{} {:08x}", self.id, self.check)
    }

    /// Read back; none when it is no record, or damaged.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (id, check) = line.split_once(' ')?;
        let record = Self { id: id.parse().ok()?, check: u32::from_str_radix(check, 16).ok()? };
        (record.check == check_of(record.id)).then_some(record)
    }
}

/// One count: which number made it the how-manieth of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counted {
    /// The key.
    pub key: u64,
    /// How many of the key there were, this one included.
    pub count: u64,
    /// The number.
    pub id: u64,
}

impl Counted {
    /// As it is written.
    #[must_use]
    pub fn line(self) -> String {
        format!("{} {} {}", self.key, self.count, self.id)
    }

    /// Read back; none when it is no count, or one of another key than the number's.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split(' ').map(|number| number.parse::<u64>().ok());
        let counted = Self { key: numbers.next()??, count: numbers.next()??, id: numbers.next()?? };
        (numbers.next().is_none() && counted.key == key_of(counted.id)).then_some(counted)
    }
}

/// What shows that a number is whole.
#[must_use]
pub fn check_of(id: u64) -> u32 {
    u32::try_from(mixed(id) >> 32).unwrap_or(u32::MAX)
}

/// A number's key.
#[must_use]
pub fn key_of(id: u64) -> u64 {
    mixed(id) % KEYS
}

fn mixed(id: u64) -> u64 {
    id.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// The `offset`-th number of a split of so many.
#[must_use]
pub fn id_of(split: u64, offset: u64, splits: u64) -> u64 {
    offset * splits + split
}

/// Where a number lies: its split, and its place there.
#[must_use]
pub fn place_of(id: u64, splits: u64) -> (u64, u64) {
    (id % splits, id / splits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_back_and_damage_is_seen() {
        let record = Numbered::new(12_345);
        assert_eq!(Numbered::parse(&record.line()), Some(record));
        assert_eq!(Numbered::parse(&record.line()[1..]), None);
        let counted = Counted { key: key_of(7), count: 3, id: 7 };
        assert_eq!(Counted::parse(&counted.line()), Some(counted));
        assert_eq!(Counted::parse(&Counted { key: key_of(7) + 1, ..counted }.line()), None);
        assert_eq!(Counted::parse("1 2"), None);
    }

    #[test]
    fn the_splits_make_the_sequence() {
        let mut ids: Vec<u64> = (0..4).flat_map(|split| (0..25).map(move |offset| id_of(split, offset, 4))).collect();
        assert!(ids.iter().all(|&id| {
            let (split, offset) = place_of(id, 4);
            id_of(split, offset, 4) == id
        }));
        ids.sort_unstable();
        assert_eq!(ids, (0..100).collect::<Vec<_>>());
    }
}
