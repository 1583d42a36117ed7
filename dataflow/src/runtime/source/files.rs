//! The splits of text files: which files there are, and which bytes of them a reader gets.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Boundedness, Discovery, SplitEnumerator};
use crate::engine::split;
use crate::runtime::sink::UserError;

/// The lines of a file that begin in a byte range.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSplit {
    /// The file.
    pub path: PathBuf,
    /// The bytes in which the lines begin.
    pub range: Range<u64>,
}

impl fmt::Debug for FileSplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from byte {} to {}", self.path.display(), self.range.start, self.range.end)
    }
}

/// Which files are read, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSplits {
    path: PathBuf,
    /// None: only what is there at the start.
    watch: Option<Duration>,
}

impl FileSplits {
    /// A file, or all files in a folder and its sub-folders, in byte ranges.
    #[must_use]
    pub fn once(path: PathBuf) -> Self {
        Self { path, watch: None }
    }

    /// All files in a folder and its sub-folders, and those that appear there, each as a whole.
    #[must_use]
    pub fn watched(folder: PathBuf, interval: Duration) -> Self {
        Self { path: folder, watch: Some(interval) }
    }

    pub(super) fn boundedness(&self) -> Boundedness {
        if self.watch.is_some() { Boundedness::Unbounded } else { Boundedness::Bounded }
    }

    pub(super) fn enumerator(&self, readers: u32, restored: Option<FilesSeen>) -> FileEnumerator {
        FileEnumerator { splits: self.clone(), readers, seen: restored.unwrap_or_default() }
    }
}

/// Why files cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("list {path}: {source}")]
struct ListError {
    path: PathBuf,
    source: io::Error,
}

/// Lists files.
pub struct FileEnumerator {
    splits: FileSplits,
    readers: u32,
    seen: FilesSeen,
}

/// Which files were named, for a restart.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FilesSeen {
    /// Those of a watched folder that were there at the last look.
    paths: BTreeSet<PathBuf>,
    /// Whether those that are read once were named.
    asked: bool,
}

impl SplitEnumerator for FileEnumerator {
    type Split = FileSplit;
    type State = FilesSeen;

    fn state(&self) -> FilesSeen {
        self.seen.clone()
    }

    fn discover(&mut self) -> Result<Discovery<FileSplit>, UserError> {
        let asked = std::mem::replace(&mut self.seen.asked, true);
        match (self.splits.watch, asked) {
            (None, false) => {
                let files = list(&self.splits.path, false)?;
                let lengths: Vec<u64> = files.iter().map(|(_, length)| *length).collect();
                let ranges = split::ranges(&lengths, self.readers).into_iter();
                let split = |(file, range): (usize, _)| FileSplit { path: files[file].0.clone(), range };
                Ok(Discovery::Splits(ranges.map(split).collect()))
            }
            (None, true) => Ok(Discovery::Done),
            (Some(interval), _) => {
                let files = list(&self.splits.path, true)?;
                let is_new = |(path, length): &(PathBuf, u64)| {
                    let split = || FileSplit { path: path.clone(), range: 0..*length };
                    (!self.seen.paths.contains(path)).then(split)
                };
                let new: Vec<FileSplit> = files.iter().filter_map(is_new).collect();
                self.seen.paths = files.into_iter().map(|(path, _)| path).collect();
                Ok(if new.is_empty() { Discovery::Wait(interval) } else { Discovery::Splits(new) })
            }
        }
    }
}

/// The files under a path, sorted, with their lengths; where they come and go, one that has just gone is left out.
fn list(path: &Path, come_and_go: bool) -> Result<Vec<(PathBuf, u64)>, ListError> {
    let with_path = |source| ListError { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(with_path)?;
    if !metadata.is_dir() {
        return Ok(vec![(path.to_owned(), metadata.len())]);
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(with_path)? {
        let entry = entry.map_err(with_path)?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(b".") && !name.as_encoded_bytes().starts_with(b"_") {
            entries.push(entry.path());
        }
    }
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        match list(&entry, come_and_go) {
            Ok(listed) => files.extend(listed),
            Err(error) if come_and_go && error.source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_listed_in_order_and_without_hidden_names() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("b/.hidden")).unwrap();
        for name in ["c", "a", ".x", "_x", "b/z", "b/y", "b/.hidden/q"] {
            fs::write(folder.path().join(name), "text").unwrap();
        }
        let files = list(folder.path(), false).unwrap();
        let names: Vec<_> = files.iter().map(|(path, _)| path.strip_prefix(folder.path()).unwrap()).collect();
        assert_eq!(names, [Path::new("a"), Path::new("b/y"), Path::new("b/z"), Path::new("c")]);
        assert_eq!(list(&folder.path().join("missing"), true).unwrap_err().path, folder.path().join("missing"));
    }

    #[test]
    fn a_split_survives_its_way_to_another_process() {
        let splits = vec![FileSplit { path: "a folder/\u{e9}".into(), range: 3..u64::MAX }];
        let bytes = crate::record::encode(&splits).unwrap();
        assert_eq!(crate::record::decode::<FileSplit>(&bytes).unwrap(), splits);
    }

    #[test]
    fn a_watched_folder_names_each_file_once() {
        let folder = tempfile::tempdir().unwrap();
        let interval = Duration::from_secs(7);
        let mut enumerator = FileSplits::watched(folder.path().to_owned(), interval).enumerator(2, None);
        assert_eq!(enumerator.discover().unwrap(), Discovery::Wait(interval));
        for name in ["a", "b"] {
            let path = folder.path().join(name);
            fs::write(&path, "text").unwrap();
            assert_eq!(enumerator.discover().unwrap(), Discovery::Splits(vec![FileSplit { path, range: 0..4 }]));
            assert_eq!(enumerator.discover().unwrap(), Discovery::Wait(interval));
        }
        fs::remove_file(folder.path().join("a")).unwrap();
        assert_eq!(enumerator.discover().unwrap(), Discovery::Wait(interval));
    }
}
