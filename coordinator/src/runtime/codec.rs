//! Durable bytes of commands and state: a version byte, then postcard of our own types.
//!
//! Postcard's wire format is specified and frozen since 1.0; the golden tests pin what our types make of it.
//! A change of any type in here is a change of format: raise the version and keep reading the old one.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::engine::replicated::ClusterState;

/// The version that is written.
const VERSION: u8 = 1;

/// Bytes that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing there.
    #[error("decode {what}: it is empty; the file is damaged")]
    Empty {
        /// What was to be read.
        what: &'static str,
    },
    /// Written by a newer release.
    #[error("decode {what}: format version {version} is newer than {VERSION}; run the release that wrote it")]
    Version {
        /// What was to be read.
        what: &'static str,
        /// The version found.
        version: u8,
    },
    /// Damaged.
    #[error("decode {what}: {source}; the file is damaged")]
    Malformed {
        /// What was to be read.
        what: &'static str,
        /// Where it does not fit.
        source: postcard::Error,
    },
}

/// Our own types as durable bytes.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).expect("our types have no unsized or non-serializable parts")
}

/// Durable bytes as our own types; `what` names them in errors.
///
/// # Errors
///
/// When the bytes are empty, of a newer version, or damaged.
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Error> {
    match bytes.split_first() {
        None => Err(Error::Empty { what }),
        Some((&VERSION, body)) => postcard::from_bytes(body).map_err(|source| Error::Malformed { what, source }),
        Some((&version, _)) => Err(Error::Version { what, version }),
    }
}

/// A checksum over the whole replicated state: equal on every replica at the same index.
#[must_use]
pub fn checksum(state: &ClusterState) -> u64 {
    let digest = Sha256::digest(encode(state));
    u64::from_le_bytes(digest[..8].try_into().expect("a SHA-256 has 32 bytes"))
}
