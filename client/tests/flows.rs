//! Whole flows in an embedded cluster, against plain oracles.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tidemill::{Environment, Error};
use tidemill_model::execution::FailureKind;

fn environment(parallelism: u32, mode: &str) -> Environment {
    let mode = format!("execution.runtime-mode={mode}");
    let parallelism = parallelism.to_string();
    Environment::with_arguments(["-p", &parallelism, "-D", &mode, "-D", "restart-strategy.type=none"]).unwrap()
}

fn words(line: &str) -> Vec<String> {
    let lower = line.to_ascii_lowercase();
    let runs = lower.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    runs.filter(|run| !run.is_empty()).map(str::to_owned).collect()
}

fn oracle(text: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for word in text.lines().flat_map(words) {
        *counts.entry(word).or_insert(0) += 1;
    }
    counts
}

/// The lines of a file, or of all files of a folder.
fn output_lines(path: &Path) -> Vec<String> {
    let files: Vec<_> = match path.is_dir() {
        true => fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect(),
        false => vec![path.to_owned()],
    };
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
    texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn count_words(env: &Environment, input: &Path, output: &Path) -> Result<i64, Error> {
    let counter = env.counter("words");
    env.read_text_file(input)
        .flat_map(|line: String| words(&line))
        .map(move |word| {
            counter.add(1);
            (word, 1u64)
        })
        .key_by(|pair| pair.0.clone())
        .sum(|pair| &mut pair.1)
        .write_as_csv(output, "\n", " ");
    Ok(env.execute("word count")?.counter("words").unwrap())
}

/// A text of `seed`'s choice: few or many words, empty lines, every sort of line end, with or without a last one.
fn random_text(seed: u64) -> String {
    let mut state = seed;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let (vocabulary, tokens) = (1 + random(5000), random(20_000));
    let mut text = String::new();
    for _ in 0..tokens {
        text += &format!("{}w{}", if random(5) == 0 { "X" } else { "" }, random(vocabulary));
        text += [" ", ", ", "\n", "\r\n", ".\n\n", "-", " \u{e9} "][usize::try_from(random(7)).unwrap()];
    }
    text
}

#[test]
fn word_counts_agree_with_a_plain_program_at_every_parallelism() {
    for seed in 0..12 {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in"), folder.path().join("out"));
        let text = random_text(seed);
        fs::write(&input, &text).unwrap();
        let parallelism = u32::try_from(seed % 4).unwrap() + 1;
        let counted = count_words(&environment(parallelism, "automatic"), &input, &output).unwrap();
        let expected = oracle(&text);
        assert_eq!(counted, i64::try_from(expected.values().sum::<u64>()).unwrap(), "seed {seed}");
        let mut lines = output_lines(&output);
        lines.sort();
        let mut expected: Vec<_> = expected.iter().map(|(word, count)| format!("{word} {count}")).collect();
        expected.sort();
        assert_eq!(lines, expected, "seed {seed}, parallelism {parallelism}");
        assert_eq!(names(folder.path()), ["in", "out"], "nothing else is left behind");
        assert_eq!(output.is_dir(), parallelism > 1);
    }
}

#[test]
fn streaming_updates_end_with_the_totals_and_there_is_one_for_each_record() {
    for parallelism in 1..=4 {
        let env = environment(parallelism, "streaming");
        let updates = env
            .generate_sequence(0..10_000, None)
            .map(|number| (number % 97, 1u64))
            .key_by(|pair| pair.0)
            .sum(|pair| &mut pair.1)
            .collect();
        let updates = env.execute("updates").unwrap().collected(&updates).unwrap();
        assert_eq!(updates.len(), 10_000);
        let mut last = BTreeMap::new();
        for (key, count) in updates {
            let before = last.insert(key, count).unwrap_or(0);
            assert_eq!(count, before + 1, "the updates of a key come in order");
        }
        for (key, count) in last {
            assert_eq!(count, (0..10_000u64).filter(|number| number % 97 == key).count() as u64);
        }
    }
}

#[test]
fn many_keys_overflow_the_combiner_and_are_summed_all_the_same() {
    for parallelism in [1, 3] {
        let env = environment(parallelism, "batch");
        let sums = env
            .generate_sequence(0..200_000, None)
            .map(|number| (number % 50_021, number))
            .key_by_ref(|pair| &pair.0)
            .sum(|pair| &mut pair.1)
            .collect();
        let sums: BTreeMap<u64, u64> = env.execute("sums").unwrap().collected(&sums).unwrap().into_iter().collect();
        let mut expected = BTreeMap::new();
        for number in 0..200_000u64 {
            *expected.entry(number % 50_021).or_insert(0) += number;
        }
        assert_eq!(sums, expected);
    }
}

#[test]
fn operators_of_differing_parallelism_exchange_every_record_once() {
    let env = environment(3, "automatic");
    let numbers = env
        .generate_sequence(0..5000, None)
        .set_parallelism(1)
        .map(|number| number + 1)
        .set_parallelism(4)
        .filter(|number| number % 2 == 0)
        .set_parallelism(2)
        .flat_map(|number| [number, number])
        .collect();
    let mut numbers = env.execute("exchange").unwrap().collected(&numbers).unwrap();
    numbers.sort_unstable();
    let mut expected: Vec<u64> = (1..=5000).filter(|number| number % 2 == 0).flat_map(|number| [number; 2]).collect();
    expected.sort_unstable();
    assert_eq!(numbers, expected);
}

#[test]
fn a_sink_of_parallelism_one_writes_a_single_file() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("deep/er/out");
    let env = environment(3, "automatic");
    env.generate_sequence(0..100, None).write_as_text(&output).set_parallelism(1);
    env.execute("one file").unwrap();
    assert!(output.is_file());
    assert_eq!(output_lines(&output).len(), 100);
}

