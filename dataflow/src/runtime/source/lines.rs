//! The lines of a file that begin in a byte range.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

/// How much is read at a time.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// The longest line: a bound on what a file without line ends can make a task hold.
pub const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What a look for the next line found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its end.
    Complete,
    /// The beginning of a line that is too long; its rest is left out.
    TooLong,
    /// No further line begins in the range.
    End,
}

/// The lines of one file that begin in a byte range.
pub(super) struct Lines {
    reader: BufReader<File>,
    /// Where the next line begins.
    position: u64,
    /// The number of the next line, from 1; none: the range begins within the file, so nobody has counted.
    number: Option<u64>,
    end: u64,
    bytes_max: u64,
}

impl Lines {
    pub(super) fn open(path: &Path, range: Range<u64>, bytes_max: u64) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, File::open(path)?);
        let mut position = range.start;
        if range.start > 0 {
            // A line begins at the start exactly when the byte before is a line end; else it belongs to the one before.
            reader.seek(SeekFrom::Start(range.start - 1))?;
            position = range.start - 1 + u64::try_from(reader.skip_until(b'\n')?).unwrap_or(u64::MAX);
        }
        Ok(Self { reader, position, number: (range.start == 0).then_some(1), end: range.end, bytes_max })
    }

    /// Where the next line begins.
    #[inline]
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The number of the next line.
    pub(super) fn number(&self) -> Option<u64> {
        self.number
    }

    /// How long a line may be.
    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// The bytes in which further lines begin.
    pub(super) fn rest(&self) -> Range<u64> {
        self.position..self.end.max(self.position)
    }

    /// Appends the next line to `line`.
    #[inline]
    pub(super) fn next_line(&mut self, line: &mut Vec<u8>) -> io::Result<Line> {
        if self.position >= self.end {
            return Ok(Line::End);
        }
        let length = self.reader.by_ref().take(self.bytes_max).read_until(b'\n', line)?;
        if length == 0 {
            return Ok(Line::End);
        }
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        self.position += length;
        self.number = self.number.map(|number| number + 1);
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        } else if length >= self.bytes_max {
            self.position += u64::try_from(self.reader.skip_until(b'\n')?).unwrap_or(u64::MAX);
            return Ok(Line::TooLong);
        }
        Ok(Line::Complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn lines(path: &Path, range: Range<u64>, bytes_max: u64) -> Vec<(Line, String)> {
        let mut lines = Lines::open(path, range, bytes_max).unwrap();
        let next = || {
            let mut line = Vec::new();
            let found = lines.next_line(&mut line).unwrap();
            (found != Line::End).then(|| (found, String::from_utf8(line).unwrap()))
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn every_line_is_read_once_wherever_the_file_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        for text in ["", "a", "a\n", "\n\n", "one\r\ntwo\n\nthree", "one\ntwo\nthree\n"] {
            fs::write(&path, text).unwrap();
            let length = text.len() as u64;
            let whole: Vec<_> = text.lines().map(|line| (Line::Complete, line.to_owned())).collect();
            for cut in 0..=length {
                let mut parts = lines(&path, 0..cut, 100);
                parts.extend(lines(&path, cut..length, 100));
                assert_eq!(parts, whole, "{text:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn reading_goes_on_where_it_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        let mut first = Lines::open(&path, 0..14, 100).unwrap();
        first.next_line(&mut Vec::new()).unwrap();
        assert_eq!(first.number(), Some(2));
        let left: Vec<_> = lines(&path, first.rest(), 100).into_iter().map(|(_, line)| line).collect();
        assert_eq!(left, ["two", "three"]);
    }

    #[test]
    fn a_line_that_is_too_long_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(&path, "abcdefgh\nij\nklmnopqr").unwrap();
        let expected = [(Line::TooLong, "abcd".into()), (Line::Complete, "ij".into()), (Line::TooLong, "klmn".into())];
        assert_eq!(lines(&path, 0..20, 4), expected);
    }
}
