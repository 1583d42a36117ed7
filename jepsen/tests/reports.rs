//! Reports: every drawing is well-formed XML, whatever names and messages contain, and a stored run reads back.

use tidemill_jepsen::check;
use tidemill_jepsen::check::verdict::{Finding, Totals, Verdict};
use tidemill_jepsen::history::{Answer, CallKind, Op, Outcome};
use tidemill_jepsen::host::Host;
use tidemill_jepsen::record::{BUCKET, FaultRecord, Output, PhaseTimes, Proof, Run};
use tidemill_jepsen::report::{figures, html, lanes};
use tidemill_jepsen::rundir::{Environment, RunDir, Verdicts};
use tidemill_jepsen::schedule::{self, Fault, Minimum, Work};
use tidemill_model::event::EventRecord;

const SECOND: u64 = 1_000_000_000;
const HOSTILE: &str = "a <b> & \"c\" 'd' \u{1} ]]> </svg>";

fn changes(leader_changes: u32) -> Minimum {
    Minimum { leader_changes, ..Minimum::default() }
}

fn event(at: u64, role: &str, name: &str, rest: &str) -> EventRecord {
    let line = format!(
        r#"{{"mono_ns":{at},"wall_ns":1,"host":"h","pid":7,"boot_id":"b","role":"{role}","name":"{name}",{rest}}}"#
    );
    EventRecord::parse(&line).expect("an event")
}

fn run() -> Run {
    let (phase, node) = ("kill-leader".to_owned(), "c1".to_owned());
    let op = |client: u64, call: u64, outcome: Outcome| Op {
        client,
        phase: phase.clone(),
        call_kind: CallKind::Write { value: 1 },
        key: "k1".to_owned(),
        call,
        returned: Some(call + 3_000_000),
        outcome,
        raft_index: Some(client),
        node: node.clone(),
    };
    let error = HOSTILE.to_owned();
    let mut output = Output::default();
    for bucket in SECOND / BUCKET..9 * SECOND / BUCKET {
        output.read("0-7", &format!("{bucket} 5000\n"));
    }
    let task = r#""vertex":0,"subtask":0,"attempt":0,"job":"01890a5d-ac96-774b-bcce-b302099a8057""#;
    let incarnation = r#""task_manager":"01890a5d-ac96-774b-bcce-b302099a8058""#;
    Run {
        phases: vec![
            PhaseTimes {
                name: "baseline".to_owned(),
                from: SECOND,
                to: 3 * SECOND,
                minimum: changes(0),
                work: Work::Stream,
            },
            PhaseTimes {
                name: phase.clone(),
                from: 3 * SECOND,
                to: 9 * SECOND,
                minimum: changes(1),
                work: Work::Stream,
            },
        ],
        faults: vec![FaultRecord {
            phase: phase.clone(),
            fault: Fault::Kill,
            targets: vec![Host::coordinator(1)],
            from: 4 * SECOND,
            to: 6 * SECOND,
            proof: Proof::Fired(vec![HOSTILE.to_owned()]),
        }],
        history: vec![
            op(1, 2 * SECOND, Outcome::Ok { output: Answer::Done }),
            op(2, 4 * SECOND, Outcome::Fail { error: error.clone() }),
            op(3, 5 * SECOND, Outcome::Info { error }),
        ],
        events: vec![
            event(SECOND, "coordinator", HOSTILE_NAME, r#""ev":"leader_start","term":3,"raft_term":1,"node":1"#),
            event(5 * SECOND, "coordinator", "c2", r#""ev":"leader_start","term":9,"raft_term":2,"node":2"#),
            event(SECOND, "task_manager", "t1", &format!(r#""ev":"task_start",{task},{incarnation}"#)),
            event(
                9 * SECOND,
                "task_manager",
                "t1",
                &format!(r#""ev":"task_stop",{task},{incarnation},"reason":"canceled""#),
            ),
        ],
        output,
        ..Run::default()
    }
}

/// A name that is well-formed JSON without escapes and not XML.
const HOSTILE_NAME: &str = "<c1> & co";

#[test]
fn every_drawing_is_well_formed() {
    for run in [run(), Run::default()] {
        let drawings = lanes::all(&run);
        assert_eq!(drawings.len(), 6);
        for drawing in drawings {
            if let Err(error) = roxmltree::Document::parse(&drawing) {
                panic!("{error}: {drawing}");
            }
        }
    }
}

#[test]
fn a_report_shows_verdicts_proofs_and_the_command() {
    let run = run();
    let why = Verdict::invalid(HOSTILE, vec![HOSTILE.to_owned()], (SECOND, u64::MAX));
    let findings = vec![Finding { checker: "K1".to_owned(), phase: "kill-leader".to_owned(), verdict: why }];
    let verdicts = Verdicts { totals: Totals::of(&findings), findings, figures: figures::of(&run) };
    let html = html(&run, &verdicts, &environment());
    for expected in
        ["0 passed, 1 failed, 0 skipped", "<td class=\"invalid\"", "a &lt;b&gt; &amp; &quot;c&quot;", "again 7"]
    {
        assert!(html.contains(expected), "{expected} is missing");
    }
    assert!(!html.contains("<b>") && !html.contains("http://localhost"), "what comes from outside is escaped");
    assert_eq!(html.matches("<svg").count(), 6);
}

fn environment() -> Environment {
    Environment {
        seed: 7,
        net: "veth".to_owned(),
        containment: "Cgroups".to_owned(),
        kernel: "6".to_owned(),
        commit: "abc".to_owned(),
        load: "0.1".to_owned(),
        missing: vec![HOSTILE.to_owned()],
        command: "again 7".to_owned(),
    }
}

#[test]
fn a_stored_run_reads_back_and_is_judged_the_same() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let stored = RunDir::new(&folder.path().join("run"));
    stored.begin(&schedule::smoke(7), &environment())?;
    let run = run();
    stored.store(&run)?;
    std::fs::create_dir(stored.file("events"))?;
    let lines: String = run.events.iter().map(|event| event.to_line() + "\n").collect();
    // The second process was killed while it wrote.
    std::fs::write(stored.file("events").join("a.jsonl"), lines + "{\"mono_ns\":1")?;
    let loaded = stored.load()?;
    assert_eq!((&loaded.history, &loaded.phases, &loaded.faults), (&run.history, &run.phases, &run.faults));
    assert_eq!(loaded.output, run.output);
    assert_eq!(check::all(&loaded), check::all(&run));
    assert_eq!(stored.read::<schedule::Schedule>("schedule.json")?, schedule::smoke(7));
    Ok(())
}
