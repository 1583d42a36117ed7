//! The checkers of leadership, fencing, the undisturbed plane and leftovers: a good run passes, and each way of spoiling
//! it is found by the checker named for it.

use tidemill_jepsen::check;
use tidemill_jepsen::history::{Answer, CallKind, Op, Outcome};
use tidemill_jepsen::host::Host;
use tidemill_jepsen::process::procfs::ProcessKey;
use tidemill_jepsen::record::{
    BUCKET, ExecutorsLook, FaultRecord, JobLook, LoadLook, Output, PhaseTimes, Proof, Run, StatusLook,
};
use tidemill_jepsen::schedule::{Fault, Minimum, Work};
use tidemill_model::event::EventRecord;

const SECOND: u64 = 1_000_000_000;
const JOB: &str = r#""job":"01890a5d-ac96-774b-bcce-b302099a8057""#;
const INCARNATION: &str = r#""task_manager":"01890a5d-ac96-774b-bcce-b302099a8058""#;

fn changes(leader_changes: u32) -> Minimum {
    Minimum { leader_changes, ..Minimum::default() }
}

fn event(at: u64, role: &str, name: &str, rest: &str) -> EventRecord {
    let line = format!(
        r#"{{"mono_ns":{at},"wall_ns":1,"host":"h","pid":7,"boot_id":"b","role":"{role}","name":"{name}",{rest}}}"#
    );
    EventRecord::parse(&line).expect("an event")
}

fn coordinator(at: u64, name: &str, rest: &str) -> EventRecord {
    event(at, "coordinator", name, rest)
}

fn agent(at: u64, rest: &str) -> EventRecord {
    event(at, "task_manager", "t1", &format!("{rest},{INCARNATION}"))
}

fn applied(at: u64, name: &str, node: u64, term: u64, index: u64) -> EventRecord {
    let rest = format!(
        r#""ev":"proposal_applied","node":{node},"term":{term},"index":{index},"kind":"Chaos","response":"x","effective":true"#
    );
    coordinator(at, name, &rest)
}

