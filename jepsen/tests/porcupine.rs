//! K1's search against Porcupine's verdicts on published histories of etcd, where they are at hand.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tidemill_jepsen::check::models::Register;
use tidemill_jepsen::check::wgl::{self, Linearizability, Operation};
use tidemill_jepsen::history::{Answer, CallKind};

/// Where the histories are: a folder of logs, and `verdicts.csv` with a name and a verdict a line.
fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("TIDEMILL_PORCUPINE_HISTORIES").map(PathBuf::from);
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/porcupine-histories"));
    [named, Some(beside)].into_iter().flatten().find(|folder| folder.join("verdicts.csv").is_file())
}

#[test]
fn the_search_agrees_with_porcupine() {
    let Some(folder) = folder() else {
        println!("SKIPPED: no histories; TIDEMILL_PORCUPINE_HISTORIES names a folder of them");
        return;
    };
    let verdicts = std::fs::read_to_string(folder.join("verdicts.csv")).expect("readable verdicts");
    let mut agreed = 0;
    for line in verdicts.lines().filter(|line| line.contains(".log,")) {
        let (name, verdict) = line.split_once(',').expect("a name and a verdict");
        let text = std::fs::read_to_string(folder.join(name)).expect("a readable log");
        let found = wgl::check(&Register, &operations(&text), 50_000_000);
        assert_ne!(found, Linearizability::Exhausted, "{name}");
        assert_eq!(found == Linearizability::Linearizable, verdict.trim() == "true", "{name}: {found:?}");
        agreed += 1;
    }
    assert!(agreed > 0, "no verdict in {}", folder.display());
    println!("agreed on {agreed} histories");
}

/// A log's operations: `INFO  jepsen.util - PROCESS\t:TYPE\t:F\tVALUE`.
fn operations(text: &str) -> Vec<Operation<CallKind, Answer>> {
    let mut open: BTreeMap<&str, (u64, CallKind)> = BTreeMap::new();
    let mut operations = Vec::new();
    for (time, line) in (0_u64..).zip(text.lines()) {
        let Some((_, fields)) = line.split_once("jepsen.util - ") else { continue };
        let fields: Vec<&str> = fields.split('\t').map(str::trim).collect();
        let [process, kind, function, value] = fields[..] else { continue };
        if kind == ":invoke" {
            open.insert(process, (time, called(function, value)));
            continue;
        }
        let Some((call, input)) = open.remove(process) else { continue };
        let output = match (kind, &input) {
            (":ok", CallKind::Read) => Some(Answer::Value(value.parse().ok())),
            (":ok", CallKind::Write { .. }) => Some(Answer::Done),
            (":ok", CallKind::Cas { .. }) => Some(Answer::Swapped(true)),
            (":fail", CallKind::Cas { .. }) => Some(Answer::Swapped(false)),
            // A read without an answer says nothing.
            (_, CallKind::Read) => continue,
            (_, _) => None,
        };
        let latest = if output.is_some() { time } else { u64::MAX };
        operations.push(Operation { call, latest, input, output });
    }
    let unanswered = open.into_values().filter(|(_, input)| !input.is_read());
    operations.extend(unanswered.map(|(call, input)| Operation { call, latest: u64::MAX, input, output: None }));
    operations
}

fn called(function: &str, value: &str) -> CallKind {
    let numbers: Vec<i64> =
        value.trim_matches(['[', ']']).split(' ').filter_map(|number| number.parse().ok()).collect();
    match (function, &numbers[..]) {
        (":read", _) => CallKind::Read,
        (":write", [value]) => CallKind::Write { value: *value },
        (":cas", [expect, value]) => CallKind::Cas { expect: Some(*expect), value: *value },
        _ => panic!("unknown call {function} {value}"),
    }
}
