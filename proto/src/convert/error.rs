//! What can be wrong with a message that a peer sent.

/// A message that does not fit the contract; names the message and the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field that every sender sets is absent.
    #[error("decode {field}: it is missing; the sender does not follow the contract")]
    Missing {
        /// `Message.field`.
        field: &'static str,
    },
    /// An id or hash has the wrong number of bytes.
    #[error("decode {field}: {actual} bytes, expected {expected}")]
    Length {
        /// `Message.field`.
        field: &'static str,
        /// How many bytes it has.
        actual: usize,
        /// How many it should have.
        expected: usize,
    },
    /// An enum is unspecified, or has a value that this release does not know.
    #[error("decode {field}: {value} is no value of it that this release knows; compare the releases of both sides")]
    UnknownEnum {
        /// `Message.field`.
        field: &'static str,
        /// The number on the wire.
        value: i32,
    },
    /// A list or a name that must not be empty is.
    #[error("decode {field}: it is empty; the sender does not follow the contract")]
    Empty {
        /// `Message.field`.
        field: &'static str,
    },
    /// A list that stands for a map or a set names a key twice.
    #[error("decode {field}: {key} occurs twice")]
    Duplicate {
        /// `Message.field`.
        field: &'static str,
        /// The key.
        key: String,
    },
    /// A field names something that the message does not hold.
    #[error("decode {field}: {key} is not in the message")]
    Unknown {
        /// `Message.field`.
        field: &'static str,
        /// What it names.
        key: String,
    },
}

impl From<Error> for tonic::Status {
    /// A malformed request is its sender's fault: sending it again will not help.
    fn from(error: Error) -> Self {
        super::status(crate::pb::ErrorKind::User, error.to_string(), None)
    }
}
