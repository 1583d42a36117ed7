//! The stored forms of a history, golden; and what is written reads back as it was.

use expect_test::expect;
use tidemill_jepsen::export::{edn, jsonl};
use tidemill_jepsen::history::{Answer, CallKind, Op, Outcome};

fn op(client: u64, call: u64, returned: Option<u64>, key: &str, call_kind: CallKind, outcome: Outcome) -> Op {
    let (phase, node) = ("kill-leader".to_owned(), "c2".to_owned());
    let raft_index = matches!(outcome, Outcome::Ok { .. }).then_some(call + 1);
    Op { client, phase, call_kind, key: key.to_owned(), call, returned, outcome, raft_index, node }
}

fn ok(output: Answer) -> Outcome {
    Outcome::Ok { output }
}

fn history() -> Vec<Op> {
    let lost = Outcome::Info { error: "no answer within 2s".to_owned() };
    let refused = Outcome::Fail { error: "not the \"leader\"".to_owned() };
    let jobs = Answer::Jobs([("job-1".to_owned(), "CREATED".to_owned())].into());
    vec![
        op(0, 10, Some(20), "r1", CallKind::Write { value: 3 }, ok(Answer::Done)),
        op(1, 12, Some(31), "r1", CallKind::Cas { expect: Some(3), value: 4 }, ok(Answer::Swapped(true))),
        op(2, 13, Some(32), "r1", CallKind::Cas { expect: None, value: 5 }, ok(Answer::Mismatch(Some(4)))),
        op(0, 21, Some(33), "r1", CallKind::Read, ok(Answer::Value(Some(4)))),
        op(3, 22, Some(34), "l1", CallKind::Append { value: 7 }, lost),
        op(0, 40, Some(41), "l1", CallKind::ReadList, ok(Answer::Elements(vec![7, 8]))),
        op(4, 42, Some(43), "job-1", CallKind::Submit, ok(Answer::Created(true))),
        op(4, 44, Some(45), "job-1", CallKind::Get, ok(Answer::Status("CREATED".to_owned()))),
        op(4, 46, Some(47), "", CallKind::List, ok(jobs)),
        op(4, 48, Some(49), "job-1", CallKind::Cancel, refused),
        op(5, 50, None, "r1", CallKind::Read, Outcome::Info { error: "the run ended".to_owned() }),
    ]
}

#[test]
fn the_stored_history_is_golden_and_reads_back() -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    jsonl::write(&mut bytes, &history())?;
    let text = String::from_utf8(bytes)?;
    let first_lines: Vec<&str> = text.lines().take(3).collect();
    expect![[r#"
        {"client":0,"phase":"kill-leader","op":"write","input":{"value":3},"key":"r1","call":10,"return":20,"type":"ok","output":"done","raft_index":11,"node":"c2"}
        {"client":1,"phase":"kill-leader","op":"cas","input":{"expect":3,"value":4},"key":"r1","call":12,"return":31,"type":"ok","output":{"swapped":true},"raft_index":13,"node":"c2"}
        {"client":2,"phase":"kill-leader","op":"cas","input":{"expect":null,"value":5},"key":"r1","call":13,"return":32,"type":"ok","output":{"mismatch":4},"raft_index":14,"node":"c2"}"#]].assert_eq(&first_lines.join("\n"));
    assert_eq!(jsonl::read::<Op>(text.as_bytes())?, history());
    Ok(())
}

#[test]
fn a_line_that_was_cut_off_is_ignored() -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    jsonl::write(&mut bytes, &history())?;
    bytes.truncate(bytes.len() - 5);
    assert_eq!(jsonl::read::<Op>(bytes.as_slice())?.len(), history().len() - 1);
    Ok(())
}

