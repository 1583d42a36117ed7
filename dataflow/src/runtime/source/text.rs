//! A source of the lines of text files.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use tidemill_model::execution::{Failure, FailureKind};

use super::{Reading, Source, SourceReader};
use crate::engine::split;
use crate::flow::OperatorIndex;
use crate::push::{Push, Stopped};
use crate::record::NO_TIME;
use crate::runtime::task::TaskContext;

/// How much is read at a time.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// How many bytes of lines are emitted at a time.
const BYTES_PER_READ: u64 = 64 * 1024;

/// The longest line: a bound on what a file without line ends can make a task hold.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Emits the lines of a file, or of all files in a folder and its sub-folders, without their line ends.
///
/// Each sub-task reads an equal share of the bytes; a line belongs to the share that it begins in. Files are taken in
/// the order of their paths; names that begin with `.` or `_` are left out. Bytes that are no UTF-8 become U+FFFD.
/// The files must not change during the job.
#[derive(Debug, Clone)]
pub struct TextSource {
    path: PathBuf,
    operator: OperatorIndex,
}

impl TextSource {
    /// The source of the lines under `path`.
    #[must_use]
    pub fn new(path: PathBuf, operator: OperatorIndex) -> Self {
        Self { path, operator }
    }

    fn failure(&self, context: &TaskContext, path: &Path, error: &io::Error) -> Failure {
        use io::ErrorKind::{InvalidData, NotADirectory, NotFound, PermissionDenied};
        let hopeless = matches!(error.kind(), NotFound | PermissionDenied | InvalidData | NotADirectory);
        let kind = if hopeless { FailureKind::InvalidInput } else { FailureKind::Io };
        let operator = context.operator_name(self.operator);
        context.failure(kind, Some(&operator), format!("read {}: {error}", path.display()))
    }
}

/// The lines of one sub-task.
pub struct TextReader {
    source: TextSource,
    /// Files and byte ranges that are not begun, the next one last.
    ranges: Vec<(PathBuf, Range<u64>)>,
    open: Option<(PathBuf, Lines)>,
}

impl Source for TextSource {
    type Out = String;
    type Reader = TextReader;

    fn open(&self, context: &TaskContext) -> Result<TextReader, Failure> {
        let files = list(&self.path).map_err(|(path, error)| self.failure(context, &path, &error))?;
        let lengths: Vec<u64> = files.iter().map(|(_, length)| *length).collect();
        let ranges = split::ranges(&lengths, context.subtask(), context.parallelism());
        let mut ranges: Vec<_> = ranges.into_iter().map(|(index, range)| (files[index].0.clone(), range)).collect();
        ranges.reverse();
        Ok(TextReader { source: self.clone(), ranges, open: None })
    }
}

impl SourceReader<String> for TextReader {
    fn read<N: Push<String>>(&mut self, next: &mut N, context: &TaskContext) -> Result<Reading, Stopped> {
        let stop = |path: &Path, error: &io::Error| context.fail(self.source.failure(context, path, error));
        let Some((path, lines)) = &mut self.open else {
            let Some((path, range)) = self.ranges.pop() else { return Ok(Reading::Ended) };
            let lines = Lines::open(&path, range).map_err(|error| stop(&path, &error))?;
            self.open = Some((path, lines));
            return Ok(Reading::More);
        };
        let pause = lines.position + BYTES_PER_READ;
        let mut count = 0;
        let mut ended = false;
        while !ended && lines.position < pause {
            match lines.next_line().map_err(|error| stop(path, &error))? {
                Some(line) => {
                    next.push(line, NO_TIME)?;
                    count += 1;
                }
                None => ended = true,
            }
        }
        context.count_in(count);
        if ended {
            self.open = None;
        }
        Ok(Reading::More)
    }
}

/// The files under a path, sorted, with their lengths.
fn list(path: &Path) -> Result<Vec<(PathBuf, u64)>, (PathBuf, io::Error)> {
    let with_path = |error| (path.to_owned(), error);
    let metadata = fs::metadata(path).map_err(with_path)?;
    if !metadata.is_dir() {
        return Ok(vec![(path.to_owned(), metadata.len())]);
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(with_path)? {
        let entry = entry.map_err(with_path)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".")
            && !entry.file_name().as_encoded_bytes().starts_with(b"_")
        {
            entries.push(entry.path());
        }
    }
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        files.extend(list(&entry)?);
    }
    Ok(files)
}

/// The lines of one file that begin in a byte range.
struct Lines {
    reader: BufReader<File>,
    /// Where the next line begins.
    position: u64,
    end: u64,
}

impl Lines {
    fn open(path: &Path, range: Range<u64>) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, File::open(path)?);
        let mut position = range.start;
        if range.start > 0 {
            // A line begins at the start exactly when the byte before is a line end; else it belongs to the one before.
            reader.seek(SeekFrom::Start(range.start - 1))?;
            position = range.start - 1 + u64::try_from(reader.skip_until(b'\n')?).unwrap_or(u64::MAX);
        }
        Ok(Self { reader, position, end: range.end })
    }

    fn next_line(&mut self) -> io::Result<Option<String>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let mut line = Vec::new();
        let length = self.reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(None);
        }
        let begin = self.position;
        self.position += u64::try_from(length).unwrap_or(u64::MAX);
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        } else if self.position - begin >= LINE_BYTES_MAX {
            let message = format!("the line at byte {begin} is longer than {LINE_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(Some(match String::from_utf8(line) {
            Ok(line) => line,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path, range: Range<u64>) -> Vec<String> {
        let mut lines = Lines::open(path, range).unwrap();
        std::iter::from_fn(|| lines.next_line().unwrap()).collect()
    }

    #[test]
    fn every_line_is_read_once_wherever_the_file_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        for text in ["", "a", "a\n", "\n\n", "one\r\ntwo\n\nthree", "one\ntwo\nthree\n"] {
            fs::write(&path, text).unwrap();
            let length = text.len() as u64;
            let whole: Vec<String> = text.lines().map(str::to_owned).collect();
            for cut in 0..=length {
                let mut parts = lines(&path, 0..cut);
                parts.extend(lines(&path, cut..length));
                assert_eq!(parts, whole, "{text:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn invalid_utf_8_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(&path, b"a\xffb\nc").unwrap();
        assert_eq!(lines(&path, 0..5), ["a\u{fffd}b", "c"]);
    }

    #[test]
    fn a_folder_is_read_in_order_and_without_hidden_names() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("b/.hidden")).unwrap();
        for name in ["c", "a", ".x", "_x", "b/z", "b/y", "b/.hidden/q"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let listed = list(folder.path()).unwrap();
        let names: Vec<_> = listed.iter().map(|(path, _)| path.strip_prefix(folder.path()).unwrap()).collect();
        assert_eq!(names, ["a", "b/y", "b/z", "c"].map(Path::new));
    }
}
