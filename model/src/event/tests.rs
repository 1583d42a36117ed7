//! The lines' form, which programs outside of this project read.

use expect_test::expect;
use uuid::Uuid;

use super::*;

fn record(event: Event) -> EventRecord {
    let process = EventProcess {
        host: "c1".to_owned(),
        pid: 42,
        boot_id: "b".to_owned(),
        role: EventRole::Coordinator,
        name: "coordinator-1".to_owned(),
    };
    EventRecord { mono_ns: 1, wall_ns: u64::MAX, process, event }
}

#[test]
fn a_line_has_who_when_and_what_at_one_level() {
    let call = EventCall {
        kind: "deploy".to_owned(),
        term: LeaderEpoch(7),
        max_term: LeaderEpoch(9),
        task_manager: TaskManagerId(Uuid::nil()),
        job: Some(JobId(Uuid::nil())),
        attempt: Some(AttemptNumber(2)),
        ckpt: None,
    };
    let line = record(Event::RpcReject { call, reason: "stale".to_owned() }).to_line();
    expect![[r#"{"mono_ns":1,"wall_ns":18446744073709551615,"host":"c1","pid":42,"boot_id":"b","role":"coordinator","name":"coordinator-1","ev":"rpc_reject","kind":"deploy","term":7,"max_term":9,"task_manager":"00000000000000000000000000000000","job":"00000000000000000000000000000000","attempt":2,"reason":"stale"}"#]]
    .assert_eq(&line);
}

#[test]
fn records_are_read_back_as_they_were_written() {
    let job = JobId(Uuid::now_v7());
    let task_manager = TaskManagerId(Uuid::now_v7());
    let attempt = EventAttempt { job, vertex: JobVertexId(3), subtask: SubtaskIndex(1), attempt: AttemptNumber(4) };
    let events = [
        Event::LeaderStart { term: LeaderEpoch(5), raft_term: 2, node: NodeId(1) },
        Event::ProposalApplied {
            node: NodeId(1),
            term: LeaderEpoch(5),
            index: 6,
            kind: "SubmitJob".to_owned(),
            job: Some(job),
            decided: EventDecision { ckpt: Some(3), manifest_sha: Some("a".to_owned()), attempt: None },
            response: "done".to_owned(),
            effective: true,
        },
        Event::ProposalApplied {
            node: NodeId(1),
            term: LeaderEpoch(5),
            index: 7,
            kind: "RegisterBlob".to_owned(),
            job: None,
            decided: EventDecision::default(),
            response: "done".to_owned(),
            effective: true,
        },
        Event::TaskStop { attempt, task_manager, reason: "FINISHED".to_owned() },
        Event::Restore { attempt, ckpt: 8, state_sha: Some("0f".to_owned()) },
        Event::SinkCommit { job, subtask: None, ckpt: None, files: Vec::new() },
        Event::GcDelete { path: "a \"quoted\" path".to_owned() },
    ];
    for event in events {
        let record = record(event);
        let line = record.to_line();
        assert!(!line.contains('\n'), "{line}");
        assert_eq!(EventRecord::parse(&line).expect("a line"), record);
    }
}

#[test]
fn half_a_line_is_an_error_that_shows_it() {
    let error = EventRecord::parse("{\"mono_ns\":1,").expect_err("half a line");
    assert!(error.to_string().starts_with("parse event \"{\\\"mono_ns\\\":1,\""), "{error}");
}
