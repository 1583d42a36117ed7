//! The grammar, the exit codes and the printed forms of the command line.

use std::ffi::OsString;

use clap::{CommandFactory, Parser};
use expect_test::expect;
use tidemill_model::execution::{AttemptReport, ExecutionState, Failure, FailureKind};
use tidemill_model::id::{
    AttemptNumber, CheckpointId, ClusterId, ExecutionAttemptId, ExecutionVertexId, JobId, JobVertexId, LeaderEpoch,
    NodeId, SubtaskIndex, TaskManagerId, TaskManagerName,
};
use tidemill_model::job::{HistoryEntry, JobStatus};
use tidemill_model::job_graph::{JobGraph, JobVertex, OperatorDescriptor, SlotSharingGroup};
use tidemill_model::time::Timestamp;
use uuid::Uuid;

use super::arguments::{Arguments, ClusterCommand, Command, choose_coordinators};
use super::cluster::{Answers, verdict};
use super::error::Error;
use super::{json, program, text};
use crate::job_client::{
    self, AttemptDetails, ClusterStatus, Consistency, Freshness, JobDetails, JobSummary, MemberStatus, NodeStatus,
    Read, Takeover, TaskManagerStatus,
};

fn parse(line: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(line.split_whitespace())
}

fn job_id() -> JobId {
    JobId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001))
}

pub(super) fn details(status: JobStatus) -> JobDetails {
    let vertex = ExecutionVertexId { vertex: JobVertexId(1), subtask: SubtaskIndex(0) };
    let attempt = ExecutionAttemptId { job: job_id(), vertex, attempt: AttemptNumber(2) };
    let operators = vec![OperatorDescriptor { name: "Sum".to_owned(), uid: "sum".to_owned() }];
    let vertex = JobVertex {
        id: JobVertexId(1),
        operators,
        parallelism: 1,
        max_parallelism: 128,
        record_types: Vec::new(),
        slot_sharing_group: SlotSharingGroup("wide".to_owned()),
        co_location_group: None,
    };
    JobDetails {
        id: job_id(),
        name: "word count".to_owned(),
        status,
        submitted: Timestamp(1_700_000_000_123),
        history: vec![HistoryEntry { at: Timestamp(1_700_000_000_123), status: "CREATED".to_owned(), cause: None }],
        attempts: vec![AttemptDetails {
            report: AttemptReport { attempt, state: ExecutionState::Running },
            task_manager: Some(TaskManagerName("taskmanager-1".to_owned())),
            slot: Some(3),
            process_id: Some(42),
        }],
        waiting_reason: None,
        graph: JobGraph { vertices: vec![vertex], edges: Vec::new() },
        records_in: 7,
        records_out: 3,
        restarts: 2,
        checkpoints_completed: 7,
        latest_checkpoint: Some(CheckpointId(9)),
        restored_checkpoint: Some(CheckpointId(6)),
        checkpoints: None,
    }
}

fn read<T>(value: T) -> Read<T> {
    let freshness = Freshness {
        consistency: Consistency::Stale,
        node: NodeId(2),
        applied_index: 57,
        age: Some(std::time::Duration::from_millis(120)),
    };
    Read { value, freshness }
}

fn answers(leader: Option<u64>) -> Answers {
    let node = |id: u64| NodeStatus {
        id: NodeId(id),
        name: format!("coordinator-{id}"),
        client_address: format!("127.0.0.1:100{id}"),
        raft_address: format!("127.0.0.1:200{id}"),
        leader: leader == Some(id),
        voter: true,
        matched_index: Some(99),
        answered: None,
    };
    let status = |id: u64| ClusterStatus {
        cluster: ClusterId(Uuid::from_u128(7)),
        epoch: leader.map(|_| LeaderEpoch(12)),
        nodes: vec![node(1), node(2)],
        task_managers: vec![TaskManagerStatus {
            id: TaskManagerId(Uuid::from_u128(8)),
            name: TaskManagerName("taskmanager-1".to_owned()),
            data_address: "127.0.0.1:3001".to_owned(),
            slots: 2,
            free_slots: 1,
            slot_memory_bytes: 256 << 20,
            heartbeat_age: std::time::Duration::from_millis(120),
            process_id: 42,
            draining: true,
            jobs: vec![job_id()],
        }],
        takeovers: vec![Takeover { epoch: LeaderEpoch(12), job: job_id(), tasks_adopted: 4, tasks_restarted: 0 }],
        node: NodeId(id),
        applied_index: 99,
        state_checksum: 0xabc,
        last_log_index: 99,
        committed_index: 99,
        alarms: Vec::new(),
        heard: None,
    };
    let unreachable =
        job_client::Error::AllUnreachable { coordinators: vec!["127.0.0.1:1003".to_owned()], last: "gone".to_owned() };
    vec![
        ("127.0.0.1:1001".to_owned(), Ok(status(1))),
        ("127.0.0.1:1002".to_owned(), Ok(status(2))),
        ("127.0.0.1:1003".to_owned(), Err(unreachable)),
    ]
}

