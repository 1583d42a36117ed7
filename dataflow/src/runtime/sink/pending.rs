//! What sinks have prepared and not committed, as a snapshot tells it to whoever has not got the program.

use tidemill_model::id::CheckpointId;

use super::FILES;
use super::rolling::PartsState;
use super::staged::StagedPosition;
use super::transactional::{OPEN, OpenTransactions};
use crate::engine::snapshot::StateIndex;
use crate::record;

/// A transaction that a snapshot has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingTransaction {
    /// The completed checkpoint that commits it; none: the end of the job does.
    pub waits_for: Option<CheckpointId>,
    /// What an operator finds it by: files, or what the sink says of it.
    pub what: String,
}

/// The transactions that a state of a snapshot has, whose value is `value`; none: it is no state of a sink.
///
/// # Errors
/// The value is of another release.
pub fn pending_transactions(
    state: &StateIndex,
    value: &[u8],
) -> Result<Option<Vec<PendingTransaction>>, record::Error> {
    let of_type = |name: &str| state.types.first().is_some_and(|known| known == name);
    let pending =
        |(waits_for, what): (Option<u64>, String)| PendingTransaction { waits_for: waits_for.map(CheckpointId), what };
    Ok(match state.id.name.as_str() {
        FILES if of_type(std::any::type_name::<PartsState>()) => {
            let parts: PartsState = state.form.decode(value)?;
            Some(parts.waiting().map(pending).collect())
        }
        FILES if of_type(std::any::type_name::<StagedPosition>()) => {
            let StagedPosition { part, length } = state.form.decode(value)?;
            Some(vec![pending((None, format!("{}, {length} bytes", part.display())))])
        }
        OPEN if of_type(std::any::type_name::<OpenTransactions>()) => {
            let OpenTransactions(open) = state.form.decode(value)?;
            Some(open.into_iter().map(pending).collect())
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::engine::snapshot::{ContentIndex, Form, Location, StateId};

    fn state<T>(name: &str, form: Form) -> StateIndex {
        let location = Location { handle: 0, offset: 0, length: 0, checksum: 0 };
        let id = StateId { operator: "sink".to_owned(), name: name.to_owned() };
        let types = vec![std::any::type_name::<T>().to_owned()];
        StateIndex { id, types, form, content: ContentIndex::Value(location) }
    }

    #[test]
    fn each_kind_of_sink_says_what_waits_for_which_checkpoint() {
        let waits = |waits_for: Option<u64>, what: &str| PendingTransaction {
            waits_for: waits_for.map(CheckpointId),
            what: what.to_owned(),
        };
        for form in [Form::Wire, Form::Described] {
            let staged = StagedPosition { part: PathBuf::from("/out/.part"), length: 7 };
            let value = form.encode(&staged).unwrap();
            let found = pending_transactions(&state::<StagedPosition>(FILES, form), &value).unwrap();
            assert_eq!(found, Some(vec![waits(None, "/out/.part, 7 bytes")]));
            let open = OpenTransactions(vec![(Some(4), "batch 40".to_owned()), (None, "batch 50".to_owned())]);
            let value = form.encode(&open).unwrap();
            let found = pending_transactions(&state::<OpenTransactions>(OPEN, form), &value).unwrap();
            assert_eq!(found, Some(vec![waits(Some(4), "batch 40"), waits(None, "batch 50")]));
            assert_eq!(pending_transactions(&state::<u64>("count", form), &[]).unwrap(), None);
            let of_a_user = pending_transactions(&state::<u64>(FILES, form), &[]).unwrap();
            assert_eq!(of_a_user, None, "another operator's state of the same name");
        }
    }
}
