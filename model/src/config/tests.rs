//! Whole configurations: defaults, files, overrides, refusals, and the documentation.

use std::collections::BTreeSet;
use std::time::Duration;

use expect_test::{expect, expect_file};

use super::*;
use crate::job::RuntimeMode;

fn parse(scope: Scope, pairs: &[(&str, &str)], overrides: &[&str]) -> Result<Configuration, Error> {
    let pairs = pairs.iter().map(|&(key, text)| (key.to_owned(), text.to_owned()));
    let overrides: Vec<String> = overrides.iter().map(|&argument| argument.to_owned()).collect();
    Configuration::parse(scope, pairs, &overrides)
}

fn refusal(scope: Scope, overrides: &[&str]) -> String {
    let dirs = [("coordinator.dir", "/c"), ("taskmanager.dir", "/t")];
    parse(scope, &dirs, overrides).expect_err("a bad configuration").to_string()
}

#[test]
fn the_documentation_is_current() {
    expect_file!["../../../docs/CONFIGURATION.md"].assert_eq(&markdown());
}

#[test]
fn every_key_is_declared_once_and_read_by_someone() {
    let keys: BTreeSet<&str> = ALL.iter().map(|declaration| declaration.key).collect();
    assert_eq!(keys.len(), ALL.len());
    assert!(ALL.iter().all(|declaration| !declaration.scopes.is_empty() && declaration.summary().ends_with('.')));
}

#[test]
fn without_anything_given_the_defaults_hold() {
    let job = parse(Scope::Job, &[], &[]).expect("nothing is required");
    assert_eq!(job.scope(), Scope::Job);
    assert_eq!(job.job_settings(), JobSettings::default());
    assert_eq!(job.get(&PARALLELISM_DEFAULT), 1);
    assert_eq!(job.get(&COORDINATOR_ADDRESSES), ["127.0.0.1:6123"]);
    let coordinator = parse(Scope::Coordinator, &[("coordinator.dir", "/data")], &[]).expect("all that is required");
    assert_eq!(coordinator.get(&COORDINATOR_DIR), "/data");
    assert_eq!(coordinator.get(&COORDINATOR_HOST), None);
    assert_eq!(coordinator.get(&COORDINATOR_CLIENT_PORT), 6123);
    assert_eq!(coordinator.get(&COORDINATOR_JOIN), [] as [&str; 0]);
    assert_eq!(coordinator.get(&HEARTBEAT_INTERVAL), Duration::from_millis(500));
    assert_eq!(coordinator.get(&BLOB_MAX_SIZE), 1 << 30);
}

#[test]
fn overrides_win_over_the_file_and_later_ones_over_earlier_ones() {
    let file = [("heartbeat.interval", "1 s"), ("execution.runtime-mode", "batch"), ("coordinator.host", "box")];
    let overrides = ["heartbeat.interval=2 s", "heartbeat.interval = 250 ms", "executor.memory.limit=1gib"];
    let configuration = parse(Scope::Job, &file, &overrides).expect("a good configuration");
    assert_eq!(configuration.get(&HEARTBEAT_INTERVAL), Duration::from_millis(250));
    assert_eq!(configuration.get(&COORDINATOR_HOST).as_deref(), Some("box"));
    let settings = configuration.job_settings();
    assert_eq!((settings.runtime_mode, settings.executor_memory_bytes), (RuntimeMode::Batch, Some(1 << 30)));
}

#[test]
fn a_configuration_prints_the_options_of_its_scope() {
    let job = parse(Scope::Job, &[], &["parallelism.default=4", "coordinator.addresses=a:1,b:2"]).expect("good");
    expect!["coordinator.addresses=a:1,b:2, rpc.max-message-size=16 mb, client.timeout=1 min, parallelism.default=4, execution.runtime-mode=automatic, execution.checkpointing.mode=exactly-once, execution.checkpointing.unaligned.enabled=false, execution.checkpointing.aligned-checkpoint-timeout=1 s, execution.checkpointing.min-pause=0 ms, execution.checkpointing.timeout=10 min, execution.checkpointing.max-concurrent-checkpoints=1, execution.checkpointing.tolerable-failed-checkpoints=0, execution.checkpointing.num-retained=1, execution.checkpointing.externalized-checkpoint-retention=delete-on-cancellation, execution.state-recovery.ignore-unclaimed-state=false, state.backend.type=heap, restart-strategy.type=exponential-delay, restart-strategy.exponential-delay.initial-backoff=100 ms, restart-strategy.exponential-delay.max-backoff=1 min, restart-strategy.exponential-delay.backoff-multiplier=1.5, restart-strategy.exponential-delay.reset-backoff-threshold=1 h, restart-strategy.exponential-delay.jitter-factor=0.1, restart-strategy.failure-rate.max-failures-per-interval=1, restart-strategy.failure-rate.failure-rate-interval=1 min, restart-strategy.failure-rate.delay=1 s, restart-strategy.fixed-delay.attempts=3, restart-strategy.fixed-delay.delay=200 ms"]
    .assert_eq(&job.to_string());
}

