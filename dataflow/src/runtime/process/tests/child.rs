//! A real child process in the executor role: this test program, started again.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use tidemill_model::execution::TerminalState;
use tidemill_model::job::JobSpec;
use tidemill_proto::pb;
use tidemill_proto::pb::executor_command::Command as PbCommand;
use tidemill_proto::pb::executor_event::Event as PbEvent;

use super::{Agent, deployment, greatest, spec};
use crate::runtime::process::{EXIT_FAILURE, Error, detect};

/// Set for the child process that plays the executor.
const CHILD_VARIABLE: &str = "TIDEMILL_TEST_EXECUTOR_CHILD";

/// The child of the next tests; where nobody set the variable it does nothing.
#[test]
fn child_process_that_plays_the_executor() {
    if std::env::var_os(CHILD_VARIABLE).is_none() {
        return;
    }
    let Some(role) = detect().expect("whole descriptors") else {
        println!("no role");
        return;
    };
    assert!(matches!(detect(), Err(Error::Taken)));
    let score = std::fs::read_to_string("/proc/self/oom_score_adj").expect("readable");
    let nice = rustix::process::getpriority_process(None).expect("readable");
    let death = rustix::process::parent_process_death_signal().expect("readable");
    println!("score {} nice {nice} death {death:?}", score.trim());
    role.run(greatest(1, Some(100)));
}

fn child() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("known"));
    let name = "runtime::process::tests::child::child_process_that_plays_the_executor";
    command.args(["--exact", name, "--nocapture"]).env(CHILD_VARIABLE, "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A child with an executor's descriptors, and its agent's side.
fn executor_child(spec: JobSpec) -> (Agent, std::process::Child) {
    let (agent, (control, connections)) = Agent::new(0, spec);
    let mut command = child();
    let mappings = [(OwnedFd::from(control), 3), (connections, 4)];
    let mappings = mappings.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
    command.fd_mappings(mappings.into()).expect("no collision");
    (agent, command.spawn().expect("started"))
}

#[test]
fn a_process_that_no_agent_started_has_no_role() {
    let output = child().output().expect("ran");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("no role"));
}

#[test]
fn a_started_process_takes_the_role_and_ends_with_its_agent() {
    let flow = greatest(1, Some(100));
    let (agent, mut process) = executor_child(spec(flow.graph()));
    assert!(matches!(agent.hear(), PbEvent::Ready(_)));
    agent.say(PbCommand::Deploy(deployment(flow.graph(), &["127.0.0.1:1".to_owned()], 0).into()));
    let (ends, records) = agent.hear_ends(2);
    assert!(ends.values().all(|end| matches!(end, TerminalState::Finished { .. })), "{ends:?}");
    assert_eq!(records.len(), 100);
    drop(agent);
    assert_eq!(process.wait().expect("ended").code(), Some(0));
    let mut output = String::new();
    process.stdout.take().expect("piped").read_to_string(&mut output).expect("text");
    let nice = rustix::process::getpriority_process(None).expect("readable") + 5;
    assert!(output.contains(&format!("score 500 nice {} death Some", nice.min(19))), "{output}");
}

#[test]
fn a_started_process_with_another_graph_refuses() {
    let (agent, mut process) = executor_child(spec(greatest(3, Some(100)).graph()));
    let PbEvent::Refused(failure) = agent.hear() else { panic!("not refused") };
    assert_eq!(failure.kind(), pb::FailureKind::GraphMismatch);
    assert_eq!(process.wait().expect("ended").code(), Some(EXIT_FAILURE));
}
