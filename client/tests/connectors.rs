//! Built-in sources and sinks in an embedded cluster: files with every sort of damage, folders, sockets, parts.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do fails the test")]

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::{BadRecord, CsvOptions, Environment, Error, JsonOptions, OutputTag, SocketOptions};
use tidemill_model::execution::{Failure, FailureKind};

fn environment(parallelism: u32) -> Environment {
    let parallelism = parallelism.to_string();
    Environment::with_arguments(["-p", &parallelism, "-D", "restart-strategy.type=none"]).unwrap()
}

fn failure(result: Result<tidemill::JobExecutionResult, Error>) -> Failure {
    match result {
        Err(Error::JobFailed { failure, .. }) => failure,
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("the job finished"),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Person {
    name: String,
    age: u8,
}

fn people(count: u32) -> Vec<Person> {
    (0..count).map(|number| Person { name: format!("p{number}"), age: u8::try_from(number % 100).unwrap() }).collect()
}

#[test]
fn lines_of_many_files_are_read_once_and_in_order_by_a_single_reader() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for file in 0..30 {
        let lines: Vec<String> = (0..file * 50).map(|line| format!("line {line} of file {file:02}")).collect();
        fs::write(folder.path().join(format!("{file:02}")), lines.join("\n")).unwrap();
        all.extend(lines);
    }
    for parallelism in 1..=3 {
        let env = environment(parallelism);
        let lines = env.read_text_file(folder.path()).collect();
        let mut lines = env.execute("lines").unwrap().collected(&lines).unwrap();
        if parallelism > 1 {
            lines.sort();
            all.sort();
        }
        assert_eq!(lines, all, "{parallelism}");
    }
}

#[test]
fn csv_and_json_files_are_read_in_parallel_as_they_were_written() {
    let people = people(5000);
    for parallelism in 1..=3 {
        let folder = tempfile::tempdir().unwrap();
        let (csv, json) = (folder.path().join("csv"), folder.path().join("json"));
        let env = environment(parallelism);
        env.from_collection(people.clone()).write_as_csv(&csv, "\r\n", ";");
        env.from_collection(people.clone()).write_as_json(&json);
        env.execute("write").unwrap();
        let from_csv = env.read_csv_with::<Person>(&csv, CsvOptions::default().delimiter(';')).collect();
        let from_json = env.read_json_lines::<Person>(&json).collect();
        let result = env.execute("read").unwrap();
        for read in [from_csv, from_json] {
            let mut read = result.collected(&read).unwrap();
            read.sort();
            let mut expected = people.clone();
            expected.sort();
            assert_eq!(read, expected);
        }
    }
}

#[test]
fn every_file_of_a_folder_has_its_own_header_and_splits_know_it() {
    let folder = tempfile::tempdir().unwrap();
    let people = people(3000);
    let (first, second) = people.split_at(2000);
    let by_name: String = first.iter().map(|person| format!("{},{}\n", person.name, person.age)).collect();
    let by_age: String = second.iter().map(|person| format!("{},{}\n", person.age, person.name)).collect();
    fs::write(folder.path().join("a"), format!("name,age\n{by_name}")).unwrap();
    fs::write(folder.path().join("b"), format!("age,name\n{by_age}")).unwrap();
    fs::write(folder.path().join("c"), "").unwrap();
    for parallelism in 1..=3 {
        let env = environment(parallelism);
        let read = env.read_csv_with::<Person>(folder.path(), CsvOptions::default().header(true)).collect();
        let mut read = env.execute("read").unwrap().collected(&read).unwrap();
        read.sort();
        let mut expected = people.clone();
        expected.sort();
        assert_eq!(read, expected);
    }
}

/// What a CSV file with the header `name,age` and limits makes of a reading job.
fn read_damaged_csv(text: &[u8]) -> (Failure, Vec<Person>, Vec<BadRecord>, i64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people.csv");
    fs::write(&path, text).unwrap();
    let options = || CsvOptions::default().header(true).max_line_bytes(1000);
    let env = environment(2);
    env.read_csv_with::<Person>(&path, options()).discard();
    let failure = failure(env.execute("fail"));
    assert_eq!((failure.kind, failure.operator.as_deref()), (FailureKind::InvalidInput, Some("Source: CSV file")));
    assert!(failure.message.contains(path.to_str().unwrap()), "{}", failure.message);
    let skipping = options().skip_bad_records(env.counter("bad"));
    let kept = env.read_csv_with::<Person>(&path, skipping).collect();
    let tag = OutputTag::new("bad");
    let diverting = env.read_csv_with::<Person>(&path, options().divert_bad_records(&tag));
    let bad = diverting.side_output(&tag).collect();
    let good = diverting.collect();
    let result = env.execute("go on").unwrap();
    let kept = result.collected(&kept).unwrap();
    assert_eq!(result.collected(&good).unwrap(), kept);
    (failure, kept, result.collected(&bad).unwrap(), result.counter("bad").unwrap())
}

#[test]
fn damaged_csv_lines_fail_the_job_or_are_counted_or_diverted() {
    let huge = "x".repeat(5000);
    let cases: [(&[u8], u64, &str); 6] = [
        (b"many", 1, "1 fields where the first line has 2"),
        (b"Bo,4,5", 1, "3 fields where the first line has 2"),
        (b"Bo,four", 1, "field \"age\": invalid digit"),
        (b"Bo,400", 1, "field \"age\": number too large"),
        (b"\xffo,4", 1, "byte 0 of the line is no UTF-8"),
        (huge.as_bytes(), 1, "the line is longer than 1000 bytes"),
    ];
    for (line, count, reason) in cases {
        let text = [b"name,age\nAnn,30\n", line, b"\n\nCy,5"].concat();
        let (failure, kept, bad, counted) = read_damaged_csv(&text);
        assert!(failure.message.contains(reason), "{} has no {reason}", failure.message);
        assert!(failure.message.contains("line 3, byte 16"), "{}", failure.message);
        assert_eq!(kept.iter().map(|person| person.name.as_str()).collect::<Vec<_>>(), ["Ann", "Cy"]);
        assert_eq!((counted, bad.len() as u64), (1, count));
        assert_eq!((bad[0].byte, bad[0].line), (16, Some(3)));
        assert!(bad[0].file.ends_with("people.csv"));
    }
    for header in [b"\"name,age".as_slice(), huge.as_bytes()] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), [header, b"\nAnn,30\n"].concat()).unwrap();
        let env = environment(1);
        let options = CsvOptions::default().header(true).max_line_bytes(1000).skip_bad_records(env.counter("bad"));
        env.read_csv_with::<Person>(folder.path(), options).discard();
        let failure = failure(env.execute("header"));
        assert!(failure.message.contains("line 1, byte 0"), "{}", failure.message);
    }
    let (failure, kept, ..) = read_damaged_csv(b"name,age\nAnn,30\n\"Bo");
    assert!(failure.message.contains("field 1: the closing quote is missing"), "{}", failure.message);
    assert_eq!(kept.len(), 1);
}

