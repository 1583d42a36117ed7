//! A good run of a job over a sequence, as it would be recorded.

use std::collections::BTreeMap;

use tidemill_jepsen::history::{Answer, CallKind, Op, Outcome};
use tidemill_jepsen::host::Host;
use tidemill_jepsen::record::{FaultRecord, PhaseTimes, Proof, Run};
use tidemill_jepsen::schedule::{Fault, Form, Minimum, Work};
use tidemill_jepsen::sequence::note::{Did, Note};
use tidemill_jepsen::sequence::record::{CheckpointLook, FileLook, JobRecord, OutputLook, SequenceRecord};
use tidemill_jepsen::sequence::{Counted, Numbered, key_of};
use tidemill_model::event::{EventFile, EventRecord};
use tidemill_model::id::{CheckpointId, JobId};

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const PHASE: &str = "exactly-once";
pub(crate) const JOB: &str = "01890a5dac96774bbcceb302099a8057";
const INCARNATION: &str = "01890a5dac96774bbcceb302099a8058";
pub(crate) const RECORDS: u64 = 1_000;
const SPLITS: u64 = 4;
/// Sub-tasks of the only vertex.
const SUBTASKS: u64 = 2;

fn job() -> JobId {
    JOB.parse().expect("a job")
}

pub(crate) fn event(at: u64, role: &str, name: &str, rest: &str) -> EventRecord {
    let line = format!(
        r#"{{"mono_ns":{at},"wall_ns":1,"host":"h","pid":7,"boot_id":"b","role":"{role}","name":"{name}",{rest}}}"#
    );
    EventRecord::parse(&line).expect("an event")
}

/// Applied by two replicas, one a little later.
pub(crate) fn applied(events: &mut Vec<EventRecord>, at: u64, index: u64, kind: &str, rest: &str) {
    for (node, delay) in [(1, 0), (2, 1_000_000)] {
        let rest = format!(
            r#""ev":"proposal_applied","node":{node},"term":3,"index":{index},"kind":"{kind}","job":"{JOB}",{rest},"response":"done","effective":true"#
        );
        events.push(event(at + delay, "coordinator", &format!("c{node}"), &rest));
    }
}

