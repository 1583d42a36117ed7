//! The workspace's own rules, checked as a test: who may know whom, what is pure, and what a file looks like.
//!
//! Each rule is a function over text that returns its violations, with a test that it finds one.

#[path = "tidy/code.rs"]
mod code;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use code::{code_only, words};

/// Each crate and the crates of the workspace that it may depend on.
const ARROWS: [(&str, &[&str]); 12] = [
    ("tidemill-model", &[]),
    ("tidemill-proto", &["tidemill-model"]),
    ("tidemill-event-log", &["tidemill-model"]),
    ("tidemill-failpoint", &[]),
    ("tidemill-storage", &["tidemill-model"]),
    ("tidemill-dataflow", &["tidemill-model", "tidemill-proto", "tidemill-failpoint", "tidemill-storage"]),
    (
        "tidemill-coordinator",
        &["tidemill-model", "tidemill-proto", "tidemill-event-log", "tidemill-failpoint", "tidemill-storage"],
    ),
    ("tidemill-taskmanager", &["tidemill-model", "tidemill-proto", "tidemill-event-log", "tidemill-failpoint"]),
    (
        "tidemill",
        &["tidemill-model", "tidemill-proto", "tidemill-dataflow", "tidemill-coordinator", "tidemill-storage"],
    ),
    (
        "tidemill-tests",
        &[
            "tidemill-model",
            "tidemill-proto",
            "tidemill-event-log",
            "tidemill-dataflow",
            "tidemill-coordinator",
            "tidemill-taskmanager",
            "tidemill",
        ],
    ),
    ("tidemill-jepsen", &["tidemill-model", "tidemill"]),
    ("tidemill-chaos", &[]),
];

/// Words that pure code has no use for: effects, clocks, chance, hash order.
const IMPURE_WORDS: [&str; 14] = [
    "tokio",
    "tonic",
    "openraft",
    "rocksdb",
    "prost",
    "kameo",
    "crossbeam",
    "crossbeam_channel",
    "rand",
    "SystemTime",
    "HashMap",
    "HashSet",
    "async",
    "await",
];

/// What pure code must not take from the standard library.
const IMPURE_STD: [&str; 6] = ["fs", "net", "thread", "process", "env", "Instant"];

/// How long a file may be.
const MAX_LINES: usize = 400;

/// Files that are longer, with the length that they must not exceed: these numbers only ever go down.
const LONG_FILES: &[(&str, usize)] = &[];

/// Crates that a user's job must build without, unless it asks for them.
const SERVER_ONLY: [&str; 5] = ["rocksdb", "librocksdb-sys", "openraft", "reqwest", "rustls"];

