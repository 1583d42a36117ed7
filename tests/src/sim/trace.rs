//! What happened, as one number that two runs of a seed must agree on, and in words for one who reads.

use super::clock::Time;
use super::event::Event;
use super::fact::Fact;
use super::random::mix;

/// The hash of everything so far; prints the facts when it is asked to.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) hash: u64,
    pub(crate) events: u64,
    verbose: bool,
}

impl Trace {
    pub(crate) fn new(verbose: bool) -> Self {
        Self { hash: 0, events: 0, verbose }
    }

    fn add(&mut self, bits: u64) {
        self.hash = mix(self.hash ^ bits).wrapping_add(self.hash.rotate_left(23));
    }

    pub(crate) fn event(&mut self, now: Time, event: &Event) {
        self.events += 1;
        self.add(now);
        self.add(tag(event));
    }

    pub(crate) fn fault(&mut self, now: Time, what: &str) {
        what.bytes().for_each(|byte| self.add(u64::from(byte)));
        if self.verbose {
            println!("{} fault: {what}", seconds(now));
        }
    }

    pub(crate) fn fact(&mut self, now: Time, fact: &Fact<'_>) {
        self.add(weight(fact));
        if self.verbose
            && let Some(line) = line(fact)
        {
            println!("{} {line}", seconds(now));
        }
    }
}

pub(crate) fn seconds(now: Time) -> String {
    format!("{:>4}.{:06}", now / 1_000_000, now % 1_000_000)
}

/// Tells events apart by their kind and by whom they happen to.
fn tag(event: &Event) -> u64 {
    let process = |kind: u64, number: usize| (kind << 32) | number as u64;
    match event {
        Event::Raft { to, from, .. } => process(1, to * 16 + from),
        Event::RaftTick { node, .. } => process(2, *node),
        Event::Append { node, .. } => process(3, *node),
        Event::Mail { node, .. } => process(4, *node),
        Event::ActorWakes { node, .. } => process(5, *node),
        Event::ActorTick { node, .. } => process(6, *node),
        Event::AskStorage { node, .. } => process(24, *node),
        Event::MasterPanics { node, .. } => process(25, *node),
        Event::MasterBeginsAgain { node, .. } => process(26, *node),
        Event::PortProbed { node, .. } => process(7, *node),
        Event::Pump { connection, .. } => (8 << 32) | connection.0,
        Event::Gone { connection, .. } => (9 << 32) | connection.0,
        Event::AgentTick { place, .. } => process(10, *place),
        Event::Agent { place, .. } => process(11, *place),
        Event::Session { place, .. } => process(12, *place),
        Event::Executor { place, executor, .. } => process(13, *place) | (executor.0 << 8),
        Event::Late { place, .. } => process(14, *place),
        Event::Request { to, .. } => process(15, *to),
        Event::Reply { client, .. } => process(16, *client),
        Event::ClientTimer { client, .. } => process(17, *client),
        Event::ClientCancels { client } => process(18, *client),
        Event::Fault => 19 << 32,
        Event::Heal(_) => 20 << 32,
        Event::Restart(_) => 21 << 32,
        Event::Resume(_) => 22 << 32,
        Event::Operator => 25 << 32,
        Event::Look => 23 << 32,
    }
}

/// What a fact adds to the hash.
fn weight(fact: &Fact<'_>) -> u64 {
    match fact {
        Fact::Applied { node, index, term, command, .. } => {
            mix(node.0 ^ (index << 8) ^ (term << 40)) ^ command.body.name().len() as u64 ^ (command.epoch.0 << 16)
        }
        Fact::LeadershipBegan { epoch, .. } => mix(epoch.0),
        Fact::Sent { epoch, .. } => epoch.0 << 3,
        Fact::Directed { epoch, after, .. } => (epoch.0 << 5) ^ after.0,
        Fact::Reported { epoch, .. } => epoch.0 << 7,
        Fact::TaskStarted { attempt, .. } | Fact::TaskStopped { attempt, .. } | Fact::Told { attempt, .. } => {
            u64::from(attempt.attempt.0) << 20
                | u64::from(attempt.vertex.vertex.0) << 10
                | u64::from(attempt.vertex.subtask.0)
        }
        Fact::Published { attempts, .. } => attempts.len() as u64,
        Fact::Committed { records, .. } => (records.len() as u64) << 9,
        Fact::Deleted { paths, .. } => (paths.len() as u64) << 11,
        Fact::SubmissionAcknowledged { .. } => 11,
        Fact::CancellationAcknowledged { .. } => 12,
        Fact::StatusRead { status, .. } => status.map_or(13, |status| status.name().len() as u64),
        Fact::WorkersDisturbed { .. } => 14,
    }
}

/// A fact in words; none for those that would fill the page.
fn line(fact: &Fact<'_>) -> Option<String> {
    Some(match fact {
        Fact::Applied { node, index, term, command, response, .. } => {
            format!("node {node}: applied {index} (term {term}) {command} -> {response}")
        }
        Fact::LeadershipBegan { node, epoch } => format!("node {node}: leads, epoch {epoch}"),
        Fact::Sent {
            command: tidemill_coordinator::engine::leader::TaskManagerCommand::HeartbeatAnswer { .. },
            ..
        } => {
            return None;
        }
        Fact::Sent { epoch, task_manager, command, .. } => format!("epoch {epoch}: to {task_manager}: {command}"),
        Fact::Directed { task_manager, epoch, refused: true, .. } => {
            format!("task manager {task_manager}: refused a command of epoch {epoch}")
        }
        Fact::Directed { .. } => return None,
        Fact::Reported { task_manager, epoch, .. } => format!("task manager {task_manager}: reported to epoch {epoch}"),
        Fact::TaskStarted { attempt, task_manager } => format!("task manager {task_manager}: started {attempt}"),
        Fact::TaskStopped { attempt, task_manager } => format!("task manager {task_manager}: stopped {attempt}"),
        Fact::Told { attempt, state } => format!("{attempt} is {}", state.name()),
        Fact::Published { job, .. } => format!("job {job}: output published"),
        Fact::Committed { sink, records } => format!("{sink}: {} records are visible", records.len()),
        Fact::Deleted { job, paths } => format!("job {job}: deleted {}", paths.join(" ")),
        Fact::SubmissionAcknowledged { job } => format!("client of {job}: accepted"),
        Fact::CancellationAcknowledged { job } => format!("client of {job}: cancellation accepted"),
        Fact::StatusRead { job, status } => {
            format!("client of {job}: read {}", status.map_or("nothing", |status| status.name()))
        }
        Fact::WorkersDisturbed { .. } => return None,
    })
}
