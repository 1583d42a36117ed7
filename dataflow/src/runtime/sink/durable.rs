//! The steps by which output gets its names, in an order that a loss of power cannot undo: a file is on the disk before it
//! is renamed, and its new name is before anybody hears of it.
//!
//! All sinks on files take these steps here, so that tests see their order.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tidemill_model::mutant::{self, Mutant};

/// Makes a folder, and those above it that are not there, and has their names on the disk.
pub(super) fn create_folder(folder: &Path) -> io::Result<()> {
    let missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let created: Vec<&Path> = folder.ancestors().take_while(missing).collect();
    fs::create_dir_all(folder)?;
    let parents = created.into_iter().rev().filter_map(Path::parent);
    parents.map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent }).try_for_each(sync_folder)
}

/// Has what was written to a file on the disk.
pub(super) fn sync_file(file: &File, path: &Path) -> io::Result<()> {
    if mutant::active(Mutant::RenameWithoutSync) {
        return Ok(());
    }
    file.sync_all()?;
    note(format_args!("sync file {}", path.display()));
    Ok(())
}

/// Has the names in a folder on the disk.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()?;
    note(format_args!("sync folder {}", folder.display()));
    Ok(())
}

/// Gives a file or a folder another name.
pub(super) fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), Errno> {
    renameat_with(CWD, from, CWD, to, flags)?;
    note(format_args!("rename {} to {}", from.display(), to.display()));
    Ok(())
}

/// A step was taken.
#[inline]
fn note(step: fmt::Arguments<'_>) {
    #[cfg(test)]
    record::note(step);
    let _ = step;
}

/// What tests see of this thread's steps.
#[cfg(test)]
pub(super) mod record {
    use std::cell::RefCell;
    use std::fmt;
    use std::path::Path;

    thread_local! {
        static STEPS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn note(step: fmt::Arguments<'_>) {
        STEPS.with_borrow_mut(|steps| steps.push(step.to_string()));
    }

    /// The steps since this was last asked, one a line, with paths from `folder`.
    pub(in crate::runtime::sink) fn take(folder: &Path) -> String {
        let prefix = format!("{}/", folder.display());
        let line = |step: String| (step + "/").replace(&prefix, "").trim_end_matches(['/', ' ']).to_owned() + "\n";
        STEPS.take().into_iter().map(line).collect()
    }
}
