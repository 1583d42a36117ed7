//! The binaries of the cluster under test.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tidemill_model::mutant::Mutant;

use crate::shim::LIBRARY;

/// Where the binaries are.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// `tidemill-coordinator`.
    pub coordinator: PathBuf,
    /// `tidemill-taskmanager`.
    pub task_manager: PathBuf,
    /// `tidemill-jepsen-job`.
    pub job: PathBuf,
    /// The library that is preloaded into servers, if it is there and they load it.
    pub library: PathBuf,
    /// The known bug that servers are told to put back; only binaries with the feature `mutants` do.
    pub mutant: Option<Mutant>,
}

impl Binaries {
    /// Finds them in `$TIDEMILL_BIN_DIR`, else beside this executable.
    ///
    /// # Errors
    ///
    /// When one is missing.
    pub fn find() -> anyhow::Result<Self> {
        let folder = match std::env::var_os("TIDEMILL_BIN_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => {
                std::env::current_exe().context("find own executable")?.parent().map(Path::to_owned).unwrap_or_default()
            }
        };
        let find = |name: &str| {
            let path = folder.join(name);
            let found = path.canonicalize();
            found.with_context(|| format!("find {}: build it, or name its folder by TIDEMILL_BIN_DIR", path.display()))
        };
        let (coordinator, task_manager) = (find("tidemill-coordinator")?, find("tidemill-taskmanager")?);
        Ok(Self {
            coordinator,
            task_manager,
            job: find("tidemill-jepsen-job")?,
            library: folder.join(LIBRARY),
            mutant: None,
        })
    }
}
