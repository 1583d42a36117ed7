//! What can go wrong between a client and its coordinators.

/// Why a call failed; each variant says who must react.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No coordinator answered.
    #[error(
        "reach coordinators {}: none answered ({last}); check the addresses given by --coordinators and that the \
         coordinators run",
        coordinators.join(",")
    )]
    AllUnreachable {
        /// The addresses that were tried.
        coordinators: Vec<String>,
        /// The last reason.
        last: String,
    },
    /// Coordinators answered, but none of them leads.
    #[error(
        "find the leading coordinator among {}: there is none at the moment ({last}); try again, and check that a \
         majority of the coordinators runs",
        coordinators.join(",")
    )]
    NoLeader {
        /// The addresses that were tried.
        coordinators: Vec<String>,
        /// The last reason.
        last: String,
    },
    /// The coordinators wait for their first `cluster init`.
    #[error("use cluster: it is not initialized; run `tidemill cluster init` once")]
    NotInitialized,
    /// The thing that was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The request was wrong; sending it again will not help.
    #[error("{0}")]
    Refused(String),
    /// A file of the client's could not be read.
    #[error("read {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// The operating system's reason.
        reason: String,
    },
    /// A defect, or an external fault of a coordinator.
    #[error("ask coordinator {coordinator}: {message}; its log says more")]
    Internal {
        /// Which one.
        coordinator: String,
        /// What it said.
        message: String,
    },
}

impl Error {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::AllUnreachable { .. } | Self::NoLeader { .. } => true,
            Self::NotInitialized | Self::NotFound(_) | Self::Refused(_) | Self::File { .. } | Self::Internal { .. } => {
                false
            }
        }
    }
}
