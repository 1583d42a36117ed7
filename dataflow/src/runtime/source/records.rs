//! A source of the records in text files, a line each.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::marker::PhantomData;
use std::path::Path;

use super::files::{FileEnumerator, FilesSeen};
use super::lines::{LINE_BYTES_MAX, Line, Lines};
use super::text::BYTES_PER_READ;
use super::{Boundedness, FileSplit, FileSplits, Reading, Source, SourceOutput, SplitReader};
use crate::format::{BadLine, BadRecord, FirstLine, LineDecoder, LineFormat};
use crate::function::OutputTag;
use crate::record::Data;
use crate::runtime::counter::Counter;
use crate::runtime::sink::UserError;

/// What becomes of lines that are no record.
#[derive(Debug, Clone, Default)]
pub enum BadRecords {
    /// The first one fails the job.
    #[default]
    Fail,
    /// They are left out and counted.
    Skip(Counter),
    /// They go to a side output of the source.
    Divert(OutputTag<BadRecord>),
}

/// Emits the records of files, a line each; empty lines are none.
pub struct RecordSource<T, F> {
    files: FileSplits,
    format: F,
    bad: BadRecords,
    bytes_max: u64,
    records: PhantomData<fn() -> T>,
}

impl<T, F> RecordSource<T, F> {
    /// The records of these files; a line may have up to `bytes_max` bytes (none: 64 MiB).
    pub fn new(files: FileSplits, format: F, bad: BadRecords, bytes_max: Option<u64>) -> Self {
        let bytes_max = bytes_max.unwrap_or(LINE_BYTES_MAX).clamp(1, LINE_BYTES_MAX);
        Self { files, format, bad, bytes_max, records: PhantomData }
    }
}

impl<T, F: Clone> Clone for RecordSource<T, F> {
    fn clone(&self) -> Self {
        Self::new(self.files.clone(), self.format.clone(), self.bad.clone(), Some(self.bytes_max))
    }
}

impl<T: Data, F: LineFormat<T>> Source for RecordSource<T, F> {
    type Out = T;
    type Split = FileSplit;
    type Enumerator = FileEnumerator;
    type Reader = RecordReader<T, F::Decoder>;

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

    fn reader(&self, split: FileSplit) -> Result<Self::Reader, UserError> {
        let kind = <F as LineFormat<T>>::first_line(&self.format);
        let file = || split.path.display().to_string();
        let first = match kind {
            FirstLine::Record => Vec::new(),
            FirstLine::Example | FirstLine::Header => first_line(&split.path, self.bytes_max)?,
        };
        let is_whole = u64::try_from(first.len()).is_ok_and(|length| length < self.bytes_max);
        let first = if is_whole { first } else { Vec::new() };
        if !is_whole && kind == FirstLine::Header {
            return Err(BadRecord::new(file(), (0, Some(1)), too_long(self.bytes_max), &first).into());
        }
        let decoder = self.format.decoder(&first).map_err(|bad| BadRecord::new(file(), (0, Some(1)), bad, &first))?;
        let mut lines = Lines::open(&split.path, split.range.clone(), self.bytes_max)?;
        if kind == FirstLine::Header && split.range.start == 0 {
            lines.next_line(&mut Vec::new())?;
        }
        let (bad, line) = (self.bad.clone(), Vec::new());
        Ok(RecordReader { split, lines, line, decoder, bad, records: PhantomData })
    }
}

fn too_long(bytes_max: u64) -> BadLine {
    BadLine::new(None, format!("the line is longer than {bytes_max} bytes"))
}

fn first_line(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(File::open(path)?.take(bytes_max)).read_until(b'\n', &mut line)?;
    let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    line.truncate(end);
    Ok(line)
}

/// The records of one split.
pub struct RecordReader<T, D> {
    split: FileSplit,
    lines: Lines,
    line: Vec<u8>,
    decoder: D,
    bad: BadRecords,
    records: PhantomData<fn() -> T>,
}

impl<T, D> RecordReader<T, D> {
    #[cold]
    fn bad<O: SourceOutput<T>>(&self, place: (u64, Option<u64>), bad: BadLine, out: &mut O) -> Result<(), UserError> {
        let record = || BadRecord::new(self.split.path.display().to_string(), place, bad, &self.line);
        match &self.bad {
            BadRecords::Fail => return Err(record().into()),
            BadRecords::Skip(counter) => counter.add(1),
            BadRecords::Divert(tag) => out.output(tag, record()),
        }
        Ok(())
    }
}

impl<T: Data, D: LineDecoder<T>> SplitReader for RecordReader<T, D> {
    type Out = T;
    type Split = FileSplit;

    fn read<O: SourceOutput<T>>(&mut self, out: &mut O) -> Result<Reading, UserError> {
        let pause = self.lines.position() + BYTES_PER_READ;
        while self.lines.position() < pause && !out.is_interrupted() {
            let place = (self.lines.position(), self.lines.number());
            self.line.clear();
            let decoded = match self.lines.next_line(&mut self.line)? {
                Line::Complete => self.decoder.decode(&self.line),
                Line::TooLong => Err(too_long(self.lines.bytes_max())),
                Line::End => return Ok(Reading::Ended),
            };
            match decoded {
                Ok(Some(record)) => out.emit(record),
                Ok(None) => {}
                Err(bad) => self.bad(place, bad, out)?,
            }
        }
        Ok(Reading::More)
    }

    fn split(&self) -> FileSplit {
        FileSplit { path: self.split.path.clone(), range: self.lines.rest() }
    }
}
