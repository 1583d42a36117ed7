//! A source of the lines of text files.

use std::io;

use tidemill_model::mutant::{self, Mutant};

use super::files::{FileEnumerator, FilesSeen};
use super::lines::{LINE_BYTES_MAX, Line, Lines};
use super::{Boundedness, FileSplit, FileSplits, Reading, Source, SourceOutput, SplitReader};
use crate::runtime::sink::UserError;

/// How many bytes of lines are emitted at a time.
pub(super) const BYTES_PER_READ: u64 = 64 * 1024;

/// Emits the lines of files without their line ends.
///
/// A line belongs to the split that it begins in. Splits are taken in the order of their files' paths; names that begin
/// with `.` or `_` are left out. Bytes that are no UTF-8 become U+FFFD. The files must not change during the job.
#[derive(Debug, Clone)]
pub struct TextSource {
    files: FileSplits,
}

impl TextSource {
    /// The source of the lines of these files.
    #[must_use]
    pub fn new(files: FileSplits) -> Self {
        Self { files }
    }
}

impl Source for TextSource {
    type Out = String;
    type Split = FileSplit;
    type Enumerator = FileEnumerator;
    type Reader = TextReader;

    fn boundedness(&self) -> Boundedness {
        self.files.boundedness()
    }

    fn open_splits_max(&self) -> usize {
        // Every open file takes a descriptor, and all of them end.
        1
    }

    fn enumerator(&self, readers: u32, restored: Option<FilesSeen>) -> Result<FileEnumerator, UserError> {
        Ok(self.files.enumerator(readers, restored))
    }

    fn reader(&self, split: FileSplit) -> Result<TextReader, UserError> {
        let lines = Lines::open(&split.path, split.range.clone(), LINE_BYTES_MAX)?;
        Ok(TextReader { split, lines })
    }
}

/// The lines of one split.
pub struct TextReader {
    split: FileSplit,
    lines: Lines,
}

#[cold]
fn too_long(begin: u64) -> UserError {
    let message = format!("the line at byte {begin} is longer than {LINE_BYTES_MAX} bytes; is it a text file?");
    io::Error::new(io::ErrorKind::InvalidData, message).into()
}

impl SplitReader for TextReader {
    type Out = String;
    type Split = FileSplit;

    #[inline]
    fn read<O: SourceOutput<String>>(&mut self, out: &mut O) -> Result<Reading, UserError> {
        let pause = self.lines.position() + BYTES_PER_READ;
        while self.lines.position() < pause && !out.is_interrupted() {
            let (begin, mut line) = (self.lines.position(), Vec::new());
            match self.lines.next_line(&mut line)? {
                Line::Complete => out.emit(match String::from_utf8(line) {
                    Ok(line) => line,
                    Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
                }),
                Line::TooLong => return Err(too_long(begin)),
                Line::End => return Ok(Reading::Ended),
            }
        }
        Ok(Reading::More)
    }

    fn split(&self) -> FileSplit {
        let mut range = self.lines.rest();
        if mutant::active(Mutant::SourceOffsetOffByOne) {
            range.start = range.end.min(range.start + 1);
        }
        FileSplit { path: self.split.path.clone(), range }
    }
}
