//! Programs that a task manager started: the role that they inherit wins over the arguments that they give themselves.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do fails the test")]

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use prost::Message;
use tidemill::{Environment, Error};
use tidemill_dataflow::runtime::process::{Error as RoleError, MAGIC};
use tidemill_proto::pb;
use tidemill_proto::pb::executor_command::Command as Told;
use tidemill_proto::pb::executor_event::Event;

/// How many environments the child process makes; set for it alone.
const CHILD_VARIABLE: &str = "TIDEMILL_TEST_CHILD_ENVIRONMENTS";

/// Far beyond what any step takes: only a defect waits this long.
const LIMIT: Duration = Duration::from_secs(60);

/// The program of the next tests; where nobody set the variable it does nothing.
#[test]
fn child_process_that_is_the_program() {
    let Some(environments) = std::env::var_os(CHILD_VARIABLE) else { return };
    let env = Environment::with_arguments(["-p", "1"]).unwrap();
    if environments == "2" {
        let second = Environment::with_arguments(["-p", "1"]).map(drop);
        // The end of the first environment says what is wrong; without the error nobody hears of it.
        let refused = matches!(second, Err(Error::Executor(RoleError::Taken)));
        return if refused { drop(env) } else { std::process::exit(1) };
    }
    env.generate_sequence(0..10, None).discard();
    env.execute("child").unwrap();
}

fn spec() -> pb::JobSpec {
    let operators = vec![pb::OperatorDescriptor { name: "Source: another".into(), uid: "another".into() }];
    let record_types = vec!["u64".into()];
    let vertices = vec![pb::JobVertex {
        id: 0,
        operators,
        parallelism: 1,
        max_parallelism: 128,
        record_types,
        slot_sharing_group: "default".into(),
        co_location_group: None,
    }];
    let settings = pb::JobSettings {
        runtime_mode: pb::RuntimeMode::Batch.into(),
        restart: Some(tidemill_model::restart::RestartStrategy::None.into()),
        checkpointing: None,
        executor_memory_bytes: None,
        savepoint: None,
        state_backend: pb::StateBackend::Heap.into(),
        state_slot_memory_bytes: None,
    };
    let graph = Some(pb::JobGraph { vertices, edges: Vec::new() });
    pb::JobSpec { id: vec![1; 16].into(), name: "another".into(), graph, program: None, settings: Some(settings) }
}

/// Starts the program as a task manager does, for a job that is not its own; what it says, and its exit status.
fn answer(environments: &str) -> (Event, Option<i32>) {
    let (mut control, executor_control) = UnixStream::pair().unwrap();
    let (_connections, executor_connections) = UnixStream::pair().unwrap();
    control.set_read_timeout(Some(LIMIT)).unwrap();
    let (cluster_id, task_manager_id) = (vec![2; 16].into(), vec![3; 16].into());
    let start = pb::ExecutorStart {
        spec: Some(spec()),
        cluster_id,
        task_manager_id,
        memory_bytes: 1 << 20,
        memory_limit_bytes: None,
        local_state_folder: None,
        folder: String::new(),
    };
    let start = pb::ExecutorCommand { command: Some(Told::Start(start)) }.encode_to_vec();
    let length = u32::try_from(start.len()).unwrap().to_le_bytes();
    control.write_all(&[MAGIC, &length, &start].concat()).unwrap();

    let mappings = [(OwnedFd::from(executor_control), 3), (executor_connections.into(), 4)];
    let mappings = mappings.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_process_that_is_the_program"]).env(CHILD_VARIABLE, environments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.fd_mappings(mappings.into()).unwrap();
    let mut child = command.spawn().unwrap();
    // Or the executor's ends would stay open here, and its exit would not end the reading.
    drop(command);

    let mut length = [0; 4];
    control.read_exact(&mut length).unwrap();
    let mut event = vec![0; usize::try_from(u32::from_le_bytes(length)).unwrap()];
    control.read_exact(&mut event).unwrap();
    let event = pb::ExecutorEvent::decode(&event[..]).unwrap().event.unwrap();
    (event, child.wait().unwrap().code())
}

#[test]
fn a_program_with_arguments_of_its_own_is_an_executor_all_the_same() {
    let (Event::Refused(failure), status) = answer("1") else { panic!("the graph is another") };
    assert_eq!((failure.kind(), status), (pb::FailureKind::GraphMismatch, Some(70)));
    assert!(failure.message.contains("another graph"), "{}", failure.message);
}

#[test]
fn a_second_environment_in_an_executor_is_named_as_the_reason() {
    let (Event::Refused(failure), status) = answer("2") else { panic!("it executed nothing") };
    assert_eq!((failure.kind(), status), (pb::FailureKind::GraphMismatch, Some(70)));
    assert!(failure.message.contains("keep it for the whole program"), "{}", failure.message);
}

#[test]
fn only_the_first_environment_of_a_process_submits_jobs() {
    let _first = Environment::with_arguments(["-p", "1"]).unwrap();
    let second = Environment::with_arguments(["--coordinators", "127.0.0.1:1"]).map(drop);
    assert!(matches!(second, Err(Error::SecondEnvironment)), "{second:?}");
}
