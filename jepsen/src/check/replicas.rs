//! K2, across replicas: what they applied is the same at each index, what was acknowledged is there, and states agree.

use std::collections::BTreeMap;

use tidemill_model::event::{Event, EventRecord};

use super::linearizable::describe;
use super::verdict::Verdict;
use crate::history::{CallKind, Op};
use crate::host::Host;
use crate::record::{Run, StatusLook};

/// Judges the whole run.
#[must_use]
pub fn check(run: &Run) -> Verdict {
    let applied = match applied(&run.events) {
        Ok(applied) => applied,
        Err(verdict) => return verdict,
    };
    let present = acknowledged_are_there(&run.history, &applied);
    let states = states_agree(&run.statuses);
    present.map_or(states.clone(), |verdict| verdict.worst(states))
}

/// Index, with the command's name and answer.
type Applied = BTreeMap<u64, (String, String)>;

fn applied(events: &[EventRecord]) -> Result<Applied, Verdict> {
    let mut applied: BTreeMap<u64, (String, String, &EventRecord)> = BTreeMap::new();
    for record in events {
        let Event::ProposalApplied { index, kind, response, .. } = &record.event else { continue };
        let known = applied.entry(*index).or_insert((kind.clone(), response.clone(), record));
        if (&known.0, &known.1) != (kind, response) {
            let (one, other) = (known.2, record);
            let why =
                format!("{} and {} applied different things at index {index}", one.process.name, other.process.name);
            let between = (one.mono_ns.min(other.mono_ns), one.mono_ns.max(other.mono_ns));
            return Err(Verdict::invalid(why, vec![one.to_line(), other.to_line()], between));
        }
    }
    Ok(applied.into_iter().map(|(index, (kind, response, _))| (index, (kind, response))).collect())
}

/// `durable-before-visible`: an acknowledged decision stands in the log, as what it was.
fn acknowledged_are_there(history: &[Op], applied: &Applied) -> Option<Verdict> {
    if applied.is_empty() {
        return Some(Verdict::unknown("no applied command was written down"));
    }
    for op in history.iter().filter(|op| op.is_ok()) {
        let (Some(index), Some(expected)) = (op.raft_index, command(&op.call_kind)) else { continue };
        // A replica that took a snapshot never applied what it spared.
        match applied.get(&index) {
            Some((kind, _)) if kind == expected => {}
            Some((kind, _)) => {
                let why = format!("index {index} was acknowledged as {expected}, but {kind} stands there");
                return Some(Verdict::invalid(why, vec![describe(op)], (op.call, op.latest())));
            }
            None => {
                let why = format!("{expected} was acknowledged at index {index}, which nobody applied");
                return Some(Verdict::invalid(why, vec![describe(op)], (op.call, op.latest())));
            }
        }
    }
    None
}

fn command(kind: &CallKind) -> Option<&'static str> {
    match kind {
        CallKind::Write { .. } | CallKind::Cas { .. } | CallKind::Append { .. } => Some("Chaos"),
        CallKind::Submit => Some("SubmitJob"),
        CallKind::Cancel => Some("CancelJob"),
        CallKind::Read | CallKind::ReadList | CallKind::Get | CallKind::List => None,
    }
}

/// Replicas that have applied the log up to the same index hold the same state, byte for byte.
fn states_agree(statuses: &[StatusLook]) -> Verdict {
    let mut states: BTreeMap<u64, (u64, Host, u64)> = BTreeMap::new();
    let mut compared = 0;
    for look in statuses.iter().filter(|look| look.applied > 0) {
        let (checksum, node, at) = *states.entry(look.applied).or_insert((look.checksum, look.node, look.at));
        if checksum != look.checksum {
            let why = format!("{node} and {} hold different states at index {}", look.node, look.applied);
            return Verdict::invalid(why, Vec::new(), (at, look.at));
        }
        compared += usize::from(node != look.node);
    }
    match compared {
        0 => Verdict::unknown("no two replicas were seen at the same index"),
        _ => Verdict::valid(format!("logs agree; {compared} comparisons of states at the same index agree")),
    }
}
