//! The library that is preloaded into servers, and the control files by which it is told what to do with their syncs and
//! writes.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

#[path = "../../jepsen-shim/src/layout.rs"]
pub mod layout;

pub use layout::Slot;
use layout::{BYTES, PART, PREFIX, VARIABLE};

/// The library's file, beside the binaries.
pub const LIBRARY: &str = "libtidemill_chaos.so";

/// One host's control file.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    file: File,
}

impl Control {
    /// Makes a control file that changes nothing, about the files below `prefix`.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn make(path: &Path, prefix: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path);
        let file = file.with_context(|| format!("make {}", path.display()))?;
        file.set_len(BYTES as u64).with_context(|| format!("make {}", path.display()))?;
        let control = Self { path: path.to_owned(), file };
        control.text(PREFIX, PART, &prefix.to_string_lossy())?;
        Ok(control)
    }

    /// Has it be about those files only whose paths contain this.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn only(&self, part: &str) -> anyhow::Result<()> {
        self.text(PART, BYTES, part)
    }

    fn text(&self, from: usize, to: usize, text: &str) -> anyhow::Result<()> {
        let path = self.path.display();
        ensure!(text.len() < to - from, "write to {path}: a path of {} bytes is too long", text.len());
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.file.write_all_at(&bytes, from as u64).with_context(|| format!("write to {path}"))
    }

    /// Sets a number, for every process that has the file.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn set(&self, slot: Slot, value: u64) -> anyhow::Result<()> {
        let written = self.file.write_all_at(&value.to_ne_bytes(), slot.offset() as u64);
        written.with_context(|| format!("write to {}", self.path.display()))
    }

    /// Reads a number.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn get(&self, slot: Slot) -> anyhow::Result<u64> {
        let mut bytes = [0; 8];
        let read = self.file.read_exact_at(&mut bytes, slot.offset() as u64);
        read.with_context(|| format!("read {}", self.path.display()))?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// What a process needs in its environment to be under the file's control.
    #[must_use]
    pub fn environment(&self, library: &Path) -> Vec<(String, String)> {
        let entry = |name: &str, path: &Path| (name.to_owned(), path.display().to_string());
        vec![entry("LD_PRELOAD", library), entry(VARIABLE, &self.path)]
    }
}

/// Loads the library into a program, to see whether it can be.
///
/// # Errors
///
/// When the library is not there, or the program does not load it.
pub fn trial(program: &Path, library: &Path) -> anyhow::Result<()> {
    fs::metadata(library).with_context(|| {
        format!("find {}: build it by `cargo build -p tidemill-chaos`, beside the servers", library.display())
    })?;
    let path = std::env::temp_dir().join(format!("tmjt-{}.control", std::process::id()));
    let control = Control::make(&path, Path::new("/"))?;
    let ran = Command::new(program).arg("--version").envs(control.environment(library)).output();
    drop(fs::remove_file(&path));
    ran.with_context(|| format!("start {}", program.display()))?;
    let loaded = control.get(Slot::Loaded)?;
    ensure!(loaded > 0, "{} does not load it: is it linked statically?", program.display());
    Ok(())
}
