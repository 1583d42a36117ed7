//! What goes wrong with output in files.

use std::io;
use std::path::{Path, PathBuf};

use tidemill_model::execution::FailureKind;

/// What went wrong with an output.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something is in the output's place.
    #[error("write {path}: it exists already; remove it, choose another path, or ask for overwrite()")]
    Exists {
        /// The place.
        path: PathBuf,
    },
    /// Overwriting would delete files that no sink wrote.
    #[error(
        "overwrite {path}: it holds {entry:?}, which is no part of an earlier output; remove it yourself if you mean it"
    )]
    ForeignContent {
        /// The place.
        path: PathBuf,
        /// The name of a foreign entry.
        entry: String,
    },
    /// The path names no file.
    #[error("write {path:?}: the path has no file name")]
    NoFileName {
        /// The path.
        path: PathBuf,
    },
    /// What a checkpoint says was written is not there.
    #[error(
        "restore {path}: it is shorter than the {length} bytes that the checkpoint has of it; it was damaged since"
    )]
    ShortPart {
        /// An earlier attempt's file.
        path: PathBuf,
        /// How many bytes it should have.
        length: u64,
    },
    /// A part that a checkpoint has prepared is neither hidden nor published.
    #[error("publish {path}: it is gone, and was not published; the records in it are lost")]
    LostPart {
        /// The hidden part.
        path: PathBuf,
    },
    /// Parts of the output are not here.
    #[error(
        "publish {path}: {found} of {wanted} parts are here; the path must be on a file system that all task managers share"
    )]
    MissingParts {
        /// The place.
        path: PathBuf,
        /// How many parts there are.
        found: u32,
        /// How many there should be.
        wanted: u32,
    },
    /// The file system refused.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// What sort of failure it is for a task.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Exists { .. }
            | Self::ForeignContent { .. }
            | Self::NoFileName { .. }
            | Self::ShortPart { .. }
            | Self::LostPart { .. }
            | Self::MissingParts { .. } => FailureKind::InvalidInput,
            Self::Io { source, .. } => {
                use io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem};
                let hopeless = matches!(source.kind(), NotADirectory | PermissionDenied | ReadOnlyFilesystem);
                if hopeless { FailureKind::InvalidInput } else { FailureKind::Io }
            }
        }
    }
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}
