//! The checkers of exactly once and of checkpoints: a generated good run passes, and each way of spoiling it is found by
//! the checker named for it.

use std::collections::BTreeMap;

use tidemill_jepsen::check;
use tidemill_jepsen::host::Host;
use tidemill_jepsen::record::{FaultRecord, PhaseTimes, Proof, Run};
use tidemill_jepsen::schedule::{Fault, Form, Minimum, Work};
use tidemill_jepsen::sequence::note::{Did, Note};
use tidemill_jepsen::sequence::record::{CheckpointLook, FileLook, JobRecord, OutputLook, SequenceRecord};
use tidemill_jepsen::sequence::{Counted, Numbered, key_of};
use tidemill_model::event::{EventFile, EventRecord};
use tidemill_model::id::{CheckpointId, JobId};

const SECOND: u64 = 1_000_000_000;
const PHASE: &str = "exactly-once";
const JOB: &str = "01890a5dac96774bbcceb302099a8057";
const INCARNATION: &str = "01890a5dac96774bbcceb302099a8058";
const RECORDS: u64 = 1_000;
const SPLITS: u64 = 4;
/// Sub-tasks of the only vertex.
const SUBTASKS: u64 = 2;

fn job() -> JobId {
    JOB.parse().expect("a job")
}

fn event(at: u64, role: &str, name: &str, rest: &str) -> EventRecord {
    let line = format!(
        r#"{{"mono_ns":{at},"wall_ns":1,"host":"h","pid":7,"boot_id":"b","role":"{role}","name":"{name}",{rest}}}"#
    );
    EventRecord::parse(&line).expect("an event")
}

/// Applied by two replicas, one a little later.
fn applied(events: &mut Vec<EventRecord>, at: u64, index: u64, kind: &str, rest: &str) {
    for (node, delay) in [(1, 0), (2, 1_000_000)] {
        let rest = format!(
            r#""ev":"proposal_applied","node":{node},"term":3,"index":{index},"kind":"{kind}","job":"{JOB}",{rest},"response":"done","effective":true"#
        );
        events.push(event(at + delay, "coordinator", &format!("c{node}"), &rest));
    }
}

