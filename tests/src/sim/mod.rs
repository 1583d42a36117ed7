//! The control plane in one thread from one seed.
//!
//! The engines are the product's own: the replicated state and the leader's engines of every coordinator, the agents of
//! all task managers. Around them everything is simulated: consensus, network, clocks, executors and their records,
//! storage, clients, and what goes wrong. What the product's `runtime/` folders do is imitated here as a thin shell, and
//! each file says what it imitates. Every step is judged by [`invariants`](crate::invariants); after a while all faults
//! end, and everything must heal.
//!
//! A seed says everything: two runs of it are equal event by event, which [`Outcome::hash`] shows.

mod checkpoint;
mod client;
mod clock;
mod connection;
mod coordinator;
mod echo;
mod event;
mod executor;
pub mod fact;
mod fault;
mod leader;
mod leader_actions;
#[cfg(feature = "mutants")]
pub mod matrix;
mod network;
mod operator;
mod panicking;
mod plan;
mod raft;
mod random;
mod scenario;
mod session;
mod settle;
mod storage;
mod task;
mod task_manager;
mod totals;
mod trace;
mod watch;
mod world;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::invariants::{Invariants, Violation};

pub use plan::Profile;
pub use scenario::Scenario;
pub use totals::Totals;

use self::plan::Plan;
use self::trace::Trace;
use self::watch::Watch;
use self::world::World;

/// Whether a simulation tells what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// It says nothing.
    Silent,
    /// It prints what is decided and done.
    Aloud,
}

/// What came of one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Two runs of a seed have the same.
    pub hash: u64,
    /// What was seen.
    pub totals: Totals,
    /// What was wrong, if anything.
    pub failure: Option<Failure>,
}

/// The first thing that went wrong in a simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was played instead of a seed.
    pub scenario: Option<Scenario>,
    /// When, in microseconds from the beginning.
    pub at: u64,
    /// What.
    pub violation: Violation,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, scenario, at, violation } = self;
        let after = trace::seconds(*at);
        let after = after.trim_start();
        match scenario {
            Some(scenario) => writeln!(f, "{scenario}, after {after} s: {violation}")?,
            None => writeln!(f, "seed {seed}, after {after} s: {violation}")?,
        }
        match scenario {
            Some(scenario) => write!(f, "REPRODUCE WITH: make sim SCENARIO={scenario}"),
            None => write!(f, "REPRODUCE WITH: make sim SEED={seed}"),
        }
    }
}

/// Runs so many seeds, from the first on, on as many threads as there are processors; failures in the order of seeds.
///
/// # Panics
///
/// When a thread cannot be joined.
#[must_use]
pub fn simulate_all(first: u64, count: u64) -> (Totals, Vec<Failure>) {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicU64::new(first);
    let run = || {
        let (mut totals, mut failures) = (Totals::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return (totals, failures);
            }
            let outcome = simulate(seed, Telling::Silent);
            totals += &outcome.totals;
            failures.extend(outcome.failure);
        }
    };
    let parts: Vec<(Totals, Vec<Failure>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a simulation catches its panics")).collect()
    });
    let (mut totals, mut failures) = (Totals::default(), Vec::new());
    for (part, failed) in parts {
        totals += &part;
        failures.extend(failed);
    }
    failures.sort_by_key(|failure| failure.seed);
    (totals, failures)
}

/// Runs one seed.
#[must_use]
pub fn simulate(seed: u64, telling: Telling) -> Outcome {
    run(Plan::of(seed), telling)
}

/// Plays a directed scenario.
#[must_use]
pub fn play(scenario: Scenario, telling: Telling) -> Outcome {
    run(Plan::of_scenario(scenario), telling)
}

fn run(plan: Plan, telling: Telling) -> Outcome {
    let (seed, scenario) = (plan.seed, plan.scenario);
    let watch = Watch::new(Invariants::default(), Trace::new(telling == Telling::Aloud));
    let mut world = World::new(plan, watch);
    let panicked = catch_unwind(AssertUnwindSafe(|| world.run())).err();
    if let Some(payload) = panicked {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.watch.wrong(Violation::Panic(text.unwrap_or_else(|| "of an unknown kind".to_owned())));
    }
    let failure = world.watch.violation.map(|(at, violation)| Failure { seed, scenario, at, violation });
    let mut totals = world.watch.totals;
    totals.seeds = 1;
    totals.events = world.watch.trace.events;
    totals.seconds = world.now / clock::SECOND;
    Outcome { seed, hash: world.watch.trace.hash, totals, failure }
}
