//! The checkers judged: generated good histories pass, and each way of spoiling one is found by the checker named for it.

use tidemill_jepsen::check::verdict::Verdict;
use tidemill_jepsen::check::{append, linearizable, replay};
use tidemill_jepsen::history::{Answer, CallKind, Op, Outcome};
use tidemill_jepsen::seed::Stream;

const PHASE: &str = "phase";
const SEEDS: u64 = 40;

/// A history of a correct object: each operation takes effect at one moment between its call and its answer.
struct Object {
    chance: Stream,
    ops: Vec<Op>,
    register: Option<i64>,
    list: Vec<i64>,
    job: Option<&'static str>,
    index: u64,
    next_value: i64,
}

impl Object {
    fn history(seed: u64) -> Vec<Op> {
        let mut object = Self {
            chance: Stream::new(seed, "object"),
            ops: Vec::new(),
            register: None,
            list: Vec::new(),
            job: None,
            index: 0,
            next_value: 0,
        };
        // Each step is a moment; up to four calls are under way at any time.
        for moment in 1..=120 {
            object.step((moment + 10) * 1000);
        }
        // Everybody reads once more, when everything is over.
        object.answer(300_000, CallKind::Read, "r");
        object.answer(301_000, CallKind::ReadList, "l");
        object.answer(302_000, CallKind::Get, "j");
        object.answer(303_000, CallKind::List, "");
        object.ops.sort_by_key(|op| op.call);
        object.ops
    }

    fn step(&mut self, moment: u64) {
        self.next_value += 1;
        let value = self.next_value;
        let (kind, key) = match self.chance.below(10) {
            0 | 1 => (CallKind::Write { value }, "r"),
            2 => (CallKind::Cas { expect: self.register, value }, "r"),
            3 => (CallKind::Cas { expect: Some(-1), value }, "r"),
            4 => (CallKind::Read, "r"),
            5 => (CallKind::Append { value }, "l"),
            6 => (CallKind::ReadList, "l"),
            7 => (CallKind::Submit, "j"),
            8 => (CallKind::Get, "j"),
            _ if value > 80 => (CallKind::Cancel, "j"),
            _ => (CallKind::List, ""),
        };
        match self.chance.below(12) {
            // Lost on the way there, lost on the way back, or refused.
            0 => self.push(moment, kind, key, None, Outcome::Info { error: "lost".to_owned() }),
            1 => {
                self.apply(&kind);
                self.push(moment, kind, key, None, Outcome::Info { error: "lost".to_owned() });
            }
            2 => self.push(moment, kind, key, None, Outcome::Fail { error: "not the leader".to_owned() }),
            _ => self.answer(moment, kind, key),
        }
    }

    fn answer(&mut self, moment: u64, kind: CallKind, key: &str) {
        let output = self.apply(&kind);
        let index = self.index;
        self.push(moment, kind, key, Some(index), Outcome::Ok { output });
    }

    fn push(&mut self, moment: u64, kind: CallKind, key: &str, raft_index: Option<u64>, outcome: Outcome) {
        let client = moment;
        let (call, returned) = (moment - self.chance.below(1500), moment + 1 + self.chance.below(1500));
        let (phase, node, key) = (PHASE.to_owned(), "c1".to_owned(), key.to_owned());
        self.ops.push(Op {
            client,
            phase,
            call_kind: kind,
            key,
            call,
            returned: Some(returned),
            outcome,
            raft_index,
            node,
        });
    }

    fn apply(&mut self, kind: &CallKind) -> Answer {
        if !kind.is_read() {
            self.index += 1;
        }
        match kind {
            CallKind::Read => Answer::Value(self.register),
            CallKind::Write { value } => {
                self.register = Some(*value);
                Answer::Done
            }
            CallKind::Cas { expect, value } => {
                if *expect != self.register {
                    return Answer::Mismatch(self.register);
                }
                self.register = Some(*value);
                Answer::Swapped(true)
            }
            CallKind::Append { value } => {
                self.list.push(*value);
                Answer::Done
            }
            CallKind::ReadList => Answer::Elements(self.list.clone()),
            CallKind::Submit => {
                let created = self.job.is_none();
                self.job.get_or_insert("CREATED");
                Answer::Created(created)
            }
            CallKind::Cancel => match self.job {
                None => Answer::NotFound,
                Some(_) => {
                    self.job = Some("CANCELED");
                    Answer::Done
                }
            },
            CallKind::Get => self.job.map_or(Answer::NotFound, |status| Answer::Status(status.to_owned())),
            CallKind::List => {
                Answer::Jobs(self.job.map(|status| ("j".to_owned(), status.to_owned())).into_iter().collect())
            }
        }
    }
}