pub(crate) fn of_attempt(ev: &str, subtask: u64, attempt: u64, rest: &str) -> String {
    format!(r#""ev":"{ev}","job":"{JOB}","vertex":1,"subtask":{subtask},"attempt":{attempt}{rest}"#)
}

fn scheduled(events: &mut Vec<EventRecord>, at: u64, index: u64, attempt: u64, from: Option<u64>) {
    applied(events, at, index, "RecordSchedule", &format!(r#""attempt":{attempt}"#));
    let deploy = format!(
        r#""ev":"rpc_accept","kind":"deploy","term":3,"max_term":3,"task_manager":"{INCARNATION}","job":"{JOB}","attempt":{attempt}"#
    );
    events.push(event(at + 2_000_000, "task_manager", "t1", &deploy));
    for subtask in 0..SUBTASKS {
        if let Some(id) = from {
            let rest =
                of_attempt("restore", subtask, attempt, &format!(r#","ckpt":{id},"state_sha":"{id}-{subtask}""#));
            events.push(event(at + 2_000_001, "task_manager", "t1", &rest));
        }
        let rest = of_attempt("task_start", subtask, attempt, &format!(r#","task_manager":"{INCARNATION}""#));
        events.push(event(at + 3_000_000, "task_manager", "t1", &rest));
    }
}

fn checkpoint(run: &mut Run, at: u64, index: u64, (id, attempt): (u64, u64), offset: u64) {
    let trigger = format!(r#""ev":"ckpt_trigger","job":"{JOB}","id":{id},"term":3"#);
    run.events.push(event(at, "coordinator", "c1", &trigger));
    let notes = (0..SPLITS).map(|split| note(at + 1_000_000, split, offset, Did::Snapshot));
    run.sequences[0].notes.extend(notes);
    for subtask in 0..SUBTASKS {
        let ack = of_attempt("ckpt_ack", subtask, attempt, &format!(r#","id":{id},"state_sha":"{id}-{subtask}""#));
        run.events.push(event(at + 2_000_000, "task_manager", "t1", &ack));
    }
    let rest = format!(r#""ckpt":{id},"manifest_sha":"sha-{id}""#);
    applied(&mut run.events, at + 3_000_000, index, "CompleteCheckpoint", &rest);
    let complete = format!(
        r#""ev":"ckpt_complete","job":"{JOB}","id":{id},"term":3,"manifest_sha":"sha-{id}","files":[{{"path":"{id}/a","bytes":100}}]"#
    );
    run.events.push(event(at + 4_000_000, "coordinator", "c1", &complete));
}

pub(crate) fn note(at: u64, split: u64, offset: u64, did: Did) -> Note {
    Note { at, process: 50, split, offset, did }
}

pub(crate) fn look(at: u64, retained: &[u64]) -> CheckpointLook {
    let mut files: Vec<EventFile> =
        retained.iter().map(|id| EventFile { path: format!("{id}/a"), bytes: 100 }).collect();
    // What is under way is there, too.
    files.push(EventFile { path: format!("{}/a", retained.last().map_or(1, |id| id + 1)), bytes: 7 });
    CheckpointLook {
        job: job(),
        from: at,
        to: at + 1_000_000,
        latest: retained.last().map(|id| CheckpointId(*id)),
        retained: retained.iter().map(|id| CheckpointId(*id)).collect(),
        files: Some(files),
    }
}

/// Two attempts: the second one starts from the second checkpoint of the first, which had begun a third.
pub(crate) fn good() -> Run {
    let mut run = Run {
        phases: vec![PhaseTimes {
            name: PHASE.to_owned(),
            from: SECOND,
            to: 40 * SECOND,
            minimum: Minimum { leader_changes: 0, checkpoints: 4, restores: 1 },
            work: Work::Sequence(Form::Finished),
        }],
        faults: vec![FaultRecord {
            phase: PHASE.to_owned(),
            fault: Fault::KillExecutor,
            targets: vec![Host::task_manager(1)],
            from: 5 * SECOND,
            to: 6 * SECOND,
            proof: Proof::Fired(vec!["executor 9 is gone".to_owned()]),
        }],
        sequences: vec![record()],
        ..Run::default()
    };
    scheduled(&mut run.events, SECOND, 10, 0, None);
    let opens = (0..SPLITS).map(|split| note(SECOND + 5_000_000, split, 0, Did::Open));
    run.sequences[0].notes.extend(opens);
    checkpoint(&mut run, 2 * SECOND, 11, (1, 0), 10);
    checkpoint(&mut run, 3 * SECOND, 12, (2, 0), 20);
    // The third is begun and not completed.
    let notes = (0..SPLITS).map(|split| note(4 * SECOND, split, 30, Did::Snapshot));
    run.sequences[0].notes.extend(notes);
    scheduled(&mut run.events, 6 * SECOND, 14, 1, Some(2));
    let opens = (0..SPLITS).map(|split| note(6 * SECOND + 5_000_000, split, 20, Did::Open));
    run.sequences[0].notes.extend(opens);
    checkpoint(&mut run, 7 * SECOND, 15, (65, 1), 40);
    // One split ends after that.
    run.sequences[0].notes.push(note(7 * SECOND + 500_000_000, 3, 250, Did::End));
    checkpoint(&mut run, 8 * SECOND, 16, (66, 1), 60);
    run.sequences[0].notes.retain(|note| !(note.split == 3 && note.at > 8 * SECOND));
    scheduled(&mut run.events, 9 * SECOND, 18, 2, Some(66));
    let opens = (0..SPLITS - 1).map(|split| note(9 * SECOND + 5_000_000, split, 60, Did::Open));
    run.sequences[0].notes.extend(opens);
    run.history = (0..60).map(answer).collect();
    run
}

fn answer(number: u64) -> Op {
    Op {
        client: number,
        phase: PHASE.to_owned(),
        call_kind: CallKind::Write { value: 1 },
        key: "k".to_owned(),
        call: (2 + number) * SECOND / 4,
        returned: Some((2 + number) * SECOND / 4 + 1_000_000),
        outcome: Outcome::Ok { output: Answer::Done },
        raft_index: None,
        node: "c1".to_owned(),
    }
}

fn record() -> SequenceRecord {
    let mut numbers: BTreeMap<String, String> = BTreeMap::new();
    let mut counts: BTreeMap<String, String> = BTreeMap::new();
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    for id in 0..RECORDS {
        let part = format!("part-{}-{}", id % 3, id / 500);
        *numbers.entry(part.clone()).or_default() += &format!("{}\n", Numbered::new(id).line());
        let count = seen.entry(key_of(id)).or_default();
        *count += 1;
        *counts.entry(part).or_default() += &format!("{}\n", Counted { key: key_of(id), count: *count, id }.line());
    }
    let file = |bytes| Some(FileLook { bytes, hash: bytes * 7 });
    let output = |at: u64, name: &str, file| OutputLook { at, changed: [(name.to_owned(), file)].into() };
    SequenceRecord {
        phase: PHASE.to_owned(),
        form: Form::Finished,
        records: RECORDS,
        splits: SPLITS,
        retained_max: 2,
        jobs: vec![JobRecord {
            job: job(),
            wanted: "FINISHED".to_owned(),
            ended: Some("FINISHED".to_owned()),
            words: "program: exit code 0; ".to_owned(),
        }],
        output_looks: vec![
            output(2 * SECOND, "numbers/part-0-0", file(100)),
            output(9 * SECOND, "numbers/part-0-1", file(200)),
        ],
        checkpoint_looks: vec![look(4 * SECOND, &[1, 2]), look(8 * SECOND, &[2, 65]), look(38 * SECOND, &[65, 66])],
        left: Vec::new(),
        notes: Vec::new(),
        numbers,
        counts,
    }
}
