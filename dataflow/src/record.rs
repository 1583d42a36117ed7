//! What may be a record, and what flows on a channel: batches of records with control in between.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most records of one batch.
const BATCH_RECORDS_MAX: usize = 1024;

/// About how many bytes of records (without what they point to) make a batch: half of a first-level cache.
const BATCH_BYTES: usize = 32 * 1024;

/// A value that can flow, and be kept in state: it can be copied, moved to another thread, read by one while another
/// has a copy (a snapshot is written beside the task), and encoded for another process.
pub trait Data: Clone + Send + Sync + 'static + Serialize + DeserializeOwned {}

impl<T: Clone + Send + Sync + 'static + Serialize + DeserializeOwned> Data for T {}

/// A point in event or processing time, in milliseconds since the epoch.
pub type Timestamp = i64;

/// The time of a record that was given none.
pub const NO_TIME: Timestamp = Timestamp::MIN;

/// The watermark after which no record comes.
pub const END_OF_TIME: Timestamp = Timestamp::MAX;

/// What travels between batches, in band.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// No later record has an event time up to this one.
    Watermark(Timestamp),
    /// The mark between the records before and after this checkpoint.
    Barrier(u64),
    /// Nothing comes for an unknown time: others need not wait for this input's watermark.
    Idle,
    /// Records come again.
    Active,
    /// It is this late by the clock. For the operators of one chain only: it does not travel on channels.
    ProcessingTime(Timestamp),
    /// This checkpoint is committed: transactions up to it are published. For the operators of one chain only.
    Completed(u64),
    /// The sub-task had come to the end of its input before the checkpoint that it starts from: operators do nothing of
    /// what they do at the end, it is done. For the operators of one chain only.
    FinishedBefore,
    /// Nothing follows.
    EndOfInput,
}

/// Records in order, and their event times where something downstream needs them.
///
/// Invariant: `times` is empty, or as long as `records`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<T> {
    /// The records.
    pub records: Vec<T>,
    /// Their event times; empty: none has one.
    pub times: Vec<Timestamp>,
}

impl<T> Batch<T> {
    /// An empty batch with room for a full one; the times take room when there are any.
    #[must_use]
    pub fn with_capacity() -> Self {
        Self { records: Vec::with_capacity(batch_capacity::<T>()), times: Vec::new() }
    }

    /// Without records.
    pub fn clear(&mut self) {
        self.records.clear();
        self.times.clear();
    }

    /// Keeps so many of its records; the others are the result.
    #[must_use]
    pub fn split_off(&mut self, kept: usize) -> Self {
        let times = if self.times.is_empty() { Vec::new() } else { self.times.split_off(kept) };
        Self { records: self.records.split_off(kept), times }
    }

    /// The event time of the record at this place.
    #[inline]
    #[must_use]
    pub fn time(&self, index: usize) -> Timestamp {
        self.times.get(index).copied().unwrap_or(NO_TIME)
    }
}

impl<T> From<Vec<T>> for Batch<T> {
    fn from(records: Vec<T>) -> Self {
        Self { records, times: Vec::new() }
    }
}