#[test]
fn a_truncated_json_line_names_its_place_and_a_wrong_value_its_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people.json");
    let cases = [
        (r#"{"name": "Bo", "a"#, "EOF while parsing a string at column"),
        (r#"{"name": "Bo", "age": "x"}"#, "field \"age\": invalid type: string \"x\""),
        (r#"{"name": "Bo"}"#, "missing field `age`"),
    ];
    let good = r#"{"name": "Ann", "age": 30}"#;
    for (line, reason) in cases {
        fs::write(&path, format!("{good}\n{line}")).unwrap();
        let env = environment(1);
        env.read_json_lines::<Person>(&path).discard();
        let failure = failure(env.execute("read"));
        assert_eq!(failure.kind, FailureKind::InvalidInput);
        let place = format!("line 2, byte {}", good.len() + 1);
        assert!(failure.message.contains(&place) && failure.message.contains(reason), "{}: {reason}", failure.message);
        let options = JsonOptions::default().skip_bad_records(env.counter("bad"));
        let kept = env.read_json_lines_with::<Person>(&path, options).collect();
        let result = env.execute("skip").unwrap();
        assert_eq!((result.collected(&kept).unwrap().len(), result.counter("bad")), (1, Some(1)));
    }
}

#[test]
fn empty_files_have_no_records_and_missing_ones_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (empty, missing) = (folder.path().join("empty"), folder.path().join("missing"));
    fs::write(&empty, "").unwrap();
    let env = environment(2);
    let csv = env.read_csv_with::<Person>(&empty, CsvOptions::default().header(true)).collect();
    let json = env.read_json_lines::<Person>(&empty).collect();
    let result = env.execute("empty").unwrap();
    assert_eq!(result.collected(&csv).unwrap().len() + result.collected(&json).unwrap().len(), 0);
    env.read_json_lines::<Person>(&missing).discard();
    let failure = failure(env.execute("missing"));
    assert_eq!((failure.kind, failure.operator.as_deref()), (FailureKind::InvalidInput, Some("Source: JSON lines")));
    let expected = format!("discover splits of \"Source: JSON lines\": list {}: No such file", missing.display());
    assert!(failure.message.starts_with(&expected), "{}", failure.message);
}

#[test]
fn a_file_that_vanishes_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "one").unwrap();
    fs::write(folder.path().join("b"), "two").unwrap();
    let env = environment(1);
    let second = folder.path().join("b");
    env.read_text_file(folder.path()).for_each(move |line| {
        assert_eq!(line, "one");
        fs::remove_file(&second).unwrap();
    });
    let failure = failure(env.execute("vanish"));
    let expected =
        format!("open split {} from byte 0 to 3 of \"Source: text file\"", folder.path().join("b").display());
    assert!(failure.message.starts_with(&expected), "{}", failure.message);
    assert_eq!(failure.kind, FailureKind::InvalidInput);
}

