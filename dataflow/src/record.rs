//! What may be a record, and what flows on a channel: batches of records with control in between.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most records of one batch.
const BATCH_RECORDS_MAX: usize = 1024;

/// About how many bytes of records (without what they point to) make a batch: half of a first-level cache.
const BATCH_BYTES: usize = 32 * 1024;

/// A value that can flow: it can be copied, moved to another thread, and encoded for another process.
pub trait Data: Clone + Send + 'static + Serialize + DeserializeOwned {}

impl<T: Clone + Send + 'static + Serialize + DeserializeOwned> Data for T {}

/// What travels between batches, in band.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// No later record has an event time (in milliseconds) up to this one.
    Watermark(i64),
    /// The mark between the records before and after this checkpoint.
    Barrier(u64),
    /// Nothing follows.
    EndOfInput,
}

/// What travels on a channel.
#[derive(Debug)]
pub enum StreamElement<T> {
    /// Records, in order.
    Batch(Vec<T>),
    /// Control between batches.
    Control(Control),
}

/// Why records could not be brought into, or out of, their encoded form.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The record type uses something that the codec has no form for.
    #[error("encode records of type {record_type}: {reason}")]
    Encode {
        /// The Rust type.
        record_type: &'static str,
        /// What the codec said.
        reason: String,
    },
    /// The bytes are no batch of this type.
    #[error("decode records of type {record_type}: {reason}")]
    Decode {
        /// The Rust type.
        record_type: &'static str,
        /// What the codec said.
        reason: String,
    },
}

/// How many records of this type make a full batch.
#[must_use]
pub const fn batch_capacity<T>() -> usize {
    let size = if size_of::<T>() == 0 { 1 } else { size_of::<T>() };
    let fit = BATCH_BYTES / size;
    if fit > BATCH_RECORDS_MAX {
        BATCH_RECORDS_MAX
    } else if fit < 16 {
        16
    } else {
        fit
    }
}

/// A batch in its wire form, which never outlives the job.
///
/// # Errors
/// The type cannot be encoded.
pub fn encode<T: Data>(batch: &Vec<T>) -> Result<Bytes, Error> {
    let error =
        |error: bitcode::Error| Error::Encode { record_type: std::any::type_name::<T>(), reason: error.to_string() };
    bitcode::serialize(batch).map(Bytes::from).map_err(error)
}

/// The batch that [`encode`] wrote.
///
/// # Errors
/// The bytes are something else.
pub fn decode<T: Data>(bytes: &[u8]) -> Result<Vec<T>, Error> {
    let error =
        |error: bitcode::Error| Error::Decode { record_type: std::any::type_name::<T>(), reason: error.to_string() };
    bitcode::deserialize(bytes).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_survives_its_wire_form() {
        let batch = vec![("word".to_owned(), 7u64), (String::new(), u64::MAX)];
        assert_eq!(decode::<(String, u64)>(&encode(&batch).unwrap()).unwrap(), batch);
        assert_eq!(decode::<u8>(&encode(&Vec::<u8>::new()).unwrap()).unwrap(), Vec::<u8>::new());
    }

    #[test]
    fn damaged_bytes_are_an_error_and_no_panic() {
        let bytes = encode(&vec![("word".to_owned(), 7u64); 100]).unwrap();
        for length in 0..bytes.len() {
            let error = decode::<(String, u64)>(&bytes[..length]).unwrap_err();
            assert!(error.to_string().starts_with("decode records of type (alloc::string::String, u64)"), "{error}");
        }
    }

    #[test]
    fn a_batch_has_a_bound_in_records_and_in_bytes() {
        assert_eq!(batch_capacity::<u8>(), 1024);
        assert_eq!(batch_capacity::<()>(), 1024);
        assert_eq!(batch_capacity::<[u64; 16]>(), 256);
        assert_eq!(batch_capacity::<[u64; 4096]>(), 16);
    }
}
