//! Into which byte ranges files are cut for parallel reading.

use std::ops::Range;

/// How many ranges there are for each reader, where files are large enough: those who are quick take more.
const RANGES_PER_READER: u128 = 8;

/// The shortest and the longest range: opening a file should cost little beside reading it, and a reader that is slow
/// should not hold much of the work.
const RANGE_BYTES: (u128, u128) = (4 * 1024, 64 * 1024 * 1024);

/// For each file (by its index) the byte ranges in which the lines of a split *begin*, in order.
#[must_use]
pub fn ranges(file_lengths: &[u64], readers: u32) -> Vec<(usize, Range<u64>)> {
    let total: u128 = file_lengths.iter().map(|&length| u128::from(length)).sum();
    let wanted = total.div_ceil(RANGES_PER_READER * u128::from(readers.max(1)));
    let bytes = u64::try_from(wanted.clamp(RANGE_BYTES.0, RANGE_BYTES.1)).unwrap_or(u64::MAX);
    let mut ranges = Vec::new();
    for (index, &length) in file_lengths.iter().enumerate() {
        // Equal parts, so that the last one is not tiny.
        let parts = length.div_ceil(bytes);
        let cut = |part: u64| {
            let position = u128::from(length) * u128::from(part) / u128::from(parts);
            u64::try_from(position).expect("within a file of u64 length")
        };
        ranges.extend((0..parts).map(|part| (index, cut(part)..cut(part + 1))));
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_belongs_to_one_range() {
        for lengths in [vec![], vec![0], vec![10], vec![3, 0, 7, 1], vec![1_000_003, 5, 4096, 4097]] {
            for readers in 1..6 {
                let mut next: Vec<u64> = vec![0; lengths.len()];
                for (file, range) in ranges(&lengths, readers) {
                    assert_eq!(range.start, next[file], "{lengths:?} / {readers}");
                    assert!(range.end > range.start);
                    next[file] = range.end;
                }
                assert_eq!(next, lengths, "{readers}");
            }
        }
    }

    #[test]
    fn a_large_file_is_cut_into_several_ranges_for_each_reader_and_none_is_huge() {
        assert_eq!(ranges(&[1 << 20], 2).len(), 16);
        assert_eq!(ranges(&[100], 8).len(), 1);
        assert!(ranges(&[u64::MAX / 1_000_000], 1).iter().all(|(_, range)| range.end - range.start <= 64 << 20));
    }
}
