//! The nemeses: each breaks something, undoes it, and brings the proof that it was broken.

mod damage;
mod disk;
mod kill;
mod kill_executor;
mod partition;
mod pause;
mod power;

use anyhow::Context;

use crate::clock;
use crate::cluster::Cluster;
use crate::host::{Host, Role};
use crate::record::{FaultRecord, Proof};
use crate::schedule::{Entry, Fault, Target};
use crate::seed::Stream;

/// Breaks something of one kind.
trait Nemesis {
    /// Begins; what shows that it fired.
    fn start(&mut self, cluster: &mut Cluster, targets: &[Host]) -> anyhow::Result<Vec<String>>;

    /// Why it cannot be tried here; none: it can.
    fn missing(&self, _cluster: &Cluster) -> Option<String> {
        None
    }

    /// Undoes it; what more shows that it fired.
    fn stop(&mut self, cluster: &mut Cluster, targets: &[Host]) -> anyhow::Result<Vec<String>>;
}

fn nemesis(fault: Fault) -> Box<dyn Nemesis> {
    match fault {
        Fault::Kill => Box::new(kill::Kill),
        Fault::KillExecutor => Box::new(kill_executor::KillExecutor),
        Fault::SlowSync => Box::new(disk::DiskFault::slow()),
        Fault::FailSync => Box::new(disk::DiskFault::fails_once()),
        Fault::DiskFull => Box::new(disk::DiskFault::full()),
        Fault::PowerLoss => Box::new(power::PowerLoss),
        Fault::DamageCheckpoint => Box::new(damage::DamageCheckpoint),
        Fault::Pause => Box::new(pause::Pause),
        Fault::Isolate => Box::new(partition::Partition::both_ways()),
        Fault::IsolateOut => Box::new(partition::Partition::outwards()),
        Fault::IsolateIn => Box::new(partition::Partition::inwards()),
    }
}

/// Carries a fault out from beginning to end, and tells how it went.
///
/// # Errors
///
/// When something stays broken: the rest of the run would prove nothing.
pub fn fire(cluster: &mut Cluster, phase: &str, entry: &Entry, chance: &mut Stream) -> anyhow::Result<FaultRecord> {
    let targets = match resolve(cluster, entry.target, chance) {
        Ok(targets) => targets,
        Err(error) => return Ok(not_fired(phase, entry, Proof::NotFired(format!("{error:#}")))),
    };
    let mut nemesis = nemesis(entry.fault);
    if let Some(missing) = nemesis.missing(cluster) {
        return Ok(not_fired(phase, entry, Proof::Skipped(missing)));
    }
    let names: Vec<String> = targets.iter().map(Host::to_string).collect();
    println!("  {} {}: {} ms", entry.fault.name(), names.join(" "), entry.for_ms);
    let started = nemesis.start(cluster, &targets);
    // From here on it is in effect: what was acknowledged while it began proves nothing.
    let from = clock::now();
    clock::pause(entry.lasts());
    let to = clock::now();
    let stopped =
        nemesis.stop(cluster, &targets).with_context(|| format!("undo {} of {names:?}", entry.fault.name()))?;
    let proof = match started {
        Err(error) => Proof::NotFired(format!("{error:#}")),
        Ok(evidence) => {
            let evidence: Vec<String> = evidence.into_iter().chain(stopped).collect();
            if evidence.is_empty() { Proof::NotFired("nothing shows it".to_owned()) } else { Proof::Fired(evidence) }
        }
    };
    Ok(FaultRecord { phase: phase.to_owned(), fault: entry.fault, targets, from, to, proof })
}

/// Nobody to hit, such as a leader where there is none, or no way to do it: the phase goes on, and proves nothing.
fn not_fired(phase: &str, entry: &Entry, proof: Proof) -> FaultRecord {
    let (phase, targets, at) = (phase.to_owned(), Vec::new(), clock::now());
    FaultRecord { phase, fault: entry.fault, targets, from: at, to: at, proof }
}

fn resolve(cluster: &Cluster, target: Target, chance: &mut Stream) -> anyhow::Result<Vec<Host>> {
    let coordinators = cluster.hosts(Role::Coordinator);
    Ok(match target {
        Target::Leader => vec![cluster.leader()?],
        Target::Follower => {
            let leader = cluster.leader()?;
            let followers: Vec<Host> = coordinators.into_iter().filter(|host| *host != leader).collect();
            vec![*chance.pick(&followers).context("find a follower: the leader is alone")?]
        }
        Target::AllCoordinators => coordinators,
        Target::TaskManager => vec![task_manager(cluster, chance)?],
        Target::AllTaskManagers => cluster.hosts(Role::TaskManager),
        Target::LeaderAndTaskManager => vec![cluster.leader()?, task_manager(cluster, chance)?],
        Target::Host(host) => vec![host],
    })
}

fn task_manager(cluster: &Cluster, chance: &mut Stream) -> anyhow::Result<Host> {
    chance.pick(&cluster.hosts(Role::TaskManager)).copied().context("find a task manager")
}
