//! The real process: its ready line, its signals, its exit codes.
#![cfg(feature = "raft")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

struct Running {
    child: Child,
    ready: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill-coordinator"));
    command.arg("-D").arg(format!("coordinator.dir={}", dir.display()));
    for port in ["client", "raft", "http"] {
        command.arg("-D").arg(format!("coordinator.{port}.port=0"));
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(dir: &Path) -> Running {
    let mut child = command(dir).stderr(Stdio::null()).spawn().expect("the program is built");
    let mut ready = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut ready).expect("a line");
    Running { child, ready }
}

fn output(command: &mut Command) -> Output {
    command.output().expect("the program is built")
}

#[test]
fn a_coordinator_says_where_it_listens_and_ends_well_on_sigterm() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut running = start(dir.path());
    let ready = &running.ready;
    assert!(ready.starts_with("tidemill-coordinator ready name=127.0.0.1:"), "{ready}");
    assert!(ready.trim_end().ends_with(&format!("pid={}", running.child.id())), "{ready}");
    assert!(!ready.contains(":0 "), "the system's ports, not the wish: {ready}");

    let second = output(&mut command(dir.path()));
    assert!(!second.status.success());
    let reason = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(reason.contains("another process uses this data directory"), "{reason}");

    let killed = Command::new("kill").arg("-TERM").arg(running.child.id().to_string()).status().expect("kill");
    assert!(killed.success());
    assert_eq!(running.child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn wrong_settings_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let exposed = output(command(dir.path()).args(["-D", "coordinator.bind-host=0.0.0.0"]));
    assert_eq!(exposed.status.code(), Some(1));
    let reason = String::from_utf8_lossy(&exposed.stderr).into_owned();
    assert!(reason.contains("--insecure"), "{reason}");
    let unknown = output(command(dir.path()).args(["-D", "coordinator.prot=1"]));
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("coordinator.prot"));
}

#[test]
fn a_configuration_file_is_read() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("coordinator.toml");
    std::fs::write(&file, "[coordinator]\nname = \"alpha\"\n").expect("writable");
    let mut child = command(&dir.path().join("data"));
    let mut child = child.arg("--config").arg(file).stderr(Stdio::null()).spawn().expect("the program is built");
    let mut ready = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut ready).expect("a line");
    let running = Running { child, ready };
    assert!(running.ready.contains("name=alpha "), "{}", running.ready);
}