/// What travels on a channel.
#[derive(Debug)]
pub enum StreamElement<T> {
    /// Records, in order.
    Batch(Batch<T>),
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
    /// Another number of times than of records.
    #[error("decode records of type {record_type}: {records} records with {times} times")]
    Times {
        /// The Rust type.
        record_type: &'static str,
        /// How many records.
        records: usize,
        /// How many times.
        times: usize,
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

/// Records in their wire form, which never outlives the job.
///
/// # Errors
/// The type cannot be encoded.
pub fn encode<T: Data>(records: &Vec<T>) -> Result<Bytes, Error> {
    serialize::<T>(records)
}

/// The records that [`encode`] wrote.
///
/// # Errors
/// The bytes are something else.
pub fn decode<T: Data>(bytes: &[u8]) -> Result<Vec<T>, Error> {
    deserialize::<T, _>(bytes)
}

/// A batch in its wire form, which never outlives the job.
///
/// # Errors
/// The type cannot be encoded.
pub fn encode_batch<T: Data>(batch: &Batch<T>) -> Result<Bytes, Error> {
    serialize::<T>(&(&batch.records, &batch.times))
}

/// The batch that [`encode_batch`] wrote.
///
/// # Errors
/// The bytes are something else.
pub fn decode_batch<T: Data>(bytes: &[u8]) -> Result<Batch<T>, Error> {
    let (records, times) = deserialize::<T, (Vec<T>, Vec<Timestamp>)>(bytes)?;
    if times.is_empty() || times.len() == records.len() {
        return Ok(Batch { records, times });
    }
    Err(Error::Times { record_type: std::any::type_name::<T>(), records: records.len(), times: times.len() })
}

/// A value that is kept, in the form that records have on the wire.
pub(crate) fn encode_value<T: Serialize>(value: &T) -> Result<Bytes, Error> {
    serialize::<T>(value)
}

/// The value that [`encode_value`] wrote.
pub(crate) fn decode_value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    deserialize::<T, _>(bytes)
}

fn serialize<T>(value: &impl Serialize) -> Result<Bytes, Error> {
    let error =
        |error: bitcode::Error| Error::Encode { record_type: std::any::type_name::<T>(), reason: error.to_string() };
    bitcode::serialize(value).map(Bytes::from).map_err(error)
}

fn deserialize<T, V: DeserializeOwned>(bytes: &[u8]) -> Result<V, Error> {
    let error =
        |error: bitcode::Error| Error::Decode { record_type: std::any::type_name::<T>(), reason: error.to_string() };
    bitcode::deserialize(bytes).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_survives_its_wire_form() {
        let records = vec![("word".to_owned(), 7u64), (String::new(), u64::MAX)];
        assert_eq!(decode::<(String, u64)>(&encode(&records).unwrap()).unwrap(), records);
        assert_eq!(decode::<u8>(&encode(&Vec::<u8>::new()).unwrap()).unwrap(), Vec::<u8>::new());
        for times in [vec![], vec![NO_TIME, END_OF_TIME]] {
            let batch = Batch { records: records.clone(), times };
            assert_eq!(decode_batch(&encode_batch(&batch).unwrap()).unwrap(), batch);
        }
    }

    #[test]
    fn damaged_bytes_are_an_error_and_no_panic() {
        let bytes = encode_batch(&Batch::from(vec![("word".to_owned(), 7u64); 100])).unwrap();
        for length in 0..bytes.len() {
            let error = decode_batch::<(String, u64)>(&bytes[..length]).unwrap_err();
            assert!(error.to_string().starts_with("decode records of type (alloc::string::String, u64)"), "{error}");
        }
        let crooked = encode_batch(&Batch { records: vec![1u8, 2], times: vec![0] }).unwrap();
        assert!(matches!(decode_batch::<u8>(&crooked), Err(Error::Times { records: 2, times: 1, .. })));
    }

    #[test]
    fn a_batch_is_divided_with_its_times() {
        let mut batch = Batch { records: vec!['a', 'b', 'c'], times: vec![1, 2, 3] };
        assert_eq!(batch.split_off(1), Batch { records: vec!['b', 'c'], times: vec![2, 3] });
        assert_eq!(batch, Batch { records: vec!['a'], times: vec![1] });
        let mut untimed = Batch::from(vec!['a', 'b']);
        assert_eq!((untimed.split_off(1), untimed), (Batch::from(vec!['b']), Batch::from(vec!['a'])));
    }

    #[test]
    fn a_batch_has_a_bound_in_records_and_in_bytes() {
        assert_eq!(batch_capacity::<u8>(), 1024);
        assert_eq!(batch_capacity::<()>(), 1024);
        assert_eq!(batch_capacity::<[u64; 16]>(), 256);
        assert_eq!(batch_capacity::<[u64; 4096]>(), 16);
    }
}
