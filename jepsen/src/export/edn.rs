//! Jepsen's history form: one EDN map a line, which Knossos and Elle read.
//!
//! Register operations are `:read`, `:write` and `:cas`; lists are transactions, `:txn [[:append k v]]` and
//! `:txn [[:r k [..]]]`, as Elle wants them; job operations keep their names.

use std::fmt::Write;

use crate::history::{Answer, CallKind, Op, Outcome};

/// The history as EDN, invocations and completions in the order of time.
#[must_use]
pub fn write(history: &[Op]) -> String {
    let mut events: Vec<(u64, bool, &Op)> = Vec::with_capacity(history.len() * 2);
    for op in history {
        events.push((op.call, false, op));
        if let Some(returned) = op.returned {
            events.push((returned, true, op));
        }
    }
    events.sort_by_key(|(time, is_end, op)| (*time, *is_end, op.client));
    let mut text = String::new();
    for (index, (time, is_end, op)) in events.into_iter().enumerate() {
        let kind = if is_end { completion(op) } else { "invoke" };
        let (client, name) = (op.client, function(&op.call_kind));
        let value = if is_end { completed(op) } else { invoked(op) };
        let mut line = format!("{{:index {index}, :time {time}, :process {client}, :type :{kind}, :f :{name}");
        if !op.key.is_empty() {
            write_to(&mut line, format_args!(", :key {:?}", op.key));
        }
        write_to(&mut line, format_args!(", :value {value}"));
        match &op.outcome {
            Outcome::Fail { error } | Outcome::Info { error } if is_end => {
                write_to(&mut line, format_args!(", :error {error:?}"));
            }
            Outcome::Ok { .. } | Outcome::Fail { .. } | Outcome::Info { .. } => {}
        }
        text.push_str(&line);
        text.push_str("}\n");
    }
    text
}

/// A swap that found another value is a failure in Jepsen's words.
fn completion(op: &Op) -> &'static str {
    match op.outcome.answer() {
        Some(Answer::Swapped(false) | Answer::Mismatch(_)) => "fail",
        Some(
            Answer::Done
            | Answer::Swapped(true)
            | Answer::Value(_)
            | Answer::Elements(_)
            | Answer::Created(_)
            | Answer::Status(_)
            | Answer::NotFound
            | Answer::Jobs(_),
        )
        | None => op.outcome.name(),
    }
}

fn write_to(line: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = line.write_fmt(arguments);
}

fn function(kind: &CallKind) -> &'static str {
    match kind {
        CallKind::Append { .. } | CallKind::ReadList => "txn",
        CallKind::Read
        | CallKind::Write { .. }
        | CallKind::Cas { .. }
        | CallKind::Submit
        | CallKind::Cancel
        | CallKind::Get
        | CallKind::List => kind.name(),
    }
}

fn optional(value: Option<i64>) -> String {
    value.map_or_else(|| "nil".to_owned(), |value| value.to_string())
}

fn invoked(op: &Op) -> String {
    match &op.call_kind {
        CallKind::Write { value } => value.to_string(),
        CallKind::Cas { expect, value } => format!("[{} {value}]", optional(*expect)),
        CallKind::Append { value } => format!("[[:append {:?} {value}]]", op.key),
        CallKind::ReadList => format!("[[:r {:?} nil]]", op.key),
        CallKind::Read | CallKind::Submit | CallKind::Cancel | CallKind::Get | CallKind::List => "nil".to_owned(),
    }
}

fn completed(op: &Op) -> String {
    match (&op.call_kind, op.outcome.answer()) {
        (CallKind::Read, Some(Answer::Value(value))) => optional(*value),
        (CallKind::ReadList, Some(Answer::Elements(elements))) => {
            format!("[[:r {:?} {elements}]]", op.key, elements = list(elements))
        }
        (CallKind::Submit, Some(Answer::Created(created))) => created.to_string(),
        (CallKind::Get | CallKind::Cancel, Some(Answer::Status(status))) => format!("{status:?}"),
        (CallKind::Get | CallKind::Cancel, Some(Answer::NotFound)) => ":not-found".to_owned(),
        (CallKind::List, Some(Answer::Jobs(jobs))) => {
            let jobs: Vec<String> = jobs.iter().map(|(job, status)| format!("{job:?} {status:?}")).collect();
            format!("{{{}}}", jobs.join(", "))
        }
        (
            CallKind::Read
            | CallKind::Write { .. }
            | CallKind::Cas { .. }
            | CallKind::Append { .. }
            | CallKind::ReadList
            | CallKind::Submit
            | CallKind::Cancel
            | CallKind::Get
            | CallKind::List,
            _,
        ) => invoked(op),
    }
}

fn list(elements: &[i64]) -> String {
    let elements: Vec<String> = elements.iter().map(i64::to_string).collect();
    format!("[{}]", elements.join(" "))
}
