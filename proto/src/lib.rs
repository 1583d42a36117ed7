//! The wire contract between Tidemill's processes: generated messages and services, and the conversions that
//! turn them into the model's types, refusing what does not fit.
//!
//! Architecture invariant: `pb` types stay at the doors (`runtime/rpc` modules and [`convert`]).

pub mod convert;
pub mod version;

/// The messages and services of `proto/tidemill/*.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code; its documentation is in the .proto files"
)]
#[rustfmt::skip]
pub mod pb {
    include!("generated/tidemill.v1.rs");
}