#[test]
fn refusals_say_what_to_write_instead() {
    let cases: [(Scope, &[&str]); 15] = [
        (Scope::Job, &["heartbeat.intervall=1 s"]),
        (Scope::Job, &["number-of-beans=1"]),
        (Scope::Job, &["parallelism.default"]),
        (Scope::Job, &["parallelism.default=0"]),
        (Scope::Job, &["execution.runtime-mode=sometimes"]),
        (Scope::Job, &["coordinator.addresses=localhost"]),
        (Scope::Job, &["executor.memory.limit=1 kb"]),
        (Scope::Job, &["coordinator.client.port=70000"]),
        (Scope::Coordinator, &["heartbeat.timeout=500 ms"]),
        (Scope::Coordinator, &["heartbeat.grace=3 s"]),
        (Scope::Coordinator, &["coordinator.raft.election-timeout-min=200 ms"]),
        (Scope::Coordinator, &["coordinator.raft.heartbeat-interval=100 ms"]),
        (Scope::Coordinator, &["coordinator.raft.port=6123"]),
        (Scope::TaskManager, &["taskmanager.orphan-timeout=12 s"]),
        (Scope::TaskManager, &["taskmanager.registration.max-backoff=10 ms"]),
    ];
    let refusals: Vec<String> = cases.iter().map(|(scope, overrides)| refusal(*scope, overrides)).collect();
    expect![[r#"
        read option "heartbeat.intervall": there is no such option; did you mean heartbeat.interval or heartbeat.grace?
        read option "number-of-beans": there is no such option; docs/CONFIGURATION.md lists them all
        read override "parallelism.default": write it as key=value
        read option parallelism.default: "0" is not allowed; write a whole number from 1 to 32768
        read option execution.runtime-mode: "sometimes" is not allowed; write automatic or batch or streaming
        read option coordinator.addresses: "localhost" is not allowed; write host:port pairs with commas between them, each once, such as a:6123,b:6123
        read option executor.memory.limit: "1 kb" is not allowed; write a size of at least 16 mb, with its unit (b, kb, mb, gb or tb), such as 512 mb
        read option coordinator.client.port: "70000" is not allowed; write a port from 1 to 65535, or 0 to let the system choose
        check option heartbeat.timeout (500 ms): it must be longer than heartbeat.interval (500 ms)
        check option heartbeat.timeout (3 s): it must be longer than heartbeat.grace (3 s)
        check option coordinator.raft.election-timeout-max (200 ms): it must be longer than coordinator.raft.election-timeout-min (200 ms)
        check option coordinator.raft.election-timeout-min (100 ms): it must be longer than coordinator.raft.heartbeat-interval (100 ms)
        check option coordinator.raft.port (6123): coordinator.client.port has the same port; each needs its own
        check option taskmanager.orphan-timeout (12 s): it must be at least heartbeat.timeout + coordinator.reconcile-timeout (13 s)
        check option taskmanager.registration.max-backoff (10 ms): it must be at least taskmanager.registration.initial-backoff (20 ms)
    "#]].assert_eq(&(refusals.join("\n") + "\n"));
}

#[test]
fn a_required_option_is_asked_for_only_where_it_is_read() {
    let missing = parse(Scope::TaskManager, &[], &[]).expect_err("taskmanager.dir is missing");
    assert!(matches!(missing, Error::Required { key: "taskmanager.dir", .. }), "{missing}");
    assert!(parse(Scope::TaskManager, &[("taskmanager.dir", "/t")], &[]).is_ok());
}

#[test]
fn what_contradicts_matters_only_to_its_own_scope() {
    assert!(parse(Scope::Job, &[], &["heartbeat.timeout=1 ms", "coordinator.raft.port=6123"]).is_ok());
}

#[test]
fn a_key_that_a_file_gives_twice_is_refused() {
    let twice = [("client.timeout", "1 s"), ("client.timeout", "2 s")];
    assert_eq!(parse(Scope::Job, &twice, &[]), Err(Error::Repeated { key: "client.timeout".into() }));
}

#[test]
fn ports_that_the_system_chooses_do_not_collide() {
    let zero = ["taskmanager.data.port=0", "taskmanager.http.port=0"];
    assert!(parse(Scope::TaskManager, &[("taskmanager.dir", "/t")], &zero).is_ok());
}

#[test]
fn unaligned_checkpoints_are_exactly_once_and_one_at_a_time() {
    let unaligned = "execution.checkpointing.unaligned.enabled=true";
    let kept = ["execution.checkpointing.interval=1 s", "execution.checkpointing.dir=/x"];
    let after = |more: &[&str]| {
        let parsed = parse(Scope::Job, &[], &[&kept, more].concat()).unwrap();
        parsed.job_settings().checkpointing.unwrap().unaligned_after
    };
    assert_eq!(after(&[]), None);
    assert_eq!(after(&[unaligned]), Some(Duration::from_secs(1)));
    let at_once = "execution.checkpointing.aligned-checkpoint-timeout=0 ms";
    assert_eq!(after(&[unaligned, at_once]), Some(Duration::ZERO));
    for (other, rule) in [
        ("execution.checkpointing.mode=at-least-once", "execution.checkpointing.mode must be exactly-once"),
        (
            "execution.checkpointing.max-concurrent-checkpoints=2",
            "execution.checkpointing.max-concurrent-checkpoints must be 1",
        ),
    ] {
        let error = parse(Scope::Job, &[], &[unaligned, other]).unwrap_err();
        assert!(error.to_string().contains(rule), "{error}");
        assert!(parse(Scope::Job, &[], &[other]).is_ok());
    }
}
