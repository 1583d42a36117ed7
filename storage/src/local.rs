//! Files of a file system that are to go: unlike the store's own listing, these functions see what a process that died
//! while it wrote has left.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The files below a folder that are not finished, by their paths from it; none of a folder that is not there.
pub(super) fn unfinished(folder: &Path) -> io::Result<Vec<String>> {
    let (mut files, mut folders) = (Vec::new(), vec![(folder.to_owned(), String::new())]);
    while let Some((folder, prefix)) = folders.pop() {
        for entry in present(fs::read_dir(&folder))?.into_iter().flatten() {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            // It may be renamed or deleted between the listing and the look at it.
            match present(entry.file_type())? {
                Some(kind) if kind.is_dir() => folders.push((entry.path(), path)),
                Some(_) if is_unfinished(&path) => files.push(path),
                Some(_) | None => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

/// As `object_store` names a file until it is whole: `file#1`.
fn is_unfinished(path: &str) -> bool {
    let number = path.rsplit_once('#').map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Deletes a file if it is there, and the folders up to `root` that are empty then; `root` among them.
pub(super) fn delete(root: &Path, file: &Path) -> io::Result<()> {
    present(fs::remove_file(file))?;
    let mut folder = file.parent();
    while let Some(empty) = folder.filter(|folder| folder.starts_with(root)) {
        // Others write into it, or it is gone already: both end the climb.
        if fs::remove_dir(empty).is_err() {
            break;
        }
        folder = empty.parent();
    }
    Ok(())
}

/// Deletes a folder with everything in it, if it is there.
pub(super) fn delete_folder(folder: &Path) -> io::Result<()> {
    present(fs::remove_dir_all(folder)).map(drop)
}

fn present<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A path within a folder.
pub(super) fn within(folder: &Path, path: &str) -> PathBuf {
    path.split('/').fold(folder.to_owned(), |folder, part| folder.join(part))
}
