//! The table of all options: the one place where each is declared.

use std::time::Duration;

use super::option::{
    ConfigOption, Declaration, Permille, RestartStrategyKind, Scope, StateBackendKind, addresses, checkpointing_mode,
    count, decimal, duration, externalized_retention, flag, memory_size, optional_count, optional_duration,
    optional_memory_size, optional_text, pause, port, required_text, restart_strategy, runtime_mode, state_backend,
    text,
};
use crate::checkpoint::{CheckpointingMode, ExternalizedRetention};
use crate::job::RuntimeMode;
use crate::key_group::MAX_PARALLELISM_LIMIT;

const COORDINATOR: &[Scope] = &[Scope::Coordinator];
const TASK_MANAGER: &[Scope] = &[Scope::TaskManager];
const JOB: &[Scope] = &[Scope::Job];
const SERVERS: &[Scope] = &[Scope::Coordinator, Scope::TaskManager];
const COORDINATOR_CALLERS: &[Scope] = &[Scope::TaskManager, Scope::Job];
const EVERYONE: &[Scope] = &[Scope::Coordinator, Scope::TaskManager, Scope::Job];

const MEBIBYTE: u64 = 1 << 20;

/// Each option's documentation is the line above it.
macro_rules! options {
    ($(#[doc = $doc:literal] $name:ident: $type:ty = $key:literal, $scopes:expr, $allowed:expr;)*) => {
        $(
            #[doc = $doc]
            pub const $name: ConfigOption<$type> = ConfigOption::new($key, $scopes, $allowed, $doc);
        )*

        /// Every option, in the order of the documentation.
        pub const ALL: &[Declaration] = &[$($name.declaration),*];
    };
}

options! {
    /// The name of this coordinator, for people; it must differ from the other coordinators' names.
    COORDINATOR_NAME: Option<String> = "coordinator.name", COORDINATOR, optional_text("its host and Raft port");
    /// The folder in which this coordinator keeps its log, its state and its blobs; never shared, never temporary.
    COORDINATOR_DIR: String = "coordinator.dir", COORDINATOR, required_text();
    /// The address that this coordinator listens on.
    COORDINATOR_BIND_HOST: String = "coordinator.bind-host", COORDINATOR, text("127.0.0.1");
    /// The host under which others reach this coordinator.
    COORDINATOR_HOST: Option<String> = "coordinator.host", COORDINATOR, optional_text("`coordinator.bind-host`");
    /// The port for clients, the command line and task managers.
    COORDINATOR_CLIENT_PORT: u16 = "coordinator.client.port", COORDINATOR, port("6123");
    /// The port for the other coordinators.
    COORDINATOR_RAFT_PORT: u16 = "coordinator.raft.port", COORDINATOR, port("6124");
    /// The port for health checks and metrics.
    COORDINATOR_HTTP_PORT: u16 = "coordinator.http.port", COORDINATOR, port("8081");
    /// The Raft addresses of all coordinators that `tidemill cluster init` shall make one cluster of.
    COORDINATOR_JOIN: Vec<String> = "coordinator.join", COORDINATOR, addresses("");
    /// The client addresses of all coordinators; any that answers is enough to find the leader.
    COORDINATOR_ADDRESSES: Vec<String> = "coordinator.addresses", COORDINATOR_CALLERS, addresses("127.0.0.1:6123");
    /// How long a new leader waits for a silent task manager's report before it gives up what runs there.
    COORDINATOR_RECONCILE_TIMEOUT: Duration = "coordinator.reconcile-timeout", SERVERS, duration("10 s");
    /// How often the leader tells the other coordinators that it is there.
    COORDINATOR_RAFT_HEARTBEAT_INTERVAL: Duration = "coordinator.raft.heartbeat-interval", COORDINATOR, duration("40 ms");
    /// The shortest silence of a leader after which another coordinator stands for election.
    COORDINATOR_RAFT_ELECTION_TIMEOUT_MIN: Duration = "coordinator.raft.election-timeout-min", COORDINATOR, duration("100 ms");
    /// The longest silence of a leader after which another coordinator stands for election.
    COORDINATOR_RAFT_ELECTION_TIMEOUT_MAX: Duration = "coordinator.raft.election-timeout-max", COORDINATOR, duration("200 ms");
    /// How many log entries are written between two snapshots of the state.
    COORDINATOR_RAFT_SNAPSHOT_EVERY: u32 = "coordinator.raft.snapshot-every", COORDINATOR, count(10, 10_000_000, "10000");
    /// How many finished jobs are remembered.
    COORDINATOR_HISTORY_SIZE: u32 = "coordinator.history.size", COORDINATOR, count(0, 1_000_000, "100");
    /// Whether the operations of the chaos harness are let in; never in production.
    COORDINATOR_CHAOS_API: bool = "coordinator.chaos-api", COORDINATOR, flag("false");
    /// Whether jobs get slots of the task managers with the most free ones, or else fill one task manager after the other; either way they get more where they run already, if they can.
    CLUSTER_EVENLY_SPREAD_OUT_SLOTS: bool = "cluster.evenly-spread-out-slots", COORDINATOR, flag("true");
    /// The largest blob (a job's executable, what a `collect()` gathers) that a coordinator accepts.
    BLOB_MAX_SIZE: u64 = "blob.max-size", COORDINATOR, memory_size(MEBIBYTE, "1 gb");
    /// The largest single message between processes; large contents travel in pieces.
    RPC_MAX_MESSAGE_SIZE: u64 = "rpc.max-message-size", EVERYONE, memory_size(2 * MEBIBYTE, "16 mb");
    /// The folder in which this process writes what it decides and obeys, a file of JSON lines for each start.
    EVENTS_DIR: Option<String> = "events.dir", SERVERS, optional_text("nothing is written");
    /// How often a task manager says that it is there.
    HEARTBEAT_INTERVAL: Duration = "heartbeat.interval", SERVERS, duration("500 ms");
    /// After how long a silence either side of a task manager's stream takes the other for lost.
    HEARTBEAT_TIMEOUT: Duration = "heartbeat.timeout", SERVERS, duration("3 s");
    /// How long after the loss of its stream a task manager may return before the leader looks whether it lives.
    HEARTBEAT_GRACE: Duration = "heartbeat.grace", SERVERS, pause("300 ms");
    /// How many task slots this task manager offers.
    TASKMANAGER_NUMBER_OF_TASK_SLOTS: u32 = "taskmanager.numberOfTaskSlots", TASK_MANAGER, count(1, 4096, "1");
    /// The memory for state and network buffers, divided evenly among the slots.
    TASKMANAGER_MEMORY_MANAGED_SIZE: u64 = "taskmanager.memory.managed.size", TASK_MANAGER, memory_size(MEBIBYTE, "512 mb");
    /// The memory that all executors of this task manager may use, divided evenly among the slots; an executor that wants more than its slots' share is ended, alone.
    TASKMANAGER_MEMORY_PROCESS_SIZE: Option<u64> = "taskmanager.memory.process.size", TASK_MANAGER, optional_memory_size(64 * MEBIBYTE, "three quarters of the machine's memory");
    /// The address that this task manager listens on.
    TASKMANAGER_BIND_HOST: String = "taskmanager.bind-host", TASK_MANAGER, text("127.0.0.1");
    /// The host under which other task managers reach this one.
    TASKMANAGER_HOST: Option<String> = "taskmanager.host", TASK_MANAGER, optional_text("`taskmanager.bind-host`");
    /// The port for records from other task managers.
    TASKMANAGER_DATA_PORT: u16 = "taskmanager.data.port", TASK_MANAGER, port("6121");
    /// The port for health checks and metrics.
    TASKMANAGER_HTTP_PORT: u16 = "taskmanager.http.port", TASK_MANAGER, port("8082");
    /// The stable name of this task manager, kept over its restarts.
    TASKMANAGER_RESOURCE_ID: Option<String> = "taskmanager.resource-id", TASK_MANAGER, optional_text("its host and data port");
    /// The folder for artifacts, logs and temporary files of jobs; never shared by two task managers.
    TASKMANAGER_DIR: String = "taskmanager.dir", TASK_MANAGER, required_text();
    /// Whether copies of the state in checkpoints are kept in `taskmanager.dir`, where sub-tasks that are started again on the same task manager read them first.
    EXECUTION_STATE_RECOVERY_FROM_LOCAL: bool = "execution.state-recovery.from-local", TASK_MANAGER, flag("false");
    /// How long tasks are kept running while no coordinator can be reached.
    TASKMANAGER_ORPHAN_TIMEOUT: Duration = "taskmanager.orphan-timeout", TASK_MANAGER, duration("10 min");
    /// The first pause between two attempts to reach the leader.
    TASKMANAGER_REGISTRATION_INITIAL_BACKOFF: Duration = "taskmanager.registration.initial-backoff", TASK_MANAGER, duration("20 ms");
    /// The longest pause between two attempts to reach the leader.
    TASKMANAGER_REGISTRATION_MAX_BACKOFF: Duration = "taskmanager.registration.max-backoff", TASK_MANAGER, duration("1 s");
    /// How long a task may take to stop when it is told to, before its executor is killed.
    TASK_CANCELLATION_TIMEOUT: Duration = "task.cancellation.timeout", TASK_MANAGER, duration("30 s");
    /// How long one call of a client may take, retries and the search for the leader included.
    CLIENT_TIMEOUT: Duration = "client.timeout", JOB, duration("60 s");
    /// The parallelism of a job that does not set its own.
    PARALLELISM_DEFAULT: u32 = "parallelism.default", JOB, count(1, MAX_PARALLELISM_LIMIT, "1");
    /// When aggregates speak: once at the end, with each record, or whichever fits the sources.
    EXECUTION_RUNTIME_MODE: RuntimeMode = "execution.runtime-mode", JOB, runtime_mode("automatic");
    /// The time from the trigger of one checkpoint to that of the next, in streaming mode.
    EXECUTION_CHECKPOINTING_INTERVAL: Option<Duration> = "execution.checkpointing.interval", JOB, optional_duration("no checkpoints");
    /// The folder in which checkpoints are kept: an absolute path, `file://` or `s3://bucket/...`; all coordinators and task managers must reach it.
    EXECUTION_CHECKPOINTING_DIR: Option<String> = "execution.checkpointing.dir", JOB, optional_text("no checkpoints");
    /// Whether records are reflected once in state after a failure, or perhaps more often, for which no input waits for another.
    EXECUTION_CHECKPOINTING_MODE: CheckpointingMode = "execution.checkpointing.mode", JOB, checkpointing_mode("exactly-once");
    /// Whether a checkpoint becomes unaligned that is not aligned in time: snapshots are taken before all barriers have come, and what is in flight is kept with them. With exactly-once only, and one checkpoint at a time.
    EXECUTION_CHECKPOINTING_UNALIGNED_ENABLED: bool = "execution.checkpointing.unaligned.enabled", JOB, flag("false");
    /// How long a sub-task that has heard of a checkpoint waits for its barriers, where unaligned ones are enabled; 0: not at all.
    EXECUTION_CHECKPOINTING_ALIGNED_TIMEOUT: Duration = "execution.checkpointing.aligned-checkpoint-timeout", JOB, pause("1 s");
    /// The shortest time from the end of one checkpoint to the trigger of the next.
    EXECUTION_CHECKPOINTING_MIN_PAUSE: Duration = "execution.checkpointing.min-pause", JOB, pause("0 ms");
    /// How long a checkpoint may take before it is given up.
    EXECUTION_CHECKPOINTING_TIMEOUT: Duration = "execution.checkpointing.timeout", JOB, duration("10 min");
    /// How many checkpoints may be under way at once.
    EXECUTION_CHECKPOINTING_MAX_CONCURRENT: u32 = "execution.checkpointing.max-concurrent-checkpoints", JOB, count(1, 1000, "1");
    /// How many checkpoints may fail in a row; the next one that does fails the job.
    EXECUTION_CHECKPOINTING_TOLERABLE_FAILED: u32 = "execution.checkpointing.tolerable-failed-checkpoints", JOB, count(0, u32::MAX, "0");
    /// How many completed checkpoints are kept.
    EXECUTION_CHECKPOINTING_NUM_RETAINED: u32 = "execution.checkpointing.num-retained", JOB, count(1, 1000, "1");
    /// Whether the newest checkpoints of a job that is cancelled or fails are deleted or kept.
    EXECUTION_CHECKPOINTING_EXTERNALIZED_RETENTION: ExternalizedRetention = "execution.checkpointing.externalized-checkpoint-retention", JOB, externalized_retention("delete-on-cancellation");
    /// The savepoint that the job starts from: its folder, as a URL or an absolute path.
    EXECUTION_STATE_RECOVERY_PATH: Option<String> = "execution.state-recovery.path", JOB, optional_text("the job starts from nothing");
    /// Whether state in the savepoint is left behind whose operator the program does not have; otherwise the job is refused.
    EXECUTION_STATE_RECOVERY_IGNORE_UNCLAIMED: bool = "execution.state-recovery.ignore-unclaimed-state", JOB, flag("false");
    /// Where the state of keyed operators is: in memory, or in RocksDB on the local disk with what is in use in memory.
    STATE_BACKEND_TYPE: StateBackendKind = "state.backend.type", JOB, state_backend("heap");
    /// The memory of each slot for keyed state in RocksDB: keys that are in use, its block cache and its write buffers.
    STATE_BACKEND_ROCKSDB_MEMORY_FIXED_PER_SLOT: Option<u64> = "state.backend.rocksdb.memory.fixed-per-slot", JOB, optional_memory_size(MEBIBYTE, "the slot's share of `taskmanager.memory.managed.size`");
    /// When a job, or the part of it that failed, is started again after a failure that may pass.
    RESTART_STRATEGY_TYPE: RestartStrategyKind = "restart-strategy.type", JOB, restart_strategy("exponential-delay");
    /// The first pause before a restart.
    RESTART_STRATEGY_EXPONENTIAL_DELAY_INITIAL_BACKOFF: Duration = "restart-strategy.exponential-delay.initial-backoff", JOB, duration("100 ms");
    /// The longest pause before a restart.
    RESTART_STRATEGY_EXPONENTIAL_DELAY_MAX_BACKOFF: Duration = "restart-strategy.exponential-delay.max-backoff", JOB, duration("1 min");
    /// How much longer each pause is than the one before.
    RESTART_STRATEGY_EXPONENTIAL_DELAY_BACKOFF_MULTIPLIER: Permille = "restart-strategy.exponential-delay.backoff-multiplier", JOB, decimal(Permille(1000), Permille(1_000_000), "1.5");
    /// After how long without a failure the next pause is the first one again.
    RESTART_STRATEGY_EXPONENTIAL_DELAY_RESET_BACKOFF_THRESHOLD: Duration = "restart-strategy.exponential-delay.reset-backoff-threshold", JOB, duration("1 h");
    /// By which part of itself a pause may be longer or shorter, so that jobs that failed together do not return together.
    RESTART_STRATEGY_EXPONENTIAL_DELAY_JITTER_FACTOR: Permille = "restart-strategy.exponential-delay.jitter-factor", JOB, decimal(Permille(0), Permille(1000), "0.1");
    /// How many restarts there may be before the pause is the first one again; the next failure after them is final.
    RESTART_STRATEGY_EXPONENTIAL_DELAY_ATTEMPTS: Option<u32> = "restart-strategy.exponential-delay.attempts-before-reset-backoff", JOB, optional_count(0, u32::MAX, "no limit");
    /// How many failures one interval may have.
    RESTART_STRATEGY_FAILURE_RATE_MAX_FAILURES: u32 = "restart-strategy.failure-rate.max-failures-per-interval", JOB, count(0, 128, "1");
    /// The interval in which failures are counted.
    RESTART_STRATEGY_FAILURE_RATE_INTERVAL: Duration = "restart-strategy.failure-rate.failure-rate-interval", JOB, duration("1 min");
    /// The pause before each restart.
    RESTART_STRATEGY_FAILURE_RATE_DELAY: Duration = "restart-strategy.failure-rate.delay", JOB, pause("1 s");
    /// How often a job is started again after a failure that may pass.
    RESTART_STRATEGY_FIXED_DELAY_ATTEMPTS: u32 = "restart-strategy.fixed-delay.attempts", JOB, count(0, u32::MAX, "3");
    /// How long to wait before a job is started again.
    RESTART_STRATEGY_FIXED_DELAY_DELAY: Duration = "restart-strategy.fixed-delay.delay", JOB, pause("200 ms");
    /// The most memory (heap and stacks) that one executor process of the job may use; its slots' share of `taskmanager.memory.process.size` counts when it is lower.
    EXECUTOR_MEMORY_LIMIT: Option<u64> = "executor.memory.limit", JOB, optional_memory_size(16 * MEBIBYTE, "its slots' share");
}
