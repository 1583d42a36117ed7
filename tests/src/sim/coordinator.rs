//! One coordinator process: its replica of the log, its state machine, and the leaderships that follow each other.
//!
//! This imitates `coordinator/src/runtime/{raft,leader/run,leader/context}.rs`: a leadership begins with a proposal of
//! `LeaderStarted`, its engines are built when that is applied, and it ends with its term, its lease, or with a
//! proposal that has no answer.

use std::collections::BTreeMap;
use std::rc::Rc;

use tidemill_coordinator::engine::replicated::{ClusterState, Command, CommandBody, Response};
use tidemill_model::id::{JobId, LeaderEpoch};
use tidemill_model::time::Timestamp;

use super::client::{Reply, Request};
use super::clock::{MILLISECOND, Time};
use super::event::{Actor, Event, Mail};
use super::fact::Fact;
use super::leader::Leadership;
use super::network::Process;
use super::raft::{Message, Node, ProposalId, Replica};
use super::random::Random;
use super::world::{Life, World, node_id};
use tidemill_coordinator::engine::leader::JobMasterEvent;

/// How often a replica looks at its timers.
const RAFT_TICK: Time = 20 * MILLISECOND;

/// How long to wait before a leadership that failed to begin, or ended, is tried again.
const RETRY: Time = 20 * MILLISECOND;

/// Who waits for what becomes of a proposal.
#[derive(Debug, Clone)]
pub(crate) enum Proposer {
    Leadership,
    Master { epoch: LeaderEpoch, job: JobId },
    Operator { epoch: LeaderEpoch },
    Client { epoch: LeaderEpoch, request: Box<Request> },
}

#[derive(Debug)]
struct Waiting {
    /// The term in which it was proposed.
    term: u64,
    proposer: Proposer,
}

/// Where the next leadership stands.
#[derive(Debug)]
pub(crate) enum Shell {
    Idle { retry_at: Time },
    Beginning { term: u64 },
    Leading(Box<Leadership>),
}

/// A read that waits for its index.
#[derive(Debug)]
struct Read {
    since: Time,
    index: u64,
    request: Box<Request>,
}

/// Why a proposal has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    NotLeader,
    Unknown,
}

/// One coordinator.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) life: Life,
    pub(crate) replica: Replica,
    /// What has been applied here.
    pub(crate) state: ClusterState,
    pub(crate) applied: u64,
    pub(crate) shell: Shell,
    waiting: BTreeMap<ProposalId, Waiting>,
    reads: Vec<Read>,
    /// The log's queue is busy until then: proposals come to its head in order.
    queue_free_at: Time,
    /// Its disk is slow: proposals linger.
    pub(crate) slow: bool,
    random: Random,
}

impl Coordinator {
    pub(crate) fn new(node: Node, count: usize, life: Life, mut random: Random) -> Self {
        Self {
            life,
            replica: Replica::new(node, count, random.fork()),
            state: ClusterState::default(),
            applied: 0,
            shell: Shell::Idle { retry_at: 0 },
            waiting: BTreeMap::new(),
            reads: Vec::new(),
            queue_free_at: 0,
            slow: false,
            random,
        }
    }

    /// Whether a job's masters have proposed something that has no answer yet.
    pub(super) fn is_undecided(&self, epoch: LeaderEpoch, job: JobId) -> bool {
        let own =
            |proposer: &Proposer| matches!(proposer, Proposer::Master { epoch: e, job: j } if (*e, *j) == (epoch, job));
        self.waiting.values().any(|waiting| own(&waiting.proposer))
    }

    /// What is in memory is lost; the state is made again from the log as it is known to be committed.
    pub(crate) fn restart(&mut self, now: Time) {
        self.replica.restart(now);
        self.state = ClusterState::default();
        self.applied = 0;
        self.shell = Shell::Idle { retry_at: 0 };
        self.waiting.clear();
        self.reads.clear();
        self.queue_free_at = now;
    }

    /// The leadership, when it is this one.
    pub(crate) fn leadership(&mut self, epoch: LeaderEpoch) -> Option<&mut Leadership> {
        match &mut self.shell {
            Shell::Leading(leadership) if leadership.epoch == epoch => Some(leadership),
            Shell::Leading(_) | Shell::Idle { .. } | Shell::Beginning { .. } => None,
        }
    }

    /// The epoch that this process leads, as its services see it.
    pub(crate) fn leads(&self) -> Option<LeaderEpoch> {
        match &self.shell {
            Shell::Leading(leadership) => Some(leadership.epoch),
            Shell::Idle { .. } | Shell::Beginning { .. } => None,
        }
    }
}

impl World {
    pub(crate) fn start_coordinator(&mut self, node: Node) {
        let boot = self.coordinators[node].life.boot;
        let delay = self.random.between(1, 20) * MILLISECOND;
        self.after(delay, Event::RaftTick { node, boot });
    }

    pub(crate) fn raft_ticked(&mut self, node: Node, boot: u64) {
        if !self.coordinators[node].life.is(boot) {
            return;
        }
        self.after(RAFT_TICK, Event::RaftTick { node, boot });
        self.tick_replica(node);
        self.after_raft(node);
    }

