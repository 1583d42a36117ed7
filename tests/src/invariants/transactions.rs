//! Promise `exactly-once`, record by record: what a sink makes visible goes on where it had stopped, with nothing lost,
//! repeated or counted from another state.

use std::collections::BTreeMap;

use tidemill_model::id::{ExecutionAttemptId, ExecutionVertexId, JobId};

use crate::sim::fact::{Fact, Written};

/// How it was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A record that does not follow the one before it.
    #[error("{sink} made {record:?} visible after {before:?}")]
    OutOfOrder {
        /// Who.
        sink: ExecutionAttemptId,
        /// The record.
        record: Written,
        /// The last one of the same source.
        before: Option<Written>,
    },
}

/// Keeps the last visible record of each source at each sink.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    last: BTreeMap<(JobId, ExecutionVertexId, u32), Written>,
}

impl Transactions {
    pub(super) fn observe(&mut self, fact: &Fact<'_>) -> Result<(), Violation> {
        let Fact::Committed { sink, records } = fact else { return Ok(()) };
        for &record in *records {
            let before = self.last.insert((sink.job, sink.vertex, record.source), record);
            let follows = match before {
                None => record.count == 1,
                Some(before) => record.count == before.count + 1 && record.offset > before.offset,
            };
            if !follows {
                return Err(Violation::OutOfOrder { sink: *sink, record, before });
            }
        }
        Ok(())
    }
}