#[test]
fn an_empty_input_makes_empty_output() {
    for parallelism in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in"), folder.path().join("out"));
        fs::write(&input, "").unwrap();
        assert_eq!(count_words(&environment(parallelism, "automatic"), &input, &output).unwrap(), 0);
        assert_eq!(output_lines(&output), Vec::<String>::new());
    }
}

fn failure(error: Error) -> tidemill_model::execution::Failure {
    let Error::JobFailed { failure, .. } = error else { panic!("another error: {error}") };
    failure
}

#[test]
fn a_missing_input_is_named_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("absent"), folder.path().join("out"));
    let failure = failure(count_words(&environment(2, "automatic"), &input, &output).unwrap_err());
    assert_eq!(failure.kind, FailureKind::InvalidInput);
    assert_eq!(failure.operator.as_deref(), Some("Source: text file"));
    assert!(failure.message.contains(input.to_str().unwrap()), "{}", failure.message);
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn a_panic_in_user_code_names_its_operator_and_its_message() {
    type Program = fn(&Environment);
    let cases: [(&str, Program); 4] = [
        ("Map", |env| {
            env.generate_sequence(0..100_000, None).filter(|_| true).map(|number| explode("Map", number)).discard();
        }),
        ("Odd ones", |env| {
            let numbers = env.generate_sequence(0..100_000, None).map(|number| number);
            numbers.filter(|number| explode("Odd ones", *number) % 2 == 1).name("Odd ones").map(|n| n).discard();
        }),
        ("Flat Map", |env| {
            let numbers = env.generate_sequence(0..100_000, None);
            numbers.flat_map(|number| (0..1).map(move |_| explode("Flat Map", number))).map(|number| number).discard();
        }),
        ("Reduce", |env| {
            let numbers = env.generate_sequence(0..100_000, None).key_by(|number| number % 10);
            numbers.reduce(|sum, number| *sum = explode("Reduce", number)).map(|number| number).discard();
        }),
    ];
    for (operator, program) in cases {
        let env = environment(2, "streaming");
        program(&env);
        let failure = failure(env.execute("panic").unwrap_err());
        assert_eq!(failure.kind, FailureKind::Panic);
        assert_eq!(failure.operator.as_deref(), Some(operator));
        // What an iterator does behind the function's back is done without the record.
        let record = if operator == "Flat Map" { "" } else { "; record: 77777" };
        assert_eq!(failure.message, format!("{operator} cannot take 77777{record}"));
        assert!(failure.vertex.is_some());
    }
}

fn explode(operator: &str, number: u64) -> u64 {
    assert!(number != 77_777, "{operator} cannot take {number}");
    number
}

#[test]
fn a_failure_ends_tasks_that_wait_for_room_and_tasks_that_wait_for_input() {
    let env = environment(1, "streaming");
    // The consumer takes one record and then waits until the producer's queue is full, as the producer tells.
    let (sent, gate) = (Arc::new(Mutex::new(0u64)), Arc::new(AtomicBool::new(false)));
    let counted = Arc::clone(&sent);
    env.generate_sequence(0.., None)
        .map(move |number| {
            *counted.lock().unwrap() += 1;
            number
        })
        .map(|number| number)
        .set_parallelism(2)
        .map(move |number| {
            // More than every queue and buffer between the two can hold has been sent when this fails.
            while !gate.load(Ordering::Relaxed) {
                let sent = *sent.lock().unwrap();
                gate.store(sent > 10_000, Ordering::Relaxed);
                std::thread::yield_now();
            }
            assert!(number < 5000, "enough");
            number
        })
        .discard();
    // An idle flow beside it, whose consumer waits for input.
    env.generate_sequence(0.., Some(1)).key_by(|number| *number).reduce(|_, _| ()).discard();
    let message = failure(env.execute("blocked").unwrap_err()).message;
    assert!(message.starts_with("enough; record: "), "{message}");
}