    pub(crate) fn raft_received(&mut self, to: Node, from: Node, message: Message) {
        if !self.coordinators[to].life.up {
            return;
        }
        let mut out = Vec::new();
        self.coordinators[to].replica.receive(self.now, from, message, &mut out);
        self.send_raft(to, out);
        self.after_raft(to);
    }

    fn tick_replica(&mut self, node: Node) {
        let mut out = Vec::new();
        self.coordinators[node].replica.tick(self.now, &mut out);
        self.send_raft(node, out);
    }

    fn send_raft(&mut self, from: Node, messages: Vec<(Node, Message)>) {
        for (to, message) in messages {
            for delay in self.network.datagram(Process::Coordinator(from), Process::Coordinator(to)) {
                self.after(delay, Event::Raft { to, from, message: Box::new(message.clone()) });
            }
        }
    }

    /// What follows from any change of the replica.
    fn after_raft(&mut self, node: Node) {
        if self.coordinators[node].replica.hurries() {
            self.tick_replica(node);
        }
        self.apply_committed(node);
        self.judge_leadership(node);
        self.answer_reads(node);
    }

    /// A leader without a quorum that answers does not lead here.
    fn judge_leadership(&mut self, node: Node) {
        let now = self.now;
        let coordinator = &mut self.coordinators[node];
        let leads = coordinator.replica.leads(now);
        let over: Vec<ProposalId> =
            coordinator.waiting.iter().filter(|(_, waiting)| Some(waiting.term) != leads).map(|(&id, _)| id).collect();
        for proposal in over {
            self.resolve(node, proposal, Err(Lost::Unknown));
        }
        match &self.coordinators[node].shell {
            Shell::Leading(leadership) if leads != Some(leadership.term) => self.end_leadership(node),
            Shell::Beginning { term } if leads != Some(*term) => {
                self.coordinators[node].shell = Shell::Idle { retry_at: now + RETRY };
            }
            Shell::Idle { retry_at } if now >= *retry_at => {
                if let Some(term) = leads {
                    self.coordinators[node].shell = Shell::Beginning { term };
                    let body = CommandBody::LeaderStarted { node: node_id(node), term };
                    self.propose(node, LeaderEpoch::default(), body, Proposer::Leadership);
                }
            }
            Shell::Idle { .. } | Shell::Beginning { .. } | Shell::Leading(_) => {}
        }
    }

    /// Hands a command to the log, under the epoch that decided it.
    pub(crate) fn propose(&mut self, node: Node, epoch: LeaderEpoch, body: CommandBody, proposer: Proposer) {
        let now = self.now;
        self.last_proposal += 1;
        let proposal = ProposalId(self.last_proposal);
        let coordinator = &mut self.coordinators[node];
        let command = Rc::new(Command { epoch, stamp: coordinator.life.clock.wall(now), body });
        let Some(term) = coordinator.replica.leads(now) else {
            let waiting = Waiting { term: 0, proposer };
            return self.answer(node, waiting, Err(Lost::NotLeader));
        };
        coordinator.waiting.insert(proposal, Waiting { term, proposer });
        self.echo.remember(&command);
        let coordinator = &mut self.coordinators[node];
        let work = match coordinator.slow && coordinator.random.chance(400) {
            true => coordinator.random.between(50, 2500) * MILLISECOND,
            false => coordinator.random.between(20, 400),
        };
        coordinator.queue_free_at = coordinator.queue_free_at.max(now) + work;
        // Each proposal is a task of its own: one that is not run for a while is overtaken by later ones.
        let straggles =
            if coordinator.random.chance(60) { coordinator.random.between(1, 800) * MILLISECOND } else { 0 };
        let (delay, boot) = (coordinator.queue_free_at - now + straggles, coordinator.life.boot);
        self.after(delay, Event::Append { node, boot, proposal, command });
    }

    /// A proposal that has lingered is appended under whatever term this replica leads by now.
    pub(crate) fn append(&mut self, node: Node, boot: u64, proposal: ProposalId, command: Rc<Command>) {
        if !self.coordinators[node].life.is(boot) {
            return;
        }
        if !self.coordinators[node].replica.append(command, proposal) {
            return self.resolve(node, proposal, Err(Lost::NotLeader));
        }
        self.after_raft(node);
    }

    fn apply_committed(&mut self, node: Node) {
        let mut applied_any = false;
        while self.coordinators[node].applied < self.coordinators[node].replica.commit() {
            let coordinator = &mut self.coordinators[node];
            coordinator.applied += 1;
            let index = coordinator.applied;
            let entry = coordinator.replica.entry(index).clone();
            let Some(command) = entry.command else { continue };
            applied_any = true;
            let before = coordinator.state.clone();
            let response = coordinator.state.apply(index, entry.term, &command);
            let (command, response, term, node_id) = (&*command, &response, entry.term, node_id(node));
            let after = &coordinator.state;
            self.watch.observe(&Fact::Applied {
                node: node_id,
                index,
                term,
                command,
                response,
                before: &before,
                after,
            });
            let told = (index, self.coordinators[node].state.now, response.clone());
            self.tell_leadership(node, command, told);
            if let Some(proposal) = entry.proposal {
                self.resolve(node, proposal, Ok(response.clone()));
            }
        }
        if applied_any {
            self.compare_replicas(node);
            if let Some(epoch) = self.coordinators[node].leads() {
                self.post(node, epoch, Actor::Dispatcher, Mail::Synchronize);
            }
        }
    }

