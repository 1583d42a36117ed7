//! Where the servers' binaries of a local cluster are found.

use std::path::{Path, PathBuf};

use super::Error;

/// The environment variable that names the folder of the servers' binaries.
pub const BIN_DIR_VARIABLE: &str = "TIDEMILL_BIN_DIR";

/// Where the servers' binaries are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// `tidemill-coordinator`.
    pub coordinator: PathBuf,
    /// `tidemill-taskmanager`.
    pub task_manager: PathBuf,
}

impl Programs {
    /// Looks in `$TIDEMILL_BIN_DIR`, else beside the running executable (and one folder up, where Cargo's tests find
    /// them).
    ///
    /// # Errors
    ///
    /// [`Error::ProgramMissing`] names the folders that were looked at.
    pub fn find() -> Result<Self, Error> {
        let dirs = match std::env::var_os(BIN_DIR_VARIABLE) {
            Some(dir) => vec![PathBuf::from(dir)],
            None => {
                let own = std::env::current_exe().map_err(Error::io("find", "own executable"))?;
                own.ancestors().skip(1).take(2).map(Path::to_owned).collect()
            }
        };
        Ok(Self {
            coordinator: find_program("tidemill-coordinator", &dirs)?,
            task_manager: find_program("tidemill-taskmanager", &dirs)?,
        })
    }
}

fn find_program(name: &'static str, dirs: &[PathBuf]) -> Result<PathBuf, Error> {
    let found = dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file());
    let path = found.ok_or_else(|| Error::ProgramMissing { name, tried: dirs.to_vec() })?;
    path.canonicalize().map_err(Error::io("find", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_says_where_it_was_looked_for() {
        let error = find_program("tidemill-coordinator", &["/no/such/dir".into()]).unwrap_err().to_string();
        assert!(error.contains("/no/such/dir") && error.contains("TIDEMILL_BIN_DIR"), "{error}");
    }
}