#[test]
fn the_grammar_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn coordinators_are_a_count_for_start_and_addresses_elsewhere() {
    let start = parse("tidemill cluster start --coordinators 3 --taskmanagers 2 --slots 2 --dir d -D a=b -D c=d");
    let Command::Cluster(ClusterCommand::Start(start)) = start.unwrap().command else { panic!("another command") };
    assert_eq!(start.coordinators.map(u32::from), Some(3));
    assert_eq!(start.settings, ["a=b", "c=d"]);
    for line in ["tidemill --coordinators a:1,b:2 list", "tidemill list --coordinators a:1,b:2"] {
        let arguments = parse(line).unwrap();
        let Command::List(list) = arguments.command else { panic!("another command") };
        assert_eq!(list.cluster.resolve(arguments.coordinators).unwrap(), ["a:1", "b:2"]);
    }
}

#[test]
fn addresses_come_from_the_option_the_environment_or_the_default() {
    let given = |text: &str| Some(vec![text.to_owned()]);
    assert_eq!(choose_coordinators(given("a:1"), Some("b:2")).unwrap(), ["a:1"]);
    assert_eq!(choose_coordinators(None, Some("b:2, c:3,")).unwrap(), ["b:2", "c:3"]);
    assert_eq!(choose_coordinators(None, Some("")).unwrap(), ["127.0.0.1:6123"]);
    assert_eq!(choose_coordinators(None, None).unwrap(), ["127.0.0.1:6123"]);
    for wrong in ["a", "a:", ":1", "a:70000", "http://a"] {
        assert!(matches!(choose_coordinators(given(wrong), None), Err(Error::Address { .. })), "{wrong}");
    }
}

#[test]
fn a_malformed_job_id_is_a_usage_error() {
    let error = parse("tidemill status nonsense").unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("32 hexadecimal digits"), "{error}");
    assert!(parse("tidemill status 01900000000070008000000000000001").is_ok());
}

#[test]
fn a_program_gets_our_options_before_its_own_arguments() {
    let words = |arguments: Vec<OsString>| arguments.join(" ".as_ref()).into_string().unwrap();
    let Command::Run(run) = parse("tidemill run -p 4 -d -D a=b ./prog -- in --overwrite -d").unwrap().command else {
        panic!("another command")
    };
    assert_eq!(words(program::run_arguments(&run)), "--parallelism 4 -D a=b --detached -- in --overwrite -d");
    let Command::Info(info) = parse("tidemill info ./prog -- in").unwrap().command else { panic!("another command") };
    assert_eq!(words(program::info_arguments(&info)), "--plan -- in");
    assert!(parse("tidemill run ./prog in").is_err(), "its own arguments follow --");
}

#[test]
fn help_teaches_with_examples() {
    let help = parse("tidemill --help").unwrap_err().to_string();
    assert!(help.contains("tidemill cluster start") && help.contains("Exit codes"), "{help}");
}

#[test]
fn exit_codes_tell_failure_usage_and_absence_apart() {
    let coordinators = || vec!["a:1".to_owned()];
    let code = |error: Error| format!("{:?}", error.exit_code());
    let expected = |code: u8| format!("{:?}", std::process::ExitCode::from(code));
    let gone = || job_client::Error::AllUnreachable { coordinators: coordinators(), last: String::new() };
    let leaderless = job_client::Error::NoLeader { coordinators: coordinators(), last: String::new() };
    assert_eq!(code(gone().into()), expected(3));
    assert_eq!(code(leaderless.into()), expected(3));
    assert_eq!(code(super::local_cluster::Error::from(gone()).into()), expected(3));
    assert_eq!(code(job_client::Error::NotFound("no such job".to_owned()).into()), expected(1));
    assert_eq!(code(job_client::Error::NotInitialized.into()), expected(1));
    assert_eq!(code(Error::Address { address: "a".to_owned() }), expected(2));
    assert_eq!(format!("{:?}", verdict(&answers(Some(1)))), expected(0));
    assert_eq!(format!("{:?}", verdict(&answers(None))), expected(3));
    let uninitialized = vec![("a:1".to_owned(), Err(job_client::Error::NotInitialized))];
    assert_eq!(format!("{:?}", verdict(&uninitialized)), expected(1));
}

