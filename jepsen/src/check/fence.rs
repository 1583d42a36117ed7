//! What task managers obeyed and ran: L2, no older epoch; L4, one live execution of each attempt.

use std::collections::BTreeMap;

use tidemill_model::event::{Event, EventAttempt, EventRecord};

use super::verdict::Verdict;

/// L2: the epochs that one incarnation of a task manager obeys never go back.
#[must_use]
pub fn no_older_epoch(events: &[EventRecord]) -> Verdict {
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    let mut obeyed = 0;
    for record in in_order(events) {
        let (incarnation, epoch) = match &record.event {
            Event::RpcAccept { call } => (call.task_manager.to_string(), call.term.0),
            Event::TmRegister { leader_term, task_manager } => (task_manager.to_string(), leader_term.0),
            Event::RpcReject { .. }
            | Event::ProcessStart { .. }
            | Event::EventsLost { .. }
            | Event::LeaderStart { .. }
            | Event::LeaderStop { .. }
            | Event::ProposalApplied { .. }
            | Event::TaskStart { .. }
            | Event::TaskStop { .. }
            | Event::CkptTrigger { .. }
            | Event::CkptAck { .. }
            | Event::CkptComplete { .. }
            | Event::CkptAbort { .. }
            | Event::Restore { .. }
            | Event::SinkCommit { .. }
            | Event::GcDelete { .. } => continue,
        };
        obeyed += 1;
        let before = newest.entry(incarnation).or_insert(0);
        if epoch < *before {
            let why = format!("{} obeyed epoch {epoch} after {before}", record.process.name);
            return Verdict::invalid(why, vec![record.to_line()], (record.mono_ns, record.mono_ns));
        }
        *before = epoch;
    }
    if obeyed == 0 {
        return Verdict::unknown("no task manager wrote down what it obeyed");
    }
    Verdict::valid(format!("{obeyed} words of leaders to {} incarnations, none of an older epoch", newest.len()))
}

/// L4: an attempt starts once, and no attempt of a sub-task starts while another one of it lives.
#[must_use]
pub fn one_execution(events: &[EventRecord]) -> Verdict {
    let mut started: BTreeMap<EventAttempt, u64> = BTreeMap::new();
    let mut starts = 0;
    for record in in_order(events) {
        match &record.event {
            Event::TaskStart { attempt, .. } => {
                starts += 1;
                if let Some(at) = started.insert(*attempt, record.mono_ns) {
                    let why = format!("an attempt was started twice: {}", record.to_line());
                    return Verdict::invalid(why, vec![record.to_line()], (at, record.mono_ns));
                }
            }
            Event::RpcAccept { .. }
            | Event::TmRegister { .. }
            | Event::RpcReject { .. }
            | Event::ProcessStart { .. }
            | Event::EventsLost { .. }
            | Event::LeaderStart { .. }
            | Event::LeaderStop { .. }
            | Event::ProposalApplied { .. }
            | Event::TaskStop { .. }
            | Event::CkptTrigger { .. }
            | Event::CkptAck { .. }
            | Event::CkptComplete { .. }
            | Event::CkptAbort { .. }
            | Event::Restore { .. }
            | Event::SinkCommit { .. }
            | Event::GcDelete { .. } => {}
        }
    }
    if starts == 0 {
        Verdict::unknown("no start of a task was written down")
    } else {
        Verdict::valid(format!("{starts} attempts, each started once"))
    }
}

/// The records in the order of the machine's clock.
fn in_order(events: &[EventRecord]) -> Vec<&EventRecord> {
    let mut records: Vec<&EventRecord> = events.iter().collect();
    records.sort_by_key(|record| record.mono_ns);
    records
}

/// How many sub-tasks started or ended between two times.
#[must_use]
pub fn task_changes(events: &[EventRecord], from: u64, to: u64) -> Vec<String> {
    let changed = |record: &&EventRecord| {
        matches!(record.event, Event::TaskStart { .. } | Event::TaskStop { .. })
            && (from..=to).contains(&record.mono_ns)
    };
    in_order(events).into_iter().filter(changed).map(EventRecord::to_line).collect()
}
