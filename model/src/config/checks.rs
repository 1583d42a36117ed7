//! What must hold between options.

use std::time::Duration;

use super::option::Scope;
use super::option::{DurationOption, PortOption};
use super::value::print_duration;
use super::{
    COORDINATOR_CLIENT_PORT, COORDINATOR_HTTP_PORT, COORDINATOR_RAFT_ELECTION_TIMEOUT_MAX,
    COORDINATOR_RAFT_ELECTION_TIMEOUT_MIN, COORDINATOR_RAFT_HEARTBEAT_INTERVAL, COORDINATOR_RAFT_PORT,
    COORDINATOR_RECONCILE_TIMEOUT, Configuration, EXECUTION_CHECKPOINTING_DIR, EXECUTION_CHECKPOINTING_INTERVAL,
    EXECUTION_CHECKPOINTING_MAX_CONCURRENT, EXECUTION_CHECKPOINTING_MODE, EXECUTION_CHECKPOINTING_UNALIGNED_ENABLED,
    Error, HEARTBEAT_GRACE, HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT, RESTART_STRATEGY_EXPONENTIAL_DELAY_INITIAL_BACKOFF,
    RESTART_STRATEGY_EXPONENTIAL_DELAY_MAX_BACKOFF, TASKMANAGER_DATA_PORT, TASKMANAGER_HTTP_PORT,
    TASKMANAGER_ORPHAN_TIMEOUT, TASKMANAGER_REGISTRATION_INITIAL_BACKOFF, TASKMANAGER_REGISTRATION_MAX_BACKOFF,
};
use crate::checkpoint::CheckpointingMode;

/// Checks the options of the configuration's own scope against each other.
pub(super) fn check(configuration: &Configuration) -> Result<(), Error> {
    match configuration.scope() {
        Scope::Coordinator => check_coordinator(configuration),
        Scope::TaskManager => check_task_manager(configuration),
        Scope::Job => check_job(configuration),
    }
}

fn check_job(configuration: &Configuration) -> Result<(), Error> {
    if let Some(interval) = configuration.get(&EXECUTION_CHECKPOINTING_INTERVAL)
        && configuration.get(&EXECUTION_CHECKPOINTING_DIR).is_none()
    {
        let (key, value) = (EXECUTION_CHECKPOINTING_INTERVAL.key(), print_duration(interval));
        let rule = format!("{} must say where checkpoints are kept", EXECUTION_CHECKPOINTING_DIR.key());
        return Err(Error::Contradiction { key, value, rule });
    }
    check_unaligned(configuration)?;
    at_least(
        configuration,
        &RESTART_STRATEGY_EXPONENTIAL_DELAY_MAX_BACKOFF,
        configuration.get(&RESTART_STRATEGY_EXPONENTIAL_DELAY_INITIAL_BACKOFF),
        RESTART_STRATEGY_EXPONENTIAL_DELAY_INITIAL_BACKOFF.key(),
    )
}

/// Without alignment no barrier is waited for; and what is in flight is kept for one checkpoint at a time.
fn check_unaligned(configuration: &Configuration) -> Result<(), Error> {
    let unaligned = &EXECUTION_CHECKPOINTING_UNALIGNED_ENABLED;
    if !configuration.get(unaligned) {
        return Ok(());
    }
    let refuse = |rule| Err(Error::Contradiction { key: unaligned.key(), value: "true".to_owned(), rule });
    if configuration.get(&EXECUTION_CHECKPOINTING_MODE) == CheckpointingMode::AtLeastOnce {
        return refuse(format!("{} must be exactly-once", EXECUTION_CHECKPOINTING_MODE.key()));
    }
    if configuration.get(&EXECUTION_CHECKPOINTING_MAX_CONCURRENT) > 1 {
        return refuse(format!("{} must be 1", EXECUTION_CHECKPOINTING_MAX_CONCURRENT.key()));
    }
    Ok(())
}

fn check_coordinator(configuration: &Configuration) -> Result<(), Error> {
    check_heartbeats(configuration)?;
    let (min, max) = (&COORDINATOR_RAFT_ELECTION_TIMEOUT_MIN, &COORDINATOR_RAFT_ELECTION_TIMEOUT_MAX);
    longer(configuration, min, &COORDINATOR_RAFT_HEARTBEAT_INTERVAL)?;
    longer(configuration, max, min)?;
    let ports = [&COORDINATOR_CLIENT_PORT, &COORDINATOR_RAFT_PORT, &COORDINATOR_HTTP_PORT];
    different_ports(configuration, &ports)
}

fn check_task_manager(configuration: &Configuration) -> Result<(), Error> {
    check_heartbeats(configuration)?;
    let reconcile = configuration.get(&COORDINATOR_RECONCILE_TIMEOUT);
    let needed = configuration.get(&HEARTBEAT_TIMEOUT).saturating_add(reconcile);
    let parts = format!("{} + {}", HEARTBEAT_TIMEOUT.key(), COORDINATOR_RECONCILE_TIMEOUT.key());
    // A task manager that gave up sooner would kill what the next leader is about to adopt.
    at_least(configuration, &TASKMANAGER_ORPHAN_TIMEOUT, needed, &parts)?;
    let initial = &TASKMANAGER_REGISTRATION_INITIAL_BACKOFF;
    at_least(configuration, &TASKMANAGER_REGISTRATION_MAX_BACKOFF, configuration.get(initial), initial.key())?;
    different_ports(configuration, &[&TASKMANAGER_DATA_PORT, &TASKMANAGER_HTTP_PORT])
}

fn check_heartbeats(configuration: &Configuration) -> Result<(), Error> {
    longer(configuration, &HEARTBEAT_TIMEOUT, &HEARTBEAT_INTERVAL)?;
    longer(configuration, &HEARTBEAT_TIMEOUT, &HEARTBEAT_GRACE)
}

fn longer(configuration: &Configuration, option: &DurationOption, than: &DurationOption) -> Result<(), Error> {
    let (value, bound) = (configuration.get(option), configuration.get(than));
    if value > bound {
        return Ok(());
    }
    let rule = format!("it must be longer than {} ({})", than.key(), print_duration(bound));
    Err(Error::Contradiction { key: option.key(), value: print_duration(value), rule })
}

fn at_least(
    configuration: &Configuration,
    option: &DurationOption,
    bound: Duration,
    bound_name: &str,
) -> Result<(), Error> {
    let value = configuration.get(option);
    if value >= bound {
        return Ok(());
    }
    let rule = format!("it must be at least {bound_name} ({})", print_duration(bound));
    Err(Error::Contradiction { key: option.key(), value: print_duration(value), rule })
}

/// Ports that the system chooses differ anyway.
fn different_ports(configuration: &Configuration, options: &[&PortOption]) -> Result<(), Error> {
    for (index, option) in options.iter().enumerate() {
        let port = configuration.get(option);
        let same = options[..index].iter().find(|earlier| port != 0 && configuration.get(earlier) == port);
        if let Some(earlier) = same {
            let rule = format!("{} has the same port; each needs its own", earlier.key());
            return Err(Error::Contradiction { key: option.key(), value: port.to_string(), rule });
        }
    }
    Ok(())
}