#[test]
fn dependencies_follow_the_arrows() {
    let output = cargo(&["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let metadata: Value = serde_json::from_str(&output).expect("cargo writes JSON");
    report(&forbidden_arrows(&metadata));
}

#[test]
fn a_users_job_builds_without_the_server_crates() {
    let tree = cargo(&["tree", "-p", "tidemill", "-e", "normal", "--offline", "--prefix", "none", "--format", "{p}"]);
    report(&server_crates(&tree));
}

#[test]
fn engines_and_the_model_are_pure() {
    report(&on_sources(|path, text| if is_pure(path) { impurities(path, text) } else { Vec::new() }));
}

#[test]
fn files_say_what_they_own() {
    report(&on_sources(missing_header));
}

#[test]
fn files_are_short() {
    report(&on_sources(|path, text| too_long(path, text, LONG_FILES)));
    let sources = sources();
    let gone = LONG_FILES.iter().filter(|(path, _)| !sources.iter().any(|(source, _)| source == path));
    report(&gone.map(|(path, _)| format!("{path}: listed as long, but not there")).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_for_later() {
    report(&on_sources(unfinished));
}

#[test]
fn tests_do_not_sleep() {
    report(&on_sources(sleeping_tests));
}

/// Dependencies between the workspace's crates that no arrow allows, and server features where they do not belong.
fn forbidden_arrows(metadata: &Value) -> Vec<String> {
    let mut violations = Vec::new();
    for package in array(&metadata["packages"]) {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
            violations.push(format!("{name}: not in the list of crates"));
            continue;
        };
        for dependency in array(&package["dependencies"]).iter().filter(|dependency| !dependency["path"].is_null()) {
            let target = dependency["name"].as_str().unwrap_or_default();
            if !allowed.contains(&target) {
                violations.push(format!("{name} -> {target}: no arrow allows this"));
            }
            let raft = array(&dependency["features"]).iter().any(|feature| feature == "raft");
            if raft && name != "tidemill-tests" {
                violations.push(format!("{name} -> {target}: the feature `raft` is for server binaries"));
            }
        }
        for feature in ["raft", "mutants"] {
            if array(&package["features"]["default"]).iter().any(|default| default == feature) {
                violations.push(format!("{name}: the feature `{feature}` must not be a default"));
            }
        }
    }
    violations
}

/// Crates of servers in the dependency tree of a user's job, one package a line.
fn server_crates(tree: &str) -> Vec<String> {
    let packages = tree.lines().filter_map(|line| line.split_whitespace().next());
    packages.filter(|package| SERVER_ONLY.contains(package)).map(|package| format!("tidemill -> {package}")).collect()
}

fn is_pure(path: &str) -> bool {
    path.starts_with("model/src/") || path.contains("/src/engine/") || path.ends_with("/src/engine.rs")
}

/// Uses of clocks, files, sockets, threads, chance, hash order and asynchronous code.
fn impurities(path: &str, text: &str) -> Vec<String> {
    let code = code_only(text);
    let mut violations = Vec::new();
    for (number, line) in code.lines().enumerate() {
        for word in words(line).filter(|word| IMPURE_WORDS.contains(word)) {
            violations.push(format!("{path}:{}: `{word}` in pure code", number + 1));
        }
    }
    // From `std::` to the end of the path or of the braces behind it, which may span lines.
    for (start, _) in code.match_indices("std::") {
        let rest = &code[start + "std::".len()..];
        let in_braces = |character: char| character.is_alphanumeric() || "_:{}, \n*".contains(character);
        let in_path = |character: char| character.is_alphanumeric() || "_:".contains(character);
        let path_end = rest.find(|character| !in_path(character)).unwrap_or(rest.len());
        let import = match rest[path_end..].starts_with('{') {
            true => &rest[..rest.find(|character| !in_braces(character)).unwrap_or(rest.len())],
            false => &rest[..path_end],
        };
        let line = code[..start].matches('\n').count() + 1;
        for word in words(import).filter(|word| IMPURE_STD.contains(word)) {
            violations.push(format!("{path}:{line}: `{word}` of std in pure code"));
        }
    }
    violations
}

/// A file that does not start with a sentence on what it owns.
fn missing_header(path: &str, text: &str) -> Vec<String> {
    let first = text.lines().next().unwrap_or_default();
    let fits = first.strip_prefix("//! ").is_some_and(|sentence| sentence.len() > 10);
    if fits { Vec::new() } else { vec![format!("{path}: does not start with `//!` and a sentence on what it owns")] }
}

/// A file over the limit, or over its own limit if it is a listed one.
fn too_long(path: &str, text: &str, long_files: &[(&str, usize)]) -> Vec<String> {
    let lines = text.lines().count();
    match long_files.iter().find(|(listed, _)| *listed == path) {
        Some(_) if lines <= MAX_LINES => vec![format!("{path}: {lines} lines, take it off the list of long files")],
        Some((_, limit)) if lines > *limit => vec![format!("{path}: {lines} lines, it had {limit}: split it")],
        None if lines > MAX_LINES => vec![format!("{path}: {lines} lines, at most {MAX_LINES}: split it")],
        Some(_) | None => Vec::new(),
    }
}

/// Marks of unfinished work, and tests that are switched off.
fn unfinished(path: &str, text: &str) -> Vec<String> {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let mut violations = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in words(line).filter(|word| marks.contains(word)) {
            violations.push(format!("{path}:{}: {word}: finish it or leave it out", number + 1));
        }
        if line.contains(concat!("#[ig", "nore")) {
            violations.push(format!("{path}:{}: a test that is switched off", number + 1));
        }
    }
    violations
}

/// Sleeps in test code: a test waits for a condition, not for a time.
fn sleeping_tests(path: &str, text: &str) -> Vec<String> {
    let code = code_only(text);
    let is_test = path.contains("/tests/") || path.ends_with("/tests.rs");
    let tests_start = if is_test { Some(0) } else { code.find("#[cfg(test)]\nmod ") };
    let Some(start) = tests_start else { return Vec::new() };
    let first_line = code[..start].matches('\n').count();
    let sleeps = code[start..].lines().enumerate().filter(|(_, line)| line.contains("thread::sleep"));
    sleeps.map(|(number, _)| format!("{path}:{}: a test that sleeps", first_line + number + 1)).collect()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().expect("start cargo");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

fn on_sources(rule: impl Fn(&str, &str) -> Vec<String>) -> Vec<String> {
    let sources = sources();
    assert!(sources.len() > 20, "only {} source files found under {}", sources.len(), root().display());
    sources.iter().flat_map(|(path, text)| rule(path, text)).collect()
}

/// Every Rust file of the workspace's crates that people write, with its path from the root.
fn sources() -> Vec<(String, String)> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace's manifest");
    let members = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).expect("the members");
    let mut files = Vec::new();
    for member in members.split(',').map(|member| member.trim().trim_matches('"')).filter(|member| !member.is_empty()) {
        collect(&root().join(member), &mut files);
    }
    files.sort();
    let relative = |path: &PathBuf| path.strip_prefix(root()).expect("below the root").display().to_string();
    files.iter().map(|path| (relative(path), fs::read_to_string(path).expect("a text file"))).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() && !["generated", "target"].contains(&name.as_str()) && !name.starts_with('.') {
            collect(&path, files);
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
}

fn report(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

mod each_rule_finds_a_violation {
    use super::*;

    #[test]
    fn arrows() {
        let metadata = serde_json::json!({"packages": [
            {"name": "tidemill-model", "dependencies": [{"name": "tidemill-proto", "path": "/p", "features": []}]},
            {"name": "tidemill", "dependencies": [
                {"name": "tidemill-coordinator", "path": "/c", "features": ["raft"]},
                {"name": "serde", "features": []},
            ]},
            {"name": "tidemill-coordinator", "dependencies": [], "features": {"default": ["raft", "mutants"]}},
            {"name": "stranger", "dependencies": []},
        ]});
        let expected = [
            "tidemill-model -> tidemill-proto: no arrow allows this",
            "tidemill -> tidemill-coordinator: the feature `raft` is for server binaries",
            "tidemill-coordinator: the feature `raft` must not be a default",
            "tidemill-coordinator: the feature `mutants` must not be a default",
            "stranger: not in the list of crates",
        ];
        assert_eq!(forbidden_arrows(&metadata), expected);
    }

    #[test]
    fn server_crates_in_a_job() {
        assert_eq!(server_crates("tidemill v0.1.0 (/w)\nrocksdb v0.25.0\nbytes v1.0.0\n"), ["tidemill -> rocksdb"]);
    }

    #[test]
    fn purity() {
        let found = |code: &str| impurities("x.rs", code).len();
        for impure in [
            "use tokio::sync::mpsc;",
            "use std::collections::{BTreeMap, HashMap};",
            "pub async fn f() {}",
            "std::thread::spawn(f);",
            "use std::{fmt, fs};",
            "use std::time::{Duration, Instant};",
            "use std::{\n    fmt,\n    net::TcpStream,\n};",
            "let now = std::time::SystemTime::now();",
        ] {
            assert_eq!(found(impure), 1, "{impure}");
        }
        for pure in [
            "// tokio does this\n/* std::fs */",
            "let text = \"HashMap \\\" tokio\"; let raw = r#\"std::fs \"rand\" \"#; let quote = '\"'; let x: &'static u8;",
            "use crate::time::Instant;\nuse std::time::Duration;\nuse tidemill_model::net;",
            "use std::fmt;\nfn thread(fs: u8) {}",
        ] {
            assert_eq!(impurities("x.rs", pure), [] as [&str; 0], "{pure}");
        }
        assert_eq!(impurities("x.rs", "fn f() {}\n\nuse std::fs;"), ["x.rs:3: `fs` of std in pure code"]);
        assert!(is_pure("coordinator/src/engine/leader/job.rs") && is_pure("model/src/id.rs"));
        assert!(!is_pure("coordinator/src/runtime/node.rs"));
    }

    #[test]
    fn headers() {
        assert_eq!(missing_header("x.rs", "//! What the file owns.\n"), [] as [&str; 0]);
        assert!(
            ["", "use std::fmt;\n//! Late.", "//!\n", "//! scaffold"]
                .iter()
                .all(|text| missing_header("x.rs", text).len() == 1)
        );
    }

    #[test]
    fn lengths() {
        let long = "x\n".repeat(MAX_LINES + 5);
        assert_eq!(too_long("x.rs", &long, &[]).len(), 1);
        assert_eq!(too_long("x.rs", &long, &[("x.rs", MAX_LINES + 4)]).len(), 1);
        assert_eq!(too_long("x.rs", "x\n", &[("x.rs", MAX_LINES + 5)]).len(), 1);
        assert_eq!(too_long("x.rs", &long, &[("x.rs", MAX_LINES + 5)]), [] as [&str; 0]);
    }

    #[test]
    fn marks_and_switched_off_tests() {
        let text = concat!("// TO", "DO: later\n#[ig", "nore]\nfn todo_list() {}\n");
        assert_eq!(unfinished("x.rs", text).len(), 2);
    }

    #[test]
    fn sleeps() {
        let sleep = concat!("std::thread::sl", "eep(t);");
        assert_eq!(sleeping_tests("a/tests/x.rs", sleep).len(), 1);
        assert_eq!(sleeping_tests("a/src/x.rs", sleep), [] as [&str; 0]);
        let module = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{sleep}\n}}\n");
        assert_eq!(sleeping_tests("a/src/x.rs", &module), ["a/src/x.rs:4: a test that sleeps"]);
    }
}
