//! A sink that hands its records to the program that called `execute`.

use std::marker::PhantomData;
use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tidemill_model::execution::{Failure, FailureKind};

use super::Sink;
use crate::engine::snapshot::StateId;
use crate::flow::OperatorIndex;
use crate::push::{Push, Stopped};
use crate::record::{Control, Data, Timestamp, batch_capacity, decode, encode};
use crate::runtime::executor::CollectedRecords;
use crate::runtime::task::TaskContext;

/// The most encoded bytes of one sub-task: they travel in one message and are held in memory.
const COLLECTED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The bytes of a length that precedes each encoded batch, little-endian.
const LENGTH_BYTES: usize = 4;

/// Why collected records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes end within a batch.
    #[error("read collected records: {left} bytes are left over, the result is damaged")]
    Truncated {
        /// How many bytes.
        left: usize,
    },
    /// A batch is something else.
    #[error("read collected records: {0}")]
    Record(#[from] crate::record::Error),
}

/// Gathers records, encoded, up to 64 MiB in each sub-task.
pub struct CollectSink<T> {
    collect_index: u32,
    operator: OperatorIndex,
    records: PhantomData<fn(T)>,
}

impl<T> CollectSink<T> {
    /// The sink of the program's `collect_index`th `collect()`.
    #[must_use]
    pub fn new(collect_index: u32, operator: OperatorIndex) -> Self {
        Self { collect_index, operator, records: PhantomData }
    }
}

impl<T> Clone for CollectSink<T> {
    fn clone(&self) -> Self {
        Self { collect_index: self.collect_index, operator: self.operator, records: PhantomData }
    }
}

/// The name of the state that holds what was gathered.
const COLLECTED: &str = "collected";

/// Encoded records, in a snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Collected(Bytes);

/// What one sub-task has gathered.
pub struct CollectWriter<T> {
    collect_index: u32,
    state: StateId,
    batch: Vec<T>,
    bytes: BytesMut,
    operator: Rc<str>,
    context: TaskContext,
}

impl<T: Data> Sink<T> for CollectSink<T> {
    type Writer = CollectWriter<T>;

    fn open(&self, context: &TaskContext) -> Result<CollectWriter<T>, Failure> {
        let state = context.operator_uid(self.operator).state(COLLECTED);
        let restored = context.restored_values::<Collected>(&state)?;
        Ok(CollectWriter {
            collect_index: self.collect_index,
            state,
            batch: Vec::new(),
            bytes: restored.iter().flat_map(|Collected(bytes)| bytes).copied().collect(),
            operator: context.operator_name(self.operator),
            context: context.clone(),
        })
    }
}

impl<T: Data> CollectWriter<T> {
    fn fail(&self, message: String) -> Stopped {
        self.context.fail(self.context.failure(FailureKind::InvalidInput, Some(&self.operator), message))
    }

    #[cold]
    fn encode(&mut self) -> Result<(), Stopped> {
        let encoded = encode(&self.batch).map_err(|error| self.fail(error.to_string()))?;
        self.context.count_out(u64::try_from(self.batch.len()).unwrap_or(u64::MAX));
        self.batch.clear();
        let length = u32::try_from(encoded.len()).unwrap_or(u32::MAX);
        if self.bytes.len() + LENGTH_BYTES + encoded.len() > COLLECTED_BYTES_MAX {
            return Err(self.fail(format!(
                "collect records: a sub-task has more than {COLLECTED_BYTES_MAX} bytes of them; write them to a file instead, \
                 with write_as_csv() or write_as_text()"
            )));
        }
        self.bytes.put_u32_le(length);
        self.bytes.put_slice(&encoded);
        Ok(())
    }
}

impl<T: Data> Push<T> for CollectWriter<T> {
    #[inline]
    fn push(&mut self, record: T, _time: Timestamp) -> Result<(), Stopped> {
        self.batch.push(record);
        if self.batch.len() >= batch_capacity::<T>() { self.encode() } else { Ok(()) }
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        let ends = matches!(control, Control::EndOfInput | Control::FinishedBefore);
        if ends || (matches!(control, Control::Barrier(_)) && self.context.takes_checkpoints()) {
            if !self.batch.is_empty() {
                self.encode()?;
            }
            self.context.keep_value(self.state.clone(), Collected(Bytes::copy_from_slice(&self.bytes)));
        }
        if ends {
            let records = std::mem::take(&mut self.bytes).freeze();
            let (collect_index, subtask) = (self.collect_index, self.context.subtask());
            self.context.hand_out(CollectedRecords { collect_index, subtask, records });
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        Ok(())
    }
}

/// The records that one sub-task gathered.
///
/// # Errors
/// The bytes are damaged, or of another record type.
pub fn read_collected<T: Data>(mut bytes: Bytes) -> Result<Vec<T>, Error> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let length = bytes.get(..LENGTH_BYTES).and_then(|length| length.try_into().ok()).map(u32::from_le_bytes);
        let length = length.and_then(|length| usize::try_from(length).ok());
        let Some(end) = length.map(|length| LENGTH_BYTES + length).filter(|end| *end <= bytes.len()) else {
            return Err(Error::Truncated { left: bytes.len() });
        };
        let batch = bytes.split_to(end);
        records.extend(decode::<T>(&batch[LENGTH_BYTES..])?);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_result_is_an_error() {
        let mut bytes = BytesMut::new();
        let batch = encode(&vec![1u64, 2]).unwrap();
        bytes.put_u32_le(u32::try_from(batch.len()).unwrap());
        bytes.put_slice(&batch);
        let bytes = bytes.freeze();
        assert_eq!(read_collected::<u64>(bytes.clone()).unwrap(), [1, 2]);
        for length in 1..bytes.len() {
            assert!(matches!(read_collected::<u64>(bytes.slice(..length)), Err(Error::Truncated { .. })));
        }
        assert!(read_collected::<u64>(Bytes::from_static(b"\xff\xff\xff\xffxxxx")).is_err());
    }
}
