//! Who runs: a lock file for each run, so that what a dead run left is told from what a living one uses.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};

/// The variable by which processes of a run are known.
pub const VARIABLE: &str = "TIDEMILL_JEPSEN_RUN";

/// Where this user's lock files, and runs that are not told otherwise, are.
#[must_use]
pub fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("tidemill-jepsen-{}", rustix::process::geteuid().as_raw()))
}

/// A run's lock, held until it goes out of scope or its process dies.
#[derive(Debug)]
pub struct Lock {
    run: String,
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the lock of a fresh run, with a name that no living or dead one has.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written, or every name is taken.
    pub fn fresh() -> anyhow::Result<Self> {
        let folder = folder();
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let first = std::process::id() % 0xfff;
        for offset in 0..0xfff_u32 {
            let run = format!("{:03x}", (first + offset) % 0xfff);
            if !path(&run).exists()
                && let Some(lock) = Self::take(&run)?
            {
                return Ok(lock);
            }
        }
        anyhow::bail!("name the run: every name is taken in {}; run `tidemill-jepsen clean`", folder.display())
    }

    /// Takes the lock of a run that is named; none when it lives.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn take(run: &str) -> anyhow::Result<Option<Self>> {
        let path = path(run);
        let mut file = File::options().create(true).append(true).open(&path).context("open a run's lock")?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        writeln!(file, "{}", std::process::id()).context("write a run's lock")?;
        Ok(Some(Self { run: run.to_owned(), path, _file: file }))
    }

    /// The run's name.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// A number from 0 to 255 of its own, as far as that goes.
    #[must_use]
    pub fn subnet(&self) -> u8 {
        self.run.bytes().fold(7, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A file that stays is found by `clean`.
        drop(fs::remove_file(&self.path));
    }
}

/// The names of all runs that have a lock file.
#[must_use]
pub fn runs() -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder()) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter_map(|name| name.strip_suffix(".lock").map(str::to_owned)).collect()
}

fn path(run: &str) -> PathBuf {
    Path::new(&folder()).join(format!("{run}.lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_run_keeps_its_lock() {
        let lock = Lock::fresh().expect("a name is free");
        assert!(runs().contains(&lock.run().to_owned()));
        assert!(Lock::take(lock.run()).expect("readable").is_none(), "somebody else has it");
        let run = lock.run().to_owned();
        drop(lock);
        assert!(!runs().contains(&run));
    }
}