fn verdicts(history: &[Op]) -> [(&'static str, Verdict); 3] {
    [
        ("K1", linearizable::check(history, PHASE)),
        ("K2", replay::check(history, PHASE)),
        ("K3", append::check(history, PHASE)),
    ]
}

#[test]
fn good_histories_pass() {
    for seed in 0..SEEDS {
        let history = Object::history(seed);
        for (checker, verdict) in verdicts(&history) {
            assert_eq!(verdict.name(), "valid", "seed {seed}, {checker}: {verdict:?}");
        }
    }
}

/// Spoils a history; false when it has nothing to spoil in this way.
type Operator = fn(&mut Vec<Op>) -> bool;

fn last_ok(history: &mut [Op], wanted: impl Fn(&CallKind, &Answer) -> bool) -> Option<&mut Op> {
    history.iter_mut().rev().find(|op| op.outcome.answer().is_some_and(|answer| wanted(&op.call_kind, answer)))
}

fn set(op: Option<&mut Op>, output: Answer) -> bool {
    let Some(op) = op else { return false };
    let changed = op.outcome.answer() != Some(&output);
    op.outcome = Outcome::Ok { output };
    changed
}

const OPERATORS: [(&str, &str, Operator); 12] = [
    ("a read of what nobody wrote", "K1", |history| {
        set(last_ok(history, |kind, _| *kind == CallKind::Read), Answer::Value(Some(9999)))
    }),
    ("a read of a value that was overwritten", "K1", |history| {
        let last = history.iter().rev().find(|op| op.is_ok() && matches!(op.call_kind, CallKind::Write { .. }));
        let Some(last) = last.map(|op| op.call) else { return false };
        let old = history
            .iter()
            .filter(|op| op.is_ok() && op.latest() < last)
            .find_map(|op| if let CallKind::Write { value } = op.call_kind { Some(value) } else { None });
        let Some(old) = old else { return false };
        set(last_ok(history, |kind, _| *kind == CallKind::Read), Answer::Value(Some(old)))
    }),
    ("a swap that succeeded on another value", "K1", |history| {
        let is_failed_swap = |_: &CallKind, answer: &Answer| matches!(answer, Answer::Mismatch(_));
        set(last_ok(history, is_failed_swap), Answer::Swapped(true))
    }),
    ("an acknowledged write that a refusal hides", "K1", |history| {
        // The last write of the register never happened, says its answer; the final read shows it.
        let Some(Answer::Value(Some(shown))) =
            last_ok(history, |kind, _| *kind == CallKind::Read).and_then(|op| op.outcome.answer().cloned())
        else {
            return false;
        };
        let wrote = |op: &&mut Op| matches!(op.call_kind, CallKind::Write { value } | CallKind::Cas { value, .. } if value == shown);
        let Some(op) = history.iter_mut().find(wrote) else { return false };
        op.outcome = Outcome::Fail { error: "not the leader".to_owned() };
        true
    }),
    ("a job that runs again after it was cancelled", "K1", |history| {
        let was =
            last_ok(history, |kind, answer| *kind == CallKind::Get && *answer == Answer::Status("CANCELED".into()));
        set(was, Answer::Status("RUNNING".to_owned()))
    }),
    ("a job that is made twice", "K1", |history| {
        set(last_ok(history, |_, answer| *answer == Answer::Created(false)), Answer::Created(true))
    }),
    ("a job that is lost from the list", "K1", |history| {
        set(last_ok(history, |kind, _| *kind == CallKind::List), Answer::Jobs([].into()))
    }),
    ("an index that is given twice", "K2", |history| {
        let writes = |op: &&Op| op.is_ok() && !op.call_kind.is_read();
        let Some(index) = history.iter().find(writes).and_then(|op| op.raft_index) else { return false };
        let Some(last) = history.iter_mut().rev().find(|op| op.is_ok() && !op.call_kind.is_read()) else {
            return false;
        };
        last.raft_index.replace(index) != Some(index)
    }),
    ("an answer that stands before an older one", "K2", |history| {
        let Some(last) = history.last_mut() else { return false };
        last.raft_index = Some(1);
        true
    }),
    ("an acknowledged append that is lost", "K3", |history| {
        let is_list = |kind: &CallKind, _: &Answer| *kind == CallKind::ReadList;
        let Some(Answer::Elements(list)) = last_ok(history, is_list).and_then(|op| op.outcome.answer().cloned()) else {
            return false;
        };
        let acknowledged = |value: &i64| {
            let kind = CallKind::Append { value: *value };
            history.iter().any(|op| op.is_ok() && op.call_kind == kind)
        };
        let Some(lost) = list.iter().copied().rfind(acknowledged) else { return false };
        for op in history.iter_mut() {
            if let Outcome::Ok { output: Answer::Elements(elements) } = &mut op.outcome {
                elements.retain(|value| *value != lost);
            }
        }
        true
    }),
    ("an append that stands there twice", "K3", |history| {
        let Some(op) = last_ok(history, |kind, _| *kind == CallKind::ReadList) else { return false };
        let Outcome::Ok { output: Answer::Elements(elements) } = &mut op.outcome else { return false };
        let Some(first) = elements.first().copied() else { return false };
        elements.push(first);
        true
    }),
    ("two reads that see different orders", "K3", |history| {
        let Some(op) = last_ok(history, |kind, _| *kind == CallKind::ReadList) else { return false };
        let Outcome::Ok { output: Answer::Elements(elements) } = &mut op.outcome else { return false };
        if elements.len() < 2 {
            return false;
        }
        elements.swap(0, 1);
        true
    }),
];

#[test]
fn each_way_of_spoiling_a_history_is_found() {
    for (name, checker, spoil) in OPERATORS {
        let mut applied = 0;
        for seed in 0..SEEDS {
            let mut history = Object::history(seed);
            if !spoil(&mut history) {
                continue;
            }
            applied += 1;
            let (_, verdict) = verdicts(&history).into_iter().find(|(name, _)| *name == checker).expect("known");
            assert_eq!(verdict.name(), "invalid", "seed {seed}, {name}: {checker} says {verdict:?}");
        }
        assert!(applied >= SEEDS / 4, "{name}: only {applied} histories had anything to spoil");
    }
}

#[test]
fn an_empty_history_proves_nothing() {
    for (checker, verdict) in verdicts(&[]) {
        assert_eq!(verdict.name(), "unknown", "{checker}");
    }
}
