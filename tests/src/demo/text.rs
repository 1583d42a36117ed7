//! The demo's input: the machine's own documentation, and generated words in as many copies as the machine needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The size of the generated text; a copy is a hard link.
const GENERATED_BYTES: u64 = 128 << 20;
/// The most real text that is taken.
const REAL_BYTES: u64 = 32 << 20;
/// Where a Debian machine keeps text.
const REAL_FOLDERS: [&str; 2] = ["/usr/share/common-licenses", "/usr/share/doc"];

/// The input folder.
pub(super) struct Text {
    folder: PathBuf,
    pub(super) real_files: usize,
    pub(super) copies: u32,
}

/// Writes the input with one copy of the generated text.
pub(super) fn write(folder: &Path, generator: &Path) -> Result<Text> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let text = Text { folder: folder.to_owned(), real_files: copy_real(folder)?, copies: 1 };
    let status = Command::new(generator)
        .arg(GENERATED_BYTES.to_string())
        .arg(text.generated())
        .status()
        .with_context(|| format!("run {}", generator.display()))?;
    ensure!(status.success(), "generating text failed: {status}");
    Ok(text)
}

/// Copies plain text of the machine's documentation, in the order of the names, up to [`REAL_BYTES`].
fn copy_real(folder: &Path) -> Result<usize> {
    let mut files = Vec::new();
    REAL_FOLDERS.iter().for_each(|real| list(Path::new(real), &mut files));
    files.sort();
    let (mut bytes, mut count) = (0, 0);
    for file in files {
        let Ok(mut text) = fs::read(&file) else { continue };
        // Or `cat` would join the last word of one file with the first of the next.
        if text.last().is_some_and(|last| *last != b'\n') {
            text.push(b'\n');
        }
        let length = u64::try_from(text.len())?;
        if bytes + length > REAL_BYTES {
            break;
        }
        fs::write(folder.join(format!("real-{count:05}.txt")), text)?;
        (bytes, count) = (bytes + length, count + 1);
    }
    ensure!(count > 0, "no text was found in {REAL_FOLDERS:?}");
    Ok(count)
}

/// Plain files that are not compressed.
fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            list(&path, files);
        } else if metadata.is_file() && path.extension().is_none_or(|extension| extension != "gz") {
            files.push(path);
        }
    }
}

impl Text {
    /// One copy of the generated text.
    pub(super) fn generated(&self) -> PathBuf {
        self.copy(1)
    }

    /// The folder of all of it.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn copy(&self, number: u32) -> PathBuf {
        self.folder.join(format!("generated-{number:03}.txt"))
    }

    /// Adds hard links until there are `copies`.
    pub(super) fn with_copies(mut self, copies: u32) -> Result<Self> {
        for number in self.copies + 1..=copies {
            fs::hard_link(self.generated(), self.copy(number)).context("link a copy of the text")?;
        }
        self.copies = self.copies.max(copies);
        Ok(self)
    }

    /// The size of all of it.
    pub(super) fn bytes(&self) -> Result<u64> {
        fs::read_dir(&self.folder)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
    }
}