fn of_attempt(ev: &str, subtask: u64, attempt: u64, rest: &str) -> String {
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

fn note(at: u64, split: u64, offset: u64, did: Did) -> Note {
    Note { at, process: 50, split, offset, did }
}

fn look(at: u64, retained: &[u64]) -> CheckpointLook {
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
fn good() -> Run {
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

fn answer(number: u64) -> tidemill_jepsen::history::Op {
    use tidemill_jepsen::history::{Answer, CallKind, Op, Outcome};
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

fn verdict(run: &Run, checker: &str) -> &'static str {
    let findings = check::all(run);
    let found = findings.iter().find(|finding| finding.checker == checker && finding.phase == PHASE);
    let finding = found.unwrap_or_else(|| panic!("no finding {checker}"));
    println!("{checker}: {:?}", finding.verdict);
    finding.verdict.name()
}

/// Replaces one line of a sink's first file.
fn change_line(files: &mut BTreeMap<String, String>, change: impl Fn(&str) -> String) {
    let text = files.values_mut().next().expect("there is a file");
    let (first, rest) = text.split_once('\n').expect("there is a line");
    *text = change(first) + rest;
}

/// Replaces text in the lines of events that have a mark.
fn rewrite(run: &mut Run, mark: &str, from: &str, to: &str) {
    let mut changed = 0;
    for record in &mut run.events {
        let line = record.to_line();
        if line.contains(mark) && line.contains(from) {
            *record = EventRecord::parse(&line.replace(from, to)).expect("an event");
            changed += 1;
        }
    }
    assert!(changed > 0, "{mark} with {from}: no event changed");
}

/// Name, checker, expected word, what is spoiled.
type Case = (&'static str, &'static str, &'static str, fn(&mut Run));

const EXACTLY_ONCE: [Case; 14] = [
    ("a number is lost", "X1", "invalid", |run| change_line(&mut run.sequences[0].numbers, |_| String::new())),
    ("a line is written twice", "X1", "invalid", |run| {
        change_line(&mut run.sequences[0].numbers, |line| format!("{line}\n{line}\n"));
    }),
    ("a number that nobody sent", "X1", "invalid", |run| {
        change_line(&mut run.sequences[0].numbers, |line| format!("{line}\n{}\n", Numbered::new(RECORDS).line()));
    }),
    ("a damaged line", "X1", "invalid", |run| {
        change_line(&mut run.sequences[0].numbers, |line| format!("{}\n", &line[..line.len() - 1]));
    }),
    ("a count is lost", "X1", "invalid", |run| change_line(&mut run.sequences[0].counts, |_| String::new())),
    ("a count is written twice", "X1", "invalid", |run| {
        change_line(&mut run.sequences[0].counts, |line| format!("{line}\n{line}\n"));
    }),
    ("a count jumps", "X1", "invalid", |run| {
        change_line(&mut run.sequences[0].counts, |line| {
            let counted = Counted::parse(line).expect("a count");
            format!("{}\n", Counted { count: counted.count + 1, ..counted }.line())
        });
    }),
    ("a count of another number", "X1", "invalid", |run| {
        change_line(&mut run.sequences[0].counts, |line| {
            let counted = Counted::parse(line).expect("a count");
            let other = (RECORDS..).find(|id| key_of(*id) == counted.key).expect("keys come again");
            format!("{}\n", Counted { id: other, ..counted }.line())
        });
    }),
    ("a committed file changes", "X1", "invalid", |run| {
        let looks = &mut run.sequences[0].output_looks;
        let changed = [("numbers/part-0-0".to_owned(), Some(FileLook { bytes: 100, hash: 1 }))].into();
        looks.push(OutputLook { at: 10 * SECOND, changed });
    }),
    ("a committed file vanishes", "X1", "invalid", |run| {
        let looks = &mut run.sequences[0].output_looks;
        looks.push(OutputLook { at: 10 * SECOND, changed: [("numbers/part-0-0".to_owned(), None)].into() });
    }),
    ("the job fails", "X1", "invalid", |run| run.sequences[0].jobs[0].ended = Some("FAILED".to_owned())),
    ("the job does not end", "X1", "invalid", |run| run.sequences[0].jobs[0].ended = None),
    ("its program says that it failed", "X1", "invalid", |run| {
        run.sequences[0].jobs[0].words = "program: exit code 1; ".to_owned();
    }),
    ("a cancelled job's output has a hole", "X1", "invalid", |run| {
        run.sequences[0].form = Form::Canceled;
        change_line(&mut run.sequences[0].numbers, |_| String::new());
    }),
];

const CHECKPOINTS: [Case; 16] = [
    ("an id that goes back", "C1", "invalid", |run| {
        applied(&mut run.events, 20 * SECOND, 20, "CompleteCheckpoint", r#""ckpt":64,"manifest_sha":"x""#);
    }),
    ("an id that is completed twice", "C1", "invalid", |run| {
        applied(&mut run.events, 20 * SECOND, 20, "CompleteCheckpoint", r#""ckpt":66,"manifest_sha":"sha-66""#);
    }),
    ("two manifests of one id", "C1", "invalid", |run| {
        rewrite(run, r#""ev":"ckpt_complete""#, "sha-65", "sha-other");
    }),
    ("an id that two leaders trigger", "C1", "invalid", |run| {
        let trigger = format!(r#""ev":"ckpt_trigger","job":"{JOB}","id":2,"term":9"#);
        run.events.push(event(8 * SECOND, "coordinator", "c2", &trigger));
    }),
    ("a part that is acknowledged twice differently", "C1", "invalid", |run| {
        let ack = of_attempt("ckpt_ack", 0, 0, r#","id":2,"state_sha":"other""#);
        run.events.push(event(8 * SECOND, "task_manager", "t1", &ack));
    }),
    ("no checkpoint at all", "C1", "unknown", |run| run.events.clear()),
    ("the newest checkpoint goes back", "C2", "invalid", |run| {
        run.sequences[0].checkpoint_looks[1].latest = Some(CheckpointId(1));
    }),
    ("an older checkpoint is restored", "C3", "invalid", |run| {
        rewrite(run, r#""ev":"restore""#, r#""ckpt":2"#, r#""ckpt":1"#);
    }),
    ("a checkpoint is restored that was never completed", "C3", "invalid", |run| {
        rewrite(run, r#""ev":"restore""#, r#""ckpt":2"#, r#""ckpt":3"#);
    }),
    ("one sub-task restores another checkpoint", "C3", "invalid", |run| {
        rewrite(
            run,
            r#""ev":"restore","job":"01890a5dac96774bbcceb302099a8057","vertex":1,"subtask":1"#,
            r#""ckpt":2"#,
            r#""ckpt":1"#,
        );
    }),
    ("what is restored is not what was acknowledged", "C3", "invalid", |run| {
        rewrite(run, r#""ev":"restore""#, r#""state_sha":"2-1""#, r#""state_sha":"2-0""#);
    }),
    ("a sub-task starts from nothing", "C3", "invalid", |run| {
        run.events.retain(|record| {
            !record.to_line().contains(
                r#""ev":"restore","job":"01890a5dac96774bbcceb302099a8057","vertex":1,"subtask":1,"attempt":1"#,
            )
        });
    }),
    ("nobody wrote down what was decided when", "C3", "unknown", |run| {
        run.events.retain(|record| !record.to_line().contains("RecordSchedule"));
    }),
    ("a reader begins one record later", "C4", "invalid", |run| {
        let moved = run.sequences[0].notes.iter_mut().find(|note| note.did == Did::Open && note.offset == 20);
        moved.expect("there is one").offset += 1;
    }),
    ("a reader begins at an aborted checkpoint", "C4", "invalid", |run| {
        let notes = run.sequences[0].notes.iter_mut();
        notes.filter(|note| note.did == Did::Open && note.offset == 20).for_each(|note| note.offset = 30);
    }),
    ("a split that had ended is read again", "C4", "invalid", |run| {
        run.sequences[0].notes.push(note(9 * SECOND + 6_000_000, 3, 40, Did::Open));
    }),
];

const LEFTOVERS: [Case; 7] = [
    ("a retained checkpoint lacks a file", "C5", "invalid", |run| {
        let files = run.sequences[0].checkpoint_looks[1].files.as_mut().expect("looked at");
        files.retain(|file| file.path != "65/a");
    }),
    ("a retained checkpoint's file is cut off", "C5", "invalid", |run| {
        run.sequences[0].checkpoint_looks[1].files.as_mut().expect("looked at")[0].bytes -= 1;
    }),
    ("nobody looked at the disk", "C5", "unknown", |run| run.sequences[0].checkpoint_looks.clear()),
    ("a pending file is left", "Z1", "invalid", |run| {
        run.sequences[0].left.push("pending file numbers/.part-0-7".to_owned());
    }),
    ("too many checkpoints are retained", "Z1", "invalid", |run| {
        run.sequences[0].checkpoint_looks[1].retained.insert(0, CheckpointId(1));
    }),
    ("a file that no checkpoint needs stays", "Z1", "invalid", |run| {
        let late = look(15 * SECOND, &[65, 66]);
        run.sequences[0].checkpoint_looks.insert(2, late);
        for look in &mut run.sequences[0].checkpoint_looks[2..] {
            look.files.as_mut().expect("looked at").push(EventFile { path: "3/a".to_owned(), bytes: 1 });
        }
    }),
    ("too little was restored", "V1", "unknown", |run| run.phases[0].minimum.restores = 3),
];

#[test]
fn a_good_run_passes() {
    for checker in ["X1", "C1", "C2", "C3", "C4", "C5", "Z1", "V1"] {
        assert_eq!(verdict(&good(), checker), "valid", "{checker}");
    }
}

#[test]
fn a_cancelled_jobs_output_ends_somewhere_in_each_split() {
    let mut run = good();
    let record = &mut run.sequences[0];
    record.form = Form::Canceled;
    for (sink, id_at) in [(&mut record.numbers, 0), (&mut record.counts, 2)] {
        for text in sink.values_mut() {
            let early =
                |line: &&str| line.split(' ').nth(id_at).and_then(|id| id.parse().ok()).is_some_and(|id: u64| id < 700);
            *text = text.lines().filter(early).map(|line| format!("{line}\n")).collect();
        }
    }
    assert_eq!(verdict(&run, "X1"), "valid");
}

#[test]
fn each_way_of_spoiling_a_run_is_found() {
    for (name, checker, expected, spoil) in EXACTLY_ONCE.into_iter().chain(CHECKPOINTS).chain(LEFTOVERS) {
        let mut run = good();
        spoil(&mut run);
        assert_eq!(verdict(&run, checker), expected, "{name}");
    }
}
