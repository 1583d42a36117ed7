//! Leadership, by what coordinators wrote down: L1, one leader for each epoch; L3, no older epoch decides after a newer
//! one; L5, a leader that is cut off acknowledges nothing.

use std::collections::BTreeMap;

use tidemill_model::event::{Event, EventRecord};

use super::linearizable::describe;
use super::verdict::Verdict;
use crate::clock::nanos;
use crate::record::{Proof, Run};
use crate::schedule::Fault;

/// How long a leader that is cut off may go on acknowledging: its lease and the election time-out of the default timers
/// are 300 ms; the rest is for a machine that is busy.
const LEASE: std::time::Duration = std::time::Duration::from_millis(1000);

/// A leadership as its coordinator wrote it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    /// When its entry was applied.
    pub at: u64,
    /// Its epoch.
    pub epoch: u64,
    /// The Raft term of its election.
    pub raft_term: u64,
    /// Who led.
    pub name: String,
}

/// All leaderships that began, in the order of time.
#[must_use]
pub fn leaderships(events: &[EventRecord]) -> Vec<Leadership> {
    let start = |record: &EventRecord| {
        let Event::LeaderStart { term, raft_term, .. } = &record.event else { return None };
        let name = record.process.name.clone();
        Some(Leadership { at: record.mono_ns, epoch: term.0, raft_term: *raft_term, name })
    };
    let mut found: Vec<Leadership> = events.iter().filter_map(start).collect();
    found.sort_by_key(|leadership| leadership.at);
    found
}

/// L1: one node for each epoch and for each Raft term, and epochs grow with the terms.
#[must_use]
pub fn one_leader(events: &[EventRecord]) -> Verdict {
    let leaderships = leaderships(events);
    if leaderships.is_empty() {
        return Verdict::unknown("no leadership was written down");
    }
    let (mut epochs, mut terms) = (BTreeMap::new(), BTreeMap::new());
    for leadership in &leaderships {
        for (kind, number, owners) in
            [("epoch", leadership.epoch, &mut epochs), ("term", leadership.raft_term, &mut terms)]
        {
            let (name, at): &mut (String, u64) =
                owners.entry(number).or_insert((leadership.name.clone(), leadership.at));
            if *name != leadership.name {
                let why = format!("both {name} and {} led in {kind} {number}", leadership.name);
                return Verdict::invalid(why, Vec::new(), (*at, leadership.at));
            }
        }
    }
    let mut by_epoch = leaderships.clone();
    by_epoch.sort_by_key(|leadership| leadership.epoch);
    if let Some(pair) = by_epoch.windows(2).find(|pair| pair[0].raft_term > pair[1].raft_term) {
        let why = format!(
            "epoch {} is of term {}, but the older epoch {} of term {}",
            pair[1].epoch, pair[1].raft_term, pair[0].epoch, pair[0].raft_term
        );
        return Verdict::invalid(why, Vec::new(), (pair[0].at, pair[1].at));
    }
    Verdict::valid(format!("{} leaderships, each with an epoch and a leader of its own", leaderships.len()))
}

/// How many leaderships began between two times.
#[must_use]
pub fn changes(run: &Run, from: u64, to: u64) -> u32 {
    let begun = leaderships(&run.events).iter().filter(|leadership| (from..=to).contains(&leadership.at)).count();
    u32::try_from(begun).unwrap_or(u32::MAX)
}

/// L3: in the order of the log, the epochs of commands that had an effect never go back.
#[must_use]
pub fn no_older_decision(events: &[EventRecord]) -> Verdict {
    let mut applied: BTreeMap<u64, (u64, &EventRecord)> = BTreeMap::new();
    for record in events {
        if let Event::ProposalApplied { term, index, kind, effective: true, .. } = &record.event {
            // A leadership's first entry names the epoch that it replaces, or none.
            if kind != "LeaderStarted" {
                applied.insert(*index, (term.0, record));
            }
        }
    }
    let mut newest = 0;
    for (index, (epoch, record)) in &applied {
        if *epoch < newest {
            let why =
                format!("the command at index {index} of epoch {epoch} had an effect after one of epoch {newest}");
            return Verdict::invalid(why, vec![record.to_line()], (record.mono_ns, record.mono_ns));
        }
        newest = *epoch;
    }
    if applied.is_empty() {
        return Verdict::unknown("no applied command was written down");
    }
    Verdict::valid(format!("{} commands in the order of their epochs", applied.len()))
}

/// L5: what is asked of a leader that has been cut off for longer than its lease gets no answer from it.
#[must_use]
pub fn isolated_leader_is_silent(run: &Run, phase: &str) -> Verdict {
    let isolations = run.faults_of(phase).filter(|fault| match fault.fault {
        Fault::Isolate | Fault::IsolateOut | Fault::IsolateIn => matches!(fault.proof, Proof::Fired(_)),
        Fault::Kill
        | Fault::KillExecutor
        | Fault::PowerLoss
        | Fault::SlowSync
        | Fault::FailSync
        | Fault::DiskFull
        | Fault::DamageCheckpoint
        | Fault::Pause => false,
    });
    let (mut asked, mut cut_off) = (0, 0);
    for fault in isolations {
        cut_off += 1;
        let from = fault.from + nanos(LEASE);
        for op in &run.history {
            let beside = fault.targets.iter().any(|host| host.to_string() == op.node);
            let ended = op.returned.unwrap_or(u64::MAX);
            if !beside || op.call < from || ended > fault.to {
                continue;
            }
            asked += 1;
            if op.is_ok() {
                let why = format!("{} answered although it was cut off from all others", op.node);
                return Verdict::invalid(why, vec![describe(op)], (op.call, ended));
            }
        }
    }
    match (cut_off, asked) {
        (0, _) => Verdict::skipped("nobody was cut off"),
        (_, 0) => Verdict::unknown("nobody asked a leader that was cut off"),
        (_, asked) => Verdict::valid(format!("{asked} calls to a leader that was cut off, none of them answered")),
    }
}