/// Eight quiet seconds, then eight in which `c1`, the leader, is cut off and `c2` takes over.
fn good() -> Run {
    let task = format!(r#""ev":"task_start","vertex":0,"subtask":0,"attempt":0,{JOB}"#);
    let accept = |term: u64| format!(r#""ev":"rpc_accept","kind":"deploy","term":{term},"max_term":{term}"#);
    let mut output = Output::default();
    for bucket in 0..20 * SECOND / BUCKET {
        output.read("0-50", &format!("{bucket} 5000\n"));
    }
    let executors = vec![ProcessKey { id: 50, started: 9 }];
    let task_manager = Some(ProcessKey { id: 40, started: 5 });
    let status = |at: u64, node: u8, applied: u64| StatusLook {
        at,
        node: Host::coordinator(node),
        leader: Some(Host::coordinator(1)),
        epoch: Some(3),
        applied,
        checksum: applied * 7,
        takeovers: vec![(3, 1, 0)],
    };
    let job = |at: u64| JobLook {
        at,
        status: "RUNNING".to_owned(),
        attempts: vec![("source#0/0".to_owned(), "RUNNING".to_owned(), Some(50))],
        restarts: 0,
    };
    Run {
        phases: vec![
            PhaseTimes {
                name: "baseline".to_owned(),
                from: SECOND,
                to: 9 * SECOND,
                minimum: changes(0),
                work: Work::Stream,
            },
            PhaseTimes {
                name: "isolate".to_owned(),
                from: 9 * SECOND,
                to: 17 * SECOND,
                minimum: changes(1),
                work: Work::Stream,
            },
        ],
        faults: vec![FaultRecord {
            phase: "isolate".to_owned(),
            fault: Fault::Isolate,
            targets: vec![Host::coordinator(1)],
            from: 10 * SECOND,
            to: 15 * SECOND,
            proof: Proof::Fired(vec!["9 lost".to_owned()]),
        }],
        history: history(),
        statuses: vec![status(2 * SECOND, 1, 10), status(3 * SECOND, 2, 10), status(11 * SECOND, 2, 12)],
        jobs: [2, 8, 10, 16].map(|at| job(at * SECOND)).to_vec(),
        executors: vec![ExecutorsLook { at: SECOND / 2, host: Host::task_manager(1), task_manager, executors }],
        loads: (0..200).map(|step| LoadLook { at: step * BUCKET, runnable: 2, processors: 2 }).collect(),
        events: vec![
            coordinator(SECOND / 4, "c1", r#""ev":"leader_start","term":3,"raft_term":1,"node":1"#),
            agent(SECOND / 3, &accept(3)),
            agent(SECOND / 2, &task),
            applied(SECOND, "c1", 1, 3, 5),
            applied(SECOND + 1, "c2", 2, 3, 5),
            coordinator(11 * SECOND, "c2", r#""ev":"leader_start","term":11,"raft_term":2,"node":2"#),
            applied(12 * SECOND, "c2", 2, 11, 12),
            agent(12 * SECOND + 1, &accept(11)),
        ],
        output,
        ..Run::default()
    }
}

/// Writes that are answered, and some to the leader that is cut off, which are not.
fn history() -> Vec<Op> {
    let op = |client: u64, at: u64, node: &str, outcome: Outcome, phase: &str| Op {
        client,
        phase: phase.to_owned(),
        call_kind: CallKind::Write { value: i64::try_from(client).expect("small") },
        key: "k1".to_owned(),
        call: at,
        returned: Some(at + 1_000_000),
        outcome,
        raft_index: None,
        node: node.to_owned(),
    };
    let ok = || Outcome::Ok { output: Answer::Done };
    let mut history = Vec::new();
    for number in 0..60 {
        history.push(op(number, SECOND + number * 100_000_000, "c1", ok(), "baseline"));
        history.push(op(number + 100, 12 * SECOND + number * 10_000_000, "c2", ok(), "isolate"));
        let refused = Outcome::Fail { error: "no quorum".to_owned() };
        history.push(op(number + 200, 12 * SECOND + number * 10_000_000, "c1", refused, "isolate"));
    }
    history[0].raft_index = Some(5);
    history
}

fn verdict(run: &Run, checker: &str, phase: &str) -> &'static str {
    let findings = check::all(run);
    let found = findings.iter().find(|finding| finding.checker == checker && finding.phase == phase);
    let finding = found.unwrap_or_else(|| panic!("no finding {checker} {phase}"));
    println!("{checker} {phase}: {:?}", finding.verdict);
    finding.verdict.name()
}

/// Name, checker, phase, expected word, what is spoiled.
type Case = (&'static str, &'static str, &'static str, &'static str, fn(&mut Run));

const CASES: [Case; 20] = [
    ("two leaders of one epoch", "L1", "run", "invalid", |run| {
        let twin = r#""ev":"leader_start","term":11,"raft_term":3,"node":1"#;
        run.events.push(coordinator(13 * SECOND, "c1", twin));
    }),
    ("two leaders of one term", "L1", "run", "invalid", |run| {
        let twin = r#""ev":"leader_start","term":12,"raft_term":2,"node":1"#;
        run.events.push(coordinator(13 * SECOND, "c1", twin));
    }),
    ("nobody wrote down who leads", "L1", "run", "unknown", |run| run.events.clear()),
    ("a task manager that obeys an older epoch", "L2", "run", "invalid", |run| {
        run.events.push(agent(13 * SECOND, r#""ev":"rpc_accept","kind":"cancel","term":3,"max_term":11"#));
    }),
    ("an older epoch's command that has an effect", "L3", "run", "invalid", |run| {
        run.events.push(applied(13 * SECOND, "c2", 2, 3, 13));
    }),
    ("an attempt that is started twice", "L4", "run", "invalid", |run| {
        let task = format!(r#""ev":"task_start","vertex":0,"subtask":0,"attempt":0,{JOB}"#);
        run.events.push(agent(13 * SECOND, &task));
    }),
    ("a leader that acknowledges while it is cut off", "L5", "isolate", "invalid", |run| {
        let refused = run.history.iter_mut().find(|op| op.node == "c1" && op.phase == "isolate").expect("there is one");
        refused.outcome = Outcome::Ok { output: Answer::Done };
    }),
    ("a task that starts while masters change", "D1", "isolate", "invalid", |run| {
        let task = format!(r#""ev":"task_start","vertex":0,"subtask":0,"attempt":1,{JOB}"#);
        run.events.push(agent(13 * SECOND, &task));
    }),
    ("an executor that was replaced", "D1", "isolate", "invalid", |run| {
        let mut other = run.executors[0].clone();
        (other.at, other.executors) = (13 * SECOND, vec![ProcessKey { id: 50, started: 10 }]);
        run.executors.push(other);
    }),
    ("a takeover that restarted a task", "D1", "isolate", "invalid", |run| {
        run.statuses.last_mut().expect("there is one").takeovers.push((11, 0, 1));
    }),
    ("output that stops for two seconds", "D2", "isolate", "invalid", |run| {
        let silent = 11 * SECOND / BUCKET..13 * SECOND / BUCKET;
        run.output.buckets.values_mut().for_each(|buckets| buckets.retain(|bucket, _| !silent.contains(bucket)));
    }),
    ("output that stops while others have the machine", "D2", "isolate", "skipped", |run| {
        let silent = 11 * SECOND / BUCKET..13 * SECOND / BUCKET;
        run.output.buckets.values_mut().for_each(|buckets| buckets.retain(|bucket, _| !silent.contains(bucket)));
        run.loads.iter_mut().for_each(|look| look.runnable = 12);
    }),
    ("output at a third of the rate", "D3", "isolate", "invalid", |run| {
        let slow = 9 * SECOND / BUCKET..;
        let buckets = run.output.buckets.values_mut().flatten();
        buckets.filter(|(bucket, _)| slow.contains(bucket)).for_each(|(_, count)| *count /= 3);
    }),
    ("a write that waits for six seconds", "R1", "isolate", "invalid", |run| {
        run.history.retain(|op| op.phase == "baseline" || op.node == "c1");
        let mut late = run.history[0].clone();
        (late.call, late.returned, late.node) = (16 * SECOND, Some(16 * SECOND + 1), "c2".to_owned());
        run.history.push(late);
    }),
    ("replicas that applied different things", "K2", "run", "invalid", |run| {
        let other = applied(13 * SECOND, "c3", 3, 3, 5).to_line().replace("Chaos", "CancelJob");
        run.events.push(EventRecord::parse(&other).expect("an event"));
    }),
    ("replicas in different states", "K2", "run", "invalid", |run| run.statuses[1].checksum += 1),
    ("an acknowledged write that nobody applied", "K2", "run", "invalid", |run| {
        run.history[3].raft_index = Some(77);
    }),
    ("a panic in a log", "P1", "run", "invalid", |run| run.complaints.push("c1-1.err: panicked at".to_owned())),
    ("a process that is left", "Z1", "run", "invalid", |run| run.leftovers.push("process 9".to_owned())),
    ("a fault that did not fire", "V1", "isolate", "unknown", |run| {
        run.faults[0].proof = Proof::NotFired("nothing was lost".to_owned());
    }),
];

#[test]
fn a_good_run_passes() {
    let run = good();
    for (_, checker, phase, _, _) in CASES {
        assert_eq!(verdict(&run, checker, phase), "valid", "{checker} {phase}");
    }
}

#[test]
fn each_way_of_spoiling_a_run_is_found() {
    for (name, checker, phase, expected, spoil) in CASES {
        let mut run = good();
        spoil(&mut run);
        assert_eq!(verdict(&run, checker, phase), expected, "{name}");
    }
}
