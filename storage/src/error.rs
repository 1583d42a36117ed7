//! What goes wrong with checkpoint storage.

/// Why state cannot be kept or had back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder's URL is none.
    #[error("use checkpoint folder {url:?}: {reason}; give an absolute path or a URL such as file:///data/checkpoints")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file's path would lead out of the job's folder.
    #[error("use checkpoint file {path:?}: the path is empty, or leads out of the job's folder")]
    Path {
        /// The path.
        path: String,
    },
    /// A file is not there.
    #[error("read {file}: it is missing; without it this checkpoint cannot be restored")]
    Missing {
        /// The file.
        file: String,
    },
    /// A file is shorter than what was written.
    #[error("read {file}: it ends before byte {end}; it was truncated, and this checkpoint cannot be restored")]
    Truncated {
        /// The file.
        file: String,
        /// The end of the range that was to be read.
        end: u64,
    },
    /// A file's bytes are others than those that were written.
    #[error(
        "read {file}, bytes {begin} to {end}: checksum {found:08x} instead of {expected:08x}; it is damaged, and this \
         checkpoint cannot be restored"
    )]
    Corrupt {
        /// The file.
        file: String,
        /// The first byte.
        begin: u64,
        /// The byte after the last.
        end: u64,
        /// The checksum of what was written.
        expected: u32,
        /// The checksum of what is there.
        found: u32,
    },
    /// A savepoint's metadata cannot be read or written.
    #[error("use savepoint metadata {file}: {reason}")]
    Metadata {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another savepoint would be overwritten, the only one perhaps that some job can start from.
    #[error("write savepoint {folder}: the folder holds one already; name another folder, or delete that one first")]
    Occupied {
        /// The folder.
        folder: String,
    },
    /// What was written is not what is read.
    #[error("check {file}: it was written, and reads otherwise")]
    Unfaithful {
        /// The file.
        file: String,
    },
    /// The store refused.
    #[error("{action} {file}: {source}")]
    Store {
        /// What was attempted.
        action: &'static str,
        /// On what.
        file: String,
        /// Why not.
        source: object_store::Error,
    },
    /// The file system refused.
    #[error("{action} {file}: {source}")]
    FileSystem {
        /// What was attempted.
        action: &'static str,
        /// On what.
        file: String,
        /// Why not.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether what was written is not there any more, or not as it was.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Truncated { .. } | Self::Corrupt { .. } | Self::Metadata { .. } => true,
            Self::Url { .. }
            | Self::Path { .. }
            | Self::Occupied { .. }
            | Self::Unfaithful { .. }
            | Self::Store { .. }
            | Self::FileSystem { .. } => false,
        }
    }

    /// Whether the same may succeed at another time: the store, not the file or its name, is the trouble.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        use object_store::Error as Store;
        match self {
            Self::Url { .. }
            | Self::Path { .. }
            | Self::Missing { .. }
            | Self::Truncated { .. }
            | Self::Corrupt { .. }
            | Self::Metadata { .. }
            | Self::Occupied { .. }
            | Self::Unfaithful { .. } => false,
            Self::FileSystem { source, .. } => source.kind() != std::io::ErrorKind::PermissionDenied,
            Self::Store { source, .. } => !matches!(
                source,
                Store::PermissionDenied { .. }
                    | Store::Unauthenticated { .. }
                    | Store::InvalidPath { .. }
                    | Store::NotSupported { .. }
                    | Store::UnknownConfigurationKey { .. }
            ),
        }
    }
}