#[test]
fn a_cluster_reads_well() {
    expect![[r#"
        Cluster 00000000000000000000000000000007: led by coordinator-2, epoch 12

        COORDINATOR    CLIENT          RAFT            ROLE       APPLIED  STATE
        coordinator-1  127.0.0.1:1001  127.0.0.1:2001  follower   99       0000000000000abc
        coordinator-2  127.0.0.1:1002  127.0.0.1:2002  leader     99       0000000000000abc
        -              127.0.0.1:1003  -               no answer  -        -

        127.0.0.1:1003: reach coordinators 127.0.0.1:1003: none answered (gone); check the addresses given by --coordinators and that the coordinators run

        TASK MANAGER   DATA            SLOTS  FREE  DRAINING  MEMORY/SLOT  HEARTBEAT   PID
        taskmanager-1  127.0.0.1:3001  2      1     yes       256 MiB      120 ms ago  42

        TAKEOVER (EPOCH)  JOB                               ADOPTED  RESTARTED
        12                01900000000070008000000000000001  4        0
    "#]].assert_eq(&text::cluster(&answers(Some(2)), None));
    let value: serde_json::Value = serde_json::from_str(&json::cluster(&answers(Some(2)))).unwrap();
    assert_eq!(value["leader"], "127.0.0.1:1002");
    assert_eq!(value["coordinators"][1]["applied_index"], 99);
    assert_eq!(value["coordinators"][2]["address"], "127.0.0.1:1003");
    assert_eq!(value["task_managers"][0]["heartbeat_age_ms"], 120);
    assert_eq!(value["takeovers"][0]["tasks_adopted"], 4);
}

#[test]
fn task_managers_are_listed_with_who_drains_and_who_is_there() {
    let (_, status) = answers(Some(1)).remove(0);
    let mut managers = status.unwrap().task_managers;
    managers.push(TaskManagerStatus { jobs: vec![], draining: false, free_slots: 2, ..managers[0].clone() });
    expect![[r"
        ID                                NAME           DATA            SLOTS  FREE  DRAINING  JOBS
        00000000000000000000000000000008  taskmanager-1  127.0.0.1:3001  2      1     yes       01900000000070008000000000000001
        00000000000000000000000000000008  taskmanager-1  127.0.0.1:3001  2      2     no        -
    "]]
    .assert_eq(&text::task_managers(&managers));
    let value: serde_json::Value = serde_json::from_str(&json::task_manager_list(&managers)).unwrap();
    let first = &value["task_managers"][0];
    assert_eq!((&first["draining"], &first["jobs"][0]), (&true.into(), &job_id().to_string().into()));
    for line in ["list", "drain tm-1 --wait", "undrain tm-1 --json", "drain --dir d tm-1"] {
        let parsed = parse(&format!("tidemill taskmanager {line}"));
        assert!(matches!(parsed.unwrap().command, Command::Taskmanager(_)), "{line}");
    }
}

#[test]
fn a_job_reads_well() {
    let failure = Failure {
        kind: FailureKind::Panic,
        vertex: Some(ExecutionVertexId { vertex: JobVertexId(1), subtask: SubtaskIndex(0) }),
        operator: Some("Sum".to_owned()),
        message: "attempt to divide by zero".to_owned(),
    };
    assert!(text::job(&details(JobStatus::Running), Timestamp(1_700_000_075_000)).contains("Records     7 in, 3 out"));
    let job = details(JobStatus::Failed(failure));
    expect![[r#"
        Job 01900000000070008000000000000001 "word count"
        Status      FAILED
        Failure     panic in operator "Sum" (vertex v1, sub-task 0): attempt to divide by zero
        Submitted   2023-11-14 22:13:20.123 UTC (1 min 14 s ago)
        Restarts    2, from checkpoint 6
        Checkpoints 7 completed, the newest is 9

        SINCE (UTC)              STATUS   CAUSE
        2023-11-14 22:13:20.123  CREATED

        VERTEX  SUB-TASK  ATTEMPT  STATE    TASK MANAGER   SLOT  PID
        Sum     0         2        RUNNING  taskmanager-1  3     42
    "#]]
    .assert_eq(&text::job(&job, Timestamp(1_700_000_075_000)));
    let value: serde_json::Value = serde_json::from_str(&json::job(&read(job.clone()))).unwrap();
    assert_eq!(value["status"], "FAILED");
    assert_eq!(value["failure"]["operator"], "Sum");
    assert_eq!(value["attempts"][0]["attempt"], 2);
    assert_eq!(value["attempts"][0]["slot"], 3);
    assert_eq!(value["vertices"][0]["slot_sharing_group"], "wide");
}

#[test]
fn a_list_of_jobs_reads_well() {
    let job = details(JobStatus::Running);
    let summary = JobSummary { id: job.id, name: job.name, status: job.status, submitted: job.submitted };
    expect![[r#"
        JOB                               STATUS   SUBMITTED (UTC)          NAME
        01900000000070008000000000000001  RUNNING  2023-11-14 22:13:20.123  word count
    "#]]
    .assert_eq(&text::jobs(&[summary]));
    assert_eq!(text::jobs(&[]), "no jobs\n");
}

#[test]
fn times_and_sizes_have_units() {
    let seconds = |seconds| text::duration(std::time::Duration::from_secs(seconds));
    assert_eq!(
        [seconds(1), seconds(61), seconds(7260), seconds(90_000)],
        ["1.0 s", "1 min 1 s", "2 h 1 min", "1 d 1 h"]
    );
    assert_eq!(text::moment(Timestamp(0)), "1970-01-01 00:00:00.000");
    assert_eq!(text::moment(Timestamp(951_782_400_000)), "2000-02-29 00:00:00.000");
    assert_eq!(text::moment(Timestamp(1_795_392_000_001)), "2026-11-23 00:00:00.001");
    assert_eq!([text::size(5), text::size(2048), text::size(256 << 20)], ["5 B", "2 KiB", "256 MiB"]);
}

#[test]
fn a_stale_answer_says_how_old_it_may_be() {
    let stale = read(());
    expect![[r"

        Stale: from node 2 at log index 57, which last heard of a leader 120 ms ago
    "]]
    .assert_eq(&text::freshness(&stale.freshness));
    let linearizable = Freshness { consistency: Consistency::Linearizable, ..stale.freshness };
    assert_eq!(text::freshness(&linearizable), "");
    let value: serde_json::Value = serde_json::from_str(&json::jobs(&read(Vec::new()))).unwrap();
    assert_eq!(value["read"]["age_ms"], 120);
    assert_eq!(value["read"]["consistency"], "stale");
}

#[test]
fn stale_is_short_for_a_consistency() {
    let consistency = |line: &str| {
        let Command::List(list) = parse(line).unwrap().command else { panic!("another command") };
        list.read.consistency()
    };
    assert_eq!(consistency("tidemill list"), Consistency::Linearizable);
    assert_eq!(consistency("tidemill list --stale"), Consistency::Stale);
    assert_eq!(consistency("tidemill list --consistency lease"), Consistency::Lease);
    assert!(parse("tidemill list --consistency eventual").is_err());
    assert!(parse("tidemill list --stale --consistency lease").is_err());
}

#[test]
fn members_are_listed_with_their_lag_and_alarms() {
    let (_, status) = answers(Some(1)).remove(1);
    let mut own = status.unwrap();
    own.alarms.push("the disk is full".to_owned());
    let node = own.nodes[1].clone();
    let answered = Some(std::time::Duration::from_millis(40));
    let member = MemberStatus { node: NodeStatus { answered, ..node }, own: Ok(own), lag: Some(3) };
    expect![[r"
        NODE  NAME           ROLE   APPLIED  LAG  ANSWERED   RAFT            CLIENT
        2     coordinator-2  voter  99       3    40 ms ago  127.0.0.1:2002  127.0.0.1:1002

        ALARM coordinator-2: the disk is full
    "]]
    .assert_eq(&text::members(std::slice::from_ref(&member)));
    let value: serde_json::Value = serde_json::from_str(&json::members(&[member])).unwrap();
    assert_eq!((&value["members"][0]["lag"], &value["members"][0]["role"]), (&3.into(), &"voter".into()));
}
