//! Which byte range of which file a sub-task reads.

use std::ops::Range;

use tidemill_model::id::SubtaskIndex;

/// The share of one sub-task: for each file (by its index) the byte range in which its lines *begin*.
///
/// The files count as one long sequence of bytes, cut into `parallelism` equal parts.
#[must_use]
pub fn ranges(file_lengths: &[u64], subtask: SubtaskIndex, parallelism: u32) -> Vec<(usize, Range<u64>)> {
    let total: u128 = file_lengths.iter().map(|&length| u128::from(length)).sum();
    let cut = |index: u32| total * u128::from(index) / u128::from(parallelism);
    let share = cut(subtask.0)..cut(subtask.0 + 1);
    let mut start = 0u128;
    let mut ranges = Vec::new();
    for (index, &length) in file_lengths.iter().enumerate() {
        let end = start + u128::from(length);
        let (from, to) = (share.start.max(start), share.end.min(end));
        if from < to {
            let within = |position: u128| u64::try_from(position - start).expect("within a file of u64 length");
            ranges.push((index, within(from)..within(to)));
        }
        start = end;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_belongs_to_one_subtask() {
        for lengths in [vec![], vec![0], vec![10], vec![3, 0, 7, 1], vec![1, 1, 1]] {
            for parallelism in 1..6 {
                let mut owners: Vec<Vec<u32>> =
                    lengths.iter().map(|&length| vec![0; usize::try_from(length).unwrap()]).collect();
                for subtask in (0..parallelism).map(SubtaskIndex) {
                    for (file, range) in ranges(&lengths, subtask, parallelism) {
                        range.for_each(|byte| owners[file][usize::try_from(byte).unwrap()] += 1);
                    }
                }
                assert!(owners.iter().flatten().all(|&count| count == 1), "{lengths:?} / {parallelism}");
            }
        }
    }
}