#[test]
fn jepsens_form_is_golden() {
    expect![[r#"
        {:index 0, :time 10, :process 0, :type :invoke, :f :write, :key "r1", :value 3}
        {:index 1, :time 12, :process 1, :type :invoke, :f :cas, :key "r1", :value [3 4]}
        {:index 2, :time 13, :process 2, :type :invoke, :f :cas, :key "r1", :value [nil 5]}
        {:index 3, :time 20, :process 0, :type :ok, :f :write, :key "r1", :value 3}
        {:index 4, :time 21, :process 0, :type :invoke, :f :read, :key "r1", :value nil}
        {:index 5, :time 22, :process 3, :type :invoke, :f :txn, :key "l1", :value [[:append "l1" 7]]}
        {:index 6, :time 31, :process 1, :type :ok, :f :cas, :key "r1", :value [3 4]}
        {:index 7, :time 32, :process 2, :type :fail, :f :cas, :key "r1", :value [nil 5]}
        {:index 8, :time 33, :process 0, :type :ok, :f :read, :key "r1", :value 4}
        {:index 9, :time 34, :process 3, :type :info, :f :txn, :key "l1", :value [[:append "l1" 7]], :error "no answer within 2s"}
        {:index 10, :time 40, :process 0, :type :invoke, :f :txn, :key "l1", :value [[:r "l1" nil]]}
        {:index 11, :time 41, :process 0, :type :ok, :f :txn, :key "l1", :value [[:r "l1" [7 8]]]}
        {:index 12, :time 42, :process 4, :type :invoke, :f :submit, :key "job-1", :value nil}
        {:index 13, :time 43, :process 4, :type :ok, :f :submit, :key "job-1", :value true}
        {:index 14, :time 44, :process 4, :type :invoke, :f :get, :key "job-1", :value nil}
        {:index 15, :time 45, :process 4, :type :ok, :f :get, :key "job-1", :value "CREATED"}
        {:index 16, :time 46, :process 4, :type :invoke, :f :list, :value nil}
        {:index 17, :time 47, :process 4, :type :ok, :f :list, :value {"job-1" "CREATED"}}
        {:index 18, :time 48, :process 4, :type :invoke, :f :cancel, :key "job-1", :value nil}
        {:index 19, :time 49, :process 4, :type :fail, :f :cancel, :key "job-1", :value nil, :error "not the \"leader\""}
        {:index 20, :time 50, :process 5, :type :invoke, :f :read, :key "r1", :value nil}
    "#]].assert_eq(&edn::write(&history()));
}

/// What Jepsen's form says of each event, read with a reader of EDN.
#[test]
fn jepsens_form_reads_back() {
    let history = history();
    let text = edn::write(&history);
    let events: Vec<Vec<(String, Edn)>> = text.lines().map(read_map).collect();
    assert_eq!(events.len(), history.len() * 2 - 1);
    for (index, event) in events.iter().enumerate() {
        assert_eq!(field(event, "index"), Some(&Edn::Number(i64::try_from(index).unwrap())));
    }
    for op in &history {
        let of_op = |event: &&Vec<(String, Edn)>| {
            field(event, "process") == Some(&Edn::Number(i64::try_from(op.client).unwrap()))
                && field(event, "time") == Some(&Edn::Number(i64::try_from(op.call).unwrap()))
        };
        let invoked = events.iter().find(of_op).expect("each call is there");
        assert_eq!(field(invoked, "type"), Some(&Edn::Keyword("invoke".to_owned())));
    }
    let swap = events.iter().find(|event| field(event, "time") == Some(&Edn::Number(12))).expect("the swap");
    assert_eq!(field(swap, "value"), Some(&Edn::Vector(vec![Edn::Number(3), Edn::Number(4)])));
    let read = events.iter().find(|event| field(event, "time") == Some(&Edn::Number(41))).expect("the read's answer");
    let elements = Edn::Vector(vec![Edn::Number(7), Edn::Number(8)]);
    let operation = Edn::Vector(vec![Edn::Keyword("r".to_owned()), Edn::Text("l1".to_owned()), elements]);
    assert_eq!(field(read, "value"), Some(&Edn::Vector(vec![operation])));
}

#[derive(Debug, PartialEq)]
enum Edn {
    Nil,
    Bool(bool),
    Number(i64),
    Text(String),
    Keyword(String),
    Vector(Vec<Edn>),
    Map(Vec<(Edn, Edn)>),
}

fn field<'a>(map: &'a [(String, Edn)], name: &str) -> Option<&'a Edn> {
    map.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

fn read_map(line: &str) -> Vec<(String, Edn)> {
    let mut rest = line;
    let Edn::Map(entries) = read_edn(&mut rest) else { panic!("no map: {line}") };
    assert_eq!(rest, "", "one map a line");
    let named = |(key, value)| if let Edn::Keyword(key) = key { (key, value) } else { panic!("no keyword: {key:?}") };
    entries.into_iter().map(named).collect()
}

fn read_edn(rest: &mut &str) -> Edn {
    *rest = rest.trim_start_matches([' ', ',']);
    if rest.starts_with('{') {
        let items = read_items(rest, '}');
        let mut pairs = Vec::new();
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            pairs.push((key, value));
        }
        return Edn::Map(pairs);
    }
    if rest.starts_with('[') {
        return Edn::Vector(read_items(rest, ']'));
    }
    if rest.starts_with('"') {
        let mut texts = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        let text = texts.next().expect("a text").expect("EDN's texts are JSON's");
        *rest = &rest[texts.byte_offset()..];
        return Edn::Text(text);
    }
    let end = rest.find([' ', ',', '}', ']']).unwrap_or(rest.len());
    let (word, behind) = rest.split_at(end);
    *rest = behind;
    match word {
        "nil" => Edn::Nil,
        "true" | "false" => Edn::Bool(word == "true"),
        _ => match word.strip_prefix(':') {
            Some(keyword) => Edn::Keyword(keyword.to_owned()),
            None => Edn::Number(word.parse().unwrap_or_else(|_| panic!("no EDN: {word}"))),
        },
    }
}

fn read_items(rest: &mut &str, end: char) -> Vec<Edn> {
    *rest = &rest[1..];
    let mut items = Vec::new();
    loop {
        *rest = rest.trim_start_matches([' ', ',']);
        if let Some(behind) = rest.strip_prefix(end) {
            *rest = behind;
            return items;
        }
        items.push(read_edn(rest));
    }
}
