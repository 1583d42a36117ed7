//! The admin part of the HTTP port: Raft as it stands, the log, and the state's checksum, as JSON.
//!
//! Read-only. Observers such as a chaos harness compare what the replicas say.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use serde_json::{Value, json};
use tidemill_proto::version::PROTOCOL_VERSION;

use super::node::{Node, Replica};
use crate::runtime::raft::LoggedEntry;
use crate::runtime::replicated_log::ReplicatedLog;

/// How many entries `/raftlog` gives unless told otherwise, and at most.
const ENTRIES: u64 = 1000;
const ENTRIES_MAX: u64 = 10_000;

type Refusal = (StatusCode, String);

type Answer = Result<([(HeaderName, &'static str); 1], String), Refusal>;

fn json_answer(value: &Value) -> Answer {
    Ok(([(CONTENT_TYPE, "application/json")], format!("{value}\n")))
}

/// Which entries: `from=N&limit=N`, both optional.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    from: u64,
    limit: u64,
}

impl Range {
    fn parse(query: &str) -> Result<Self, Refusal> {
        let mut range = Self { from: 0, limit: ENTRIES };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let wrong = || (StatusCode::BAD_REQUEST, format!("{pair:?} is neither from=N nor limit=N\n"));
            let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
            let value = value.parse().map_err(|_| wrong())?;
            match key {
                "from" => range.from = value,
                "limit" => range.limit = value.min(ENTRIES_MAX),
                _ => return Err(wrong()),
            }
        }
        Ok(range)
    }
}

fn replica(node: &Node) -> Result<Replica, Refusal> {
    let waiting = || (StatusCode::SERVICE_UNAVAILABLE, "this coordinator's directory is empty and waits\n".to_owned());
    node.replica().ok_or_else(waiting)
}

/// `/raft`: this replica, its log and what it knows of the others.
pub(super) async fn raft(State(node): State<Arc<Node>>) -> Answer {
    let replica = replica(&node)?;
    let (log, status, seen) = (&replica.log, replica.log.status(), replica.log.inspect());
    let (term, voted_for, committed) = seen.vote;
    let members = log.member_views().into_iter().map(|(id, view)| {
        json!({
            "node": id.0,
            "name": view.member.name,
            "raft": view.member.raft_address,
            "client": view.member.client_address,
            "role": if view.voter { "voter" } else { "learner" },
            "matched_index": view.matched_index,
            "lag": view.matched_index.map(|matched| status.last_log_index.saturating_sub(matched)),
            "answered_ms": view.answered.map(millis),
        })
    });
    json_answer(&json!({
        "cluster": replica.cluster.to_string(),
        "node": replica.node.0,
        "name": node.own().name,
        "protocol_version": PROTOCOL_VERSION,
        "state": seen.state,
        "term": status.term,
        "vote": { "term": term, "node": voted_for.0, "committed": committed },
        "leader": status.leader.map(|leader| leader.0),
        "epoch": log.state().read(|state| state.epoch.0),
        "last_log_index": status.last_log_index,
        "committed_index": status.committed_index,
        "applied_index": status.applied_index,
        "snapshot_index": status.snapshot_index,
        "purged_index": seen.purged_index,
        "last_quorum_ack_ms": status.since_quorum_ack.map(millis),
        "leader_heard_ms": log.staleness().map(millis),
        "membership": {
            "log_index": seen.membership_index,
            "committed": seen.membership_committed,
            "voters": seen.voters.iter().map(|set| set.iter().map(|id| id.0).collect::<Vec<_>>()).collect::<Vec<_>>(),
            "members": members.collect::<Vec<_>>(),
        },
        "alarms": log.alarms(),
    }))
}

/// `/raftlog?from=&limit=`: entries, a line of JSON each. The log begins after `purged_index` of `/raft`.
pub(super) async fn log(State(node): State<Arc<Node>>, RawQuery(query): RawQuery) -> Answer {
    let replica = replica(&node)?;
    let range = Range::parse(&query.unwrap_or_default())?;
    let entries = replica.log.entries(range.from, range.limit).await;
    let entries = entries.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")))?;
    let mut text = String::new();
    for entry in entries {
        writeln!(text, "{}", line(&entry)).expect("a String takes all text");
    }
    Ok(([(CONTENT_TYPE, "application/jsonl")], text))
}

/// `/checksum`: the state's checksum and the index up to which it is applied; equal on all replicas at one index.
pub(super) async fn checksum(State(node): State<Arc<Node>>) -> Answer {
    let replica = replica(&node)?;
    let (applied_index, checksum) = replica.log.state().checksum();
    json_answer(&json!({
        "node": replica.node.0,
        "applied_index": applied_index,
        "checksum": format!("{checksum:016x}"),
    }))
}

fn line(entry: &LoggedEntry) -> Value {
    json!({
        "index": entry.index,
        "term": entry.term,
        "kind": entry.kind,
        "epoch": entry.epoch,
        "job": entry.job.map(|job| job.to_string()),
        "text": entry.text,
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_bounded_and_a_wrong_one_is_refused_by_name() {
        assert_eq!(Range::parse("").expect("the default"), Range { from: 0, limit: ENTRIES });
        let range = Range::parse("from=7&limit=99999999").expect("sound");
        assert_eq!(range, Range { from: 7, limit: ENTRIES_MAX });
        for wrong in ["from", "from=x", "to=3", "from=-1"] {
            let (status, reason) = Range::parse(wrong).expect_err("wrong");
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert!(reason.contains(wrong), "{reason}");
        }
    }
}