#[test]
fn files_that_appear_in_a_watched_folder_are_read_once() {
    for parallelism in 1..=3 {
        let folder = tempfile::tempdir().unwrap();
        let inbox = folder.path().to_owned();
        let put = move |name: u32| {
            let text: String = (0..10).map(|line| format!("{name} {line}\n")).collect();
            fs::write(inbox.join(".new"), text).unwrap();
            fs::rename(inbox.join(".new"), inbox.join(name.to_string())).unwrap();
        };
        put(0);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&seen);
        let env = environment(parallelism);
        env.watch_text_files(folder.path(), Duration::from_millis(5))
            .for_each(move |line| {
                let mut seen = lines.lock().unwrap();
                seen.push(line);
                match u32::try_from(seen.len()).unwrap() {
                    200 => {
                        drop(seen);
                        panic!("all is read");
                    }
                    count if count % 10 == 0 => put(count / 10),
                    _ => {}
                }
            })
            .set_parallelism(1);
        assert!(failure(env.execute("watch")).message.contains("all is read"));
        let mut seen = seen.lock().unwrap().clone();
        seen.sort();
        let mut expected: Vec<_> = (0..20).flat_map(|name| (0..10).map(move |line| format!("{name} {line}"))).collect();
        expected.sort();
        assert_eq!(seen, expected);
    }
}

#[test]
fn a_socket_is_read_line_by_line_over_several_connections() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let sender = std::thread::spawn(move || {
        for text in ["one\r\ntw", "o\nthree\n", "four"] {
            let mut connection = server.accept().unwrap().0;
            for part in text.as_bytes().chunks(2) {
                connection.write_all(part).unwrap();
                connection.flush().unwrap();
            }
        }
    });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&seen);
    let env = environment(2);
    let options = SocketOptions::default().reconnect(Some(3), Duration::from_millis(1));
    env.socket_text_stream_with("127.0.0.1", port, options).for_each(move |line| lines.lock().unwrap().push(line));
    let failure = failure(env.execute("socket"));
    sender.join().unwrap();
    assert_eq!(failure.operator.as_deref(), Some("Source: socket"));
    assert!(failure.message.starts_with(&format!("connect to 127.0.0.1:{port}: ")), "{}", failure.message);
    assert_eq!(*seen.lock().unwrap(), ["one", "tw", "o", "three", "four"]);
}

#[test]
fn a_generator_makes_every_number_once() {
    for parallelism in 1..=3 {
        let env = environment(parallelism);
        let squares = env.generate(3..103, |number| number * number, Some(1_000_000)).collect();
        let mut squares = env.execute("squares").unwrap().collected(&squares).unwrap();
        squares.sort_unstable();
        assert_eq!(squares, (3..103).map(|number| number * number).collect::<Vec<u64>>());
    }
}

#[test]
fn parts_appear_by_size_and_by_age_and_hold_everything() {
    for parallelism in 1..=3 {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out");
        let env = environment(parallelism);
        for _ in 0..2 {
            env.generate_sequence(0..3000, None).write_as_text(&output).rolling(1000, Duration::from_secs(3600));
            env.execute("parts").unwrap();
        }
        let names = names(&output);
        let mut numbers = Vec::new();
        for name in &names {
            assert!(name.starts_with("part-"), "{name}");
            let text = fs::read_to_string(output.join(name)).unwrap();
            assert!(text.len() < 1010, "{name} has {} bytes", text.len());
            numbers.extend(text.lines().map(|line| line.parse::<u64>().unwrap()));
        }
        let subtasks: std::collections::BTreeSet<_> = names.iter().filter_map(|name| name.split('-').nth(1)).collect();
        assert_eq!(subtasks.len(), usize::try_from(parallelism).unwrap());
        numbers.sort_unstable();
        assert_eq!(numbers, (0..3000).flat_map(|number| [number, number]).collect::<Vec<u64>>());
    }
}

#[test]
fn a_part_that_is_old_enough_appears_while_the_job_runs_and_one_that_was_not_completed_never_does() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let env = environment(1);
    let numbers = env.generate_sequence(0.., Some(1000));
    let first = output.join("part-0-0");
    let looked = numbers.map(move |number| {
        assert!(!first.exists(), "it has appeared");
        number
    });
    looked.write_as_json(&output).rolling(1 << 30, Duration::from_millis(20));
    assert!(failure(env.execute("age")).message.contains("it has appeared"));
    let text = fs::read_to_string(output.join("part-0-0")).unwrap();
    assert!(text.starts_with("0\n1\n") && text.ends_with('\n'), "{text}");
    assert!(names(&output).iter().all(|name| name.starts_with("part-0-")), "{:?}", names(&output));
}