    /// The leadership that decided it hears of every command, in the order of the log.
    fn tell_leadership(&mut self, node: Node, command: &Command, (index, now, response): (u64, Timestamp, Response)) {
        let Some(epoch) = self.coordinators[node].leads().filter(|epoch| *epoch == command.epoch) else { return };
        if command.body.is_followed() {
            let event = JobMasterEvent::Applied { body: command.body.clone(), stamp: now, response };
            self.post(node, epoch, Actor::Dispatcher, Mail::Applied { index, event });
        }
    }

    fn compare_replicas(&mut self, node: Node) {
        let this = &self.coordinators[node];
        let other =
            self.coordinators.iter().enumerate().find(|(other, coordinator)| {
                *other != node && coordinator.life.up && coordinator.applied == this.applied
            });
        if let Some((other, coordinator)) = other {
            let (this, that) = ((node_id(node), &this.state), (node_id(other), &coordinator.state));
            self.watch.compare(this.0, that.0, self.coordinators[node].applied, this.1, that.1);
        }
    }

    fn resolve(&mut self, node: Node, proposal: ProposalId, outcome: Result<Response, Lost>) {
        if let Some(waiting) = self.coordinators[node].waiting.remove(&proposal) {
            self.answer(node, waiting, outcome);
        }
    }

    fn answer(&mut self, node: Node, waiting: Waiting, outcome: Result<Response, Lost>) {
        let decided = outcome.ok().filter(|response| !matches!(response, Response::Stale { .. }));
        let Waiting { term, proposer } = waiting;
        match (proposer, decided) {
            (Proposer::Leadership, Some(Response::Started(epoch))) => self.lead(node, term, epoch),
            (Proposer::Leadership, _) => {
                if matches!(self.coordinators[node].shell, Shell::Beginning { .. }) {
                    self.coordinators[node].shell = Shell::Idle { retry_at: self.now + RETRY };
                }
            }
            // Masters hear of it from the log.
            (Proposer::Master { .. } | Proposer::Operator { .. }, Some(_)) => {}
            (Proposer::Client { request, .. }, Some(response)) => {
                self.reply_to(&request, Reply::Applied(response));
            }
            // A proposal without an answer ends the leadership, and only the next one reads what came of it.
            (Proposer::Master { epoch, .. } | Proposer::Operator { epoch }, None) => {
                self.end_leadership_of(node, epoch)
            }
            (Proposer::Client { epoch, request }, None) => {
                self.end_leadership_of(node, epoch);
                self.reply_to(&request, Reply::Again(None));
            }
        }
    }

    fn end_leadership_of(&mut self, node: Node, epoch: LeaderEpoch) {
        if self.coordinators[node].leads() == Some(epoch) {
            self.end_leadership(node);
        }
    }

    /// Sessions end with their outbound halves: task managers look for the other side. Nothing is killed.
    fn end_leadership(&mut self, node: Node) {
        self.drain_resource_manager(node);
        self.coordinators[node].shell = Shell::Idle { retry_at: self.now + RETRY };
        for read in std::mem::take(&mut self.coordinators[node].reads) {
            self.reply_to(&read.request, Reply::Again(None));
        }
        self.close_sessions(node);
    }

    /// A read waits until a quorum has answered what was sent after it, and for what was committed before it.
    pub(crate) fn read(&mut self, node: Node, request: Box<Request>) {
        let index = self.coordinators[node].replica.commit();
        self.coordinators[node].reads.push(Read { since: self.now, index, request });
        self.answer_reads(node);
    }

    fn answer_reads(&mut self, node: Node) {
        let coordinator = &mut self.coordinators[node];
        if coordinator.reads.is_empty() {
            return;
        }
        let acknowledged = coordinator.replica.quorum_acknowledged(self.now);
        let (applied, reads) = (coordinator.applied, std::mem::take(&mut coordinator.reads));
        let ready = |read: &Read| acknowledged.is_some_and(|time| time >= read.since) && applied >= read.index;
        let (ready, waiting) = reads.into_iter().partition(ready);
        coordinator.reads = waiting;
        let ready: Vec<Read> = ready;
        for read in ready {
            let status = self.coordinators[node].state.jobs.get(&read.request.job).map(|job| job.status.clone());
            self.reply_to(&read.request, Reply::Status(status));
        }
    }

    pub(crate) fn coordinator_crashed(&mut self, node: Node) {
        let coordinator = &mut self.coordinators[node];
        coordinator.shell = Shell::Idle { retry_at: 0 };
        coordinator.waiting.clear();
        coordinator.reads.clear();
    }
}
