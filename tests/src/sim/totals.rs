//! What was seen, counted: a simulation in which nothing happens proves nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use tidemill_coordinator::engine::replicated::{CommandBody, Response};
use tidemill_model::id::LeaderEpoch;
use tidemill_taskmanager::engine::Directive;

use super::fact::Fact;

/// Counts of one or many simulations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many simulations.
    pub seeds: u64,
    /// Events that were simulated.
    pub events: u64,
    /// Simulated time, in seconds.
    pub seconds: u64,
    /// Faults that were inflicted.
    pub faults: u64,
    /// Leaderships that began.
    pub leaderships: u64,
    /// Entries that the first replica to do so applied, by the command's name.
    pub applied: BTreeMap<&'static str, u64>,
    /// Commands that were refused at apply because another leadership had begun, by name.
    pub stale: BTreeMap<&'static str, u64>,
    /// `LeaderStarted` entries that lingered.
    pub lingered: u64,
    /// Commands and welcomes that task managers refused, by kind.
    pub refused: BTreeMap<&'static str, u64>,
    /// Reports of task managers.
    pub reports: u64,
    /// Tasks that ran on undisturbed through a change of leaders.
    pub adopted: u64,
    /// Tasks that ran.
    pub tasks: u64,
    /// Jobs whose output was published.
    pub published: u64,
    /// Answers that clients read.
    pub reads: u64,
    /// Pairs of replicas whose states were compared.
    pub comparisons: u64,
    highest: u64,
    epoch: LeaderEpoch,
}

impl Totals {
    pub(crate) fn observe(&mut self, fact: &Fact<'_>) {
        match fact {
            Fact::Applied { index, command, response, .. } if *index > self.highest => {
                self.highest = *index;
                *self.applied.entry(command.body.name()).or_default() += 1;
                if let Response::Stale { .. } = response {
                    *self.stale.entry(command.body.name()).or_default() += 1;
                }
                self.lingered += u64::from(**response == Response::Lingered);
                if let (CommandBody::RecordTakeover { adopted, .. }, Response::Done) = (&command.body, response) {
                    self.adopted += u64::from(*adopted);
                }
            }
            Fact::LeadershipBegan { .. } => self.leaderships += 1,
            Fact::Directed { refused: true, directive, .. } => {
                *self.refused.entry(directive.map_or("Welcome", directive_name)).or_default() += 1;
            }
            Fact::Reported { .. } => self.reports += 1,
            Fact::TaskStarted { .. } => self.tasks += 1,
            Fact::Published { .. } => self.published += 1,
            Fact::StatusRead { .. } => self.reads += 1,
            Fact::Applied { .. }
            | Fact::Sent { .. }
            | Fact::Directed { .. }
            | Fact::TaskStopped { .. }
            | Fact::Committed { .. }
            | Fact::Deleted { .. }
            | Fact::Told { .. }
            | Fact::SubmissionAcknowledged { .. }
            | Fact::CancellationAcknowledged { .. }
            | Fact::WorkersDisturbed { .. } => {}
        }
    }

    /// How often a command of this name was applied.
    #[must_use]
    pub fn applied(&self, name: &str) -> u64 {
        self.applied.get(name).copied().unwrap_or(0)
    }
}

fn directive_name(directive: &Directive) -> &'static str {
    match directive {
        Directive::Deploy { .. } => "Deploy",
        Directive::Cancel { .. } => "Cancel",
        Directive::Acknowledge { .. } => "Acknowledge",
        Directive::Finalize { .. } => "Finalize",
        Directive::Release { .. } => "Release",
        Directive::Checkpoint(_) => "Checkpoint",
    }
}

impl AddAssign<&Totals> for Totals {
    fn add_assign(&mut self, other: &Self) {
        let add = |into: &mut BTreeMap<&'static str, u64>, from: &BTreeMap<&'static str, u64>| {
            for (name, count) in from {
                *into.entry(name).or_default() += count;
            }
        };
        self.seeds += other.seeds;
        self.events += other.events;
        self.seconds += other.seconds;
        self.faults += other.faults;
        self.leaderships += other.leaderships;
        add(&mut self.applied, &other.applied);
        add(&mut self.stale, &other.stale);
        self.lingered += other.lingered;
        add(&mut self.refused, &other.refused);
        self.reports += other.reports;
        self.adopted += other.adopted;
        self.tasks += other.tasks;
        self.published += other.published;
        self.reads += other.reads;
        self.comparisons += other.comparisons;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &BTreeMap<&'static str, u64>| {
            let texts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
        };
        writeln!(
            f,
            "{} seeds, {} events, {} s of simulated time, {} faults",
            self.seeds, self.events, self.seconds, self.faults
        )?;
        writeln!(f, "leaderships: {}; reports of task managers: {}", self.leaderships, self.reports)?;
        writeln!(f, "applied: {}", list(&self.applied))?;
        writeln!(f, "stale at apply: {}; lingered leaderships: {}", list(&self.stale), self.lingered)?;
        writeln!(f, "refused by task managers: {}", list(&self.refused))?;
        writeln!(f, "tasks: {} started, {} adopted; outputs published: {}", self.tasks, self.adopted, self.published)?;
        write!(f, "reads of clients: {}; replicas compared: {}", self.reads, self.comparisons)
    }
}
