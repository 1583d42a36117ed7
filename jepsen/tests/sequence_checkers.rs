//! The checkers of exactly once and of checkpoints: a generated good run passes, and each way of spoiling it is found by
//! the checker named for it.

mod sequence_run;

use std::collections::BTreeMap;

use sequence_run::{JOB, PHASE, RECORDS, SECOND, applied, event, good, look, note, of_attempt};
use tidemill_jepsen::check;
use tidemill_jepsen::record::Run;
use tidemill_jepsen::schedule::Form;
use tidemill_jepsen::sequence::note::Did;
use tidemill_jepsen::sequence::record::{FileLook, OutputLook};
use tidemill_jepsen::sequence::{Counted, Numbered, key_of};
use tidemill_model::event::{EventFile, EventRecord};
use tidemill_model::id::CheckpointId;

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
fn a_job_with_a_damaged_checkpoint_fails_by_it_and_by_nothing_else() {
    let mut run = good();
    let record = &mut run.sequences[0];
    record.form = Form::Damaged;
    (record.jobs[0].wanted, record.jobs[0].ended) = ("FAILED".to_owned(), Some("FAILED".to_owned()));
    record.jobs[0].words = "restore failed: read file:///run/checkpoints/66/a: it is damaged".to_owned();
    assert_eq!(verdict(&run, "C5"), "valid");
    for (words, ended) in [("read 65/a: it is damaged", "FAILED"), ("66/a", "FINISHED"), ("lost", "FAILED")] {
        let job = &mut run.sequences[0].jobs[0];
        (job.words, job.ended) = (words.to_owned(), Some(ended.to_owned()));
        assert_eq!(verdict(&run, "C5"), "invalid", "{words} {ended}");
    }
}

#[test]
fn each_way_of_spoiling_a_run_is_found() {
    for (name, checker, expected, spoil) in EXACTLY_ONCE.into_iter().chain(CHECKPOINTS).chain(LEFTOVERS) {
        let mut run = good();
        spoil(&mut run);
        assert_eq!(verdict(&run, checker), expected, "{name}");
    }
}