#[test]
fn an_output_that_exists_is_refused_unless_it_may_be_overwritten() {
    for parallelism in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out");
        let env = environment(parallelism, "automatic");
        env.generate_sequence(0..3, None).write_as_text(&output);
        env.execute("first").unwrap();
        env.generate_sequence(0..5, None).write_as_text(&output);
        let failure = failure(env.execute("second").unwrap_err());
        assert_eq!(failure.kind, FailureKind::InvalidInput);
        assert!(failure.message.contains("it exists already"), "{}", failure.message);
        assert_eq!(output_lines(&output).len(), 3);
        env.generate_sequence(0..5, None).write_as_text(&output).overwrite();
        env.execute("third").unwrap();
        assert_eq!(output_lines(&output).len(), 5);
        // A folder may replace a file, and the other way round.
        env.generate_sequence(0..7, None).write_as_text(&output).overwrite().set_parallelism(3 - parallelism);
        env.execute("fourth").unwrap();
        assert_eq!(output_lines(&output).len(), 7);
        assert_eq!(names(folder.path()), ["out"]);
    }
}

#[test]
fn overwriting_spares_a_folder_with_other_things_in_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("letter"), "dear").unwrap();
    let env = environment(2, "automatic");
    env.generate_sequence(0..5, None).write_as_text(folder.path()).overwrite();
    let failure = failure(env.execute("overwrite").unwrap_err());
    assert!(failure.message.contains("\"letter\""), "{}", failure.message);
    assert_eq!(names(folder.path()), ["letter"]);
}

#[test]
fn collected_records_come_from_their_own_execute_only() {
    let env = environment(2, "automatic");
    let first = env.from_collection(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]).collect();
    let numbers = env.from_collection(vec![1u8]).collect();
    let result = env.execute("first").unwrap();
    let mut records = result.collected(&first).unwrap();
    records.sort();
    assert_eq!((records, result.collected(&numbers).unwrap()), (vec!["a".into(), "b".into(), "c".into()], vec![1]));
    let second = env.from_collection(vec![9]).collect();
    let later = env.execute("second").unwrap();
    assert_eq!(later.collected(&second).unwrap(), [9]);
    assert!(matches!(later.collected(&first), Err(Error::NotCollected(_))));
}

#[test]
fn too_much_to_collect_is_refused_with_advice() {
    let env = environment(1, "automatic");
    let _handle = env.generate_sequence(0..2000, None).map(|_| "x".repeat(64 * 1024)).collect();
    let failure = failure(env.execute("too much").unwrap_err());
    assert!(failure.message.contains("67108864 bytes") && failure.message.contains("file"), "{}", failure.message);
}

#[test]
fn counters_of_all_subtasks_add_up_exactly_in_each_job() {
    let env = environment(4, "automatic");
    let (all, even) = (env.counter("all"), env.counter("even"));
    for _ in 0..2 {
        let (all, even) = (all.clone(), even.clone());
        env.generate_sequence(0..10_001, None)
            .map(move |number| {
                all.add(1);
                if number % 2 == 0 {
                    even.add(1);
                }
                number
            })
            .discard();
        let result = env.execute("count").unwrap();
        assert_eq!((result.counter("all"), result.counter("even")), (Some(10_001), Some(5001)));
    }
}

#[test]
fn a_flow_without_a_sink_and_endless_batches_are_refused() {
    let env = environment(1, "automatic");
    drop(env.generate_sequence(0..10, None).map(|number| number));
    assert!(matches!(env.execute("nothing"), Err(Error::Flow(_))));
    let env = environment(1, "batch");
    env.generate_sequence(0.., None).discard();
    let error = env.execute("endless").unwrap_err().to_string();
    assert!(error.contains("\"Source: sequence\"") && error.contains("streaming"), "{error}");
    let env = environment(1, "automatic");
    env.generate_sequence(0..1, None).uid("same").map(|number| number).uid("same").discard();
    assert!(env.execute("uids").unwrap_err().to_string().contains("\"same\""));
}
