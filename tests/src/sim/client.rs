//! Clients: each has one job, which it submits, perhaps cancels, and watches until it has ended.
//!
//! An answer may be lost at any time; a client then repeats its request, elsewhere, under the same id.

use tidemill_coordinator::engine::replicated::{CommandBody, Response};
use tidemill_model::id::JobId;
use tidemill_model::job::{JobStatus, StopMode};

use super::clock::{MILLISECOND, SECOND, Time};
use super::coordinator::Proposer;
use super::event::Event;
use super::fact::Fact;
use super::network::Process;
use super::plan::Job;
use super::raft::Node;
use super::random::Random;
use super::world::{World, node_id};
use crate::invariants::Violation;

/// How long a client waits for one answer.
const PATIENCE: Time = 2 * SECOND;

/// What a client wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    StoreArtifact,
    Submit,
    Cancel,
    /// Have it stopped at a savepoint.
    Suspend,
    Watch,
    /// Its job has ended, and it knows how.
    Nothing,
}

/// A request under way.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) client: usize,
    /// Tells answers of earlier tries apart.
    pub(crate) number: u64,
    /// The coordinator that it was sent to.
    node: Node,
    pub(crate) job: JobId,
    wish: Wish,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Ask again: there, if it says where.
    Again(Option<Node>),
    Applied(Response),
    Status(Option<JobStatus>),
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) job: Job,
    pub(crate) wish: Wish,
    /// It wants its job cancelled as soon as that is accepted.
    wants_cancel: bool,
    pub(crate) submission_acknowledged: bool,
    pub(crate) cancellation_acknowledged: bool,
    /// How its job ended, as it was told.
    pub(crate) result: Option<JobStatus>,
    number: u64,
    node: Node,
    random: Random,
}

impl Client {
    pub(crate) fn new(job: Job, random: Random) -> Self {
        Self {
            job,
            wish: Wish::StoreArtifact,
            wants_cancel: false,
            submission_acknowledged: false,
            cancellation_acknowledged: false,
            result: None,
            number: 0,
            node: 0,
            random,
        }
    }

    /// Half of the jobs that can be suspended are, instead of being cancelled.
    fn way_to_stop(&self) -> Wish {
        let spec = &self.job.spec;
        let suspends = spec.settings.checkpointing.is_some() && spec.id.0.as_u128().is_multiple_of(2);
        if suspends { Wish::Suspend } else { Wish::Cancel }
    }
}

impl World {
    pub(crate) fn start_client(&mut self, client: usize) {
        let job = &self.clients[client].job;
        let (submit_at, cancel_at) = (job.submit_at, job.cancel_at);
        self.after(submit_at, Event::ClientTimer { client, number: 0 });
        if let Some(cancel_at) = cancel_at {
            self.after(cancel_at, Event::ClientCancels { client });
        }
    }

    pub(crate) fn client_cancels(&mut self, client: usize) {
        let client = &mut self.clients[client];
        client.wants_cancel = client.wish != Wish::Nothing;
    }

    /// The next try is due: no answer has come, or it was time to ask again.
    pub(crate) fn client_timer(&mut self, index: usize, number: u64) {
        let count = self.coordinators.len();
        let client = &mut self.clients[index];
        if client.number != number {
            return;
        }
        client.node = client.random.index(count);
        self.ask(index);
    }

    fn ask(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.number += 1;
        if client.wish == Wish::Nothing {
            return;
        }
        if client.wish == Wish::Watch && client.wants_cancel {
            client.wish = client.way_to_stop();
        }
        let (number, node) = (client.number, client.node);
        let request = Request { client: index, number, node, job: client.job.spec.id, wish: client.wish };
        self.after(PATIENCE, Event::ClientTimer { client: index, number });
        for delay in self.network.datagram(Process::Client(index), Process::Coordinator(node)) {
            self.after(delay, Event::Request { to: node, request: Box::new(request.clone()) });
        }
    }

    /// A coordinator gets a request.
    pub(crate) fn request(&mut self, to: Node, request: Request) {
        if !self.coordinators[to].life.up {
            return;
        }
        let Some(epoch) = self.coordinators[to].leads() else {
            let leader = self.coordinators[to].replica.leader().filter(|leader| *leader != to);
            return self.reply_to(&request, Reply::Again(leader));
        };
        let spec = &self.clients[request.client].job.spec;
        let body = match request.wish {
            Wish::StoreArtifact => {
                let blob = spec.artifact().expect("simulated jobs have artifacts");
                CommandBody::RegisterBlob { blob, size_bytes: 1000, holders: [node_id(to)].into() }
            }
            Wish::Submit => CommandBody::SubmitJob { spec: Box::new(spec.clone()) },
            Wish::Cancel => CommandBody::CancelJob { job: request.job },
            Wish::Suspend => CommandBody::StopJob { job: request.job, how: StopMode::Suspend },
            Wish::Watch => return self.read(to, Box::new(request)),
            Wish::Nothing => return,
        };
        self.propose(to, epoch, body, Proposer::Client { epoch, request: Box::new(request) });
    }

    pub(crate) fn reply_to(&mut self, request: &Request, reply: Reply) {
        let (client, number) = (request.client, request.number);
        for delay in self.network.datagram(Process::Coordinator(request.node), Process::Client(client)) {
            self.after(delay, Event::Reply { client, number, reply: Box::new(reply.clone()) });
        }
    }

    pub(crate) fn reply(&mut self, index: usize, number: u64, reply: Reply) {
        if self.clients[index].number != number {
            return;
        }
        match reply {
            Reply::Again(leader) => {
                let client = &mut self.clients[index];
                let follow = leader.is_some_and(|leader| leader != client.node) && client.random.chance(900);
                match leader.filter(|_| follow) {
                    Some(leader) => {
                        client.node = leader;
                        self.ask(index);
                    }
                    None => self.ask_later(index, 50, 400),
                }
            }
            Reply::Applied(response) => self.applied(index, &response),
            Reply::Status(status) => self.status(index, status),
        }
    }

    fn ask_later(&mut self, index: usize, from: u64, to: u64) {
        let client = &mut self.clients[index];
        client.number += 1;
        let (number, delay) = (client.number, client.random.between(from, to) * MILLISECOND);
        self.after(delay, Event::ClientTimer { client: index, number });
    }

    fn applied(&mut self, index: usize, response: &Response) {
        let client = &mut self.clients[index];
        let job = client.job.spec.id;
        match (client.wish, response) {
            (Wish::StoreArtifact, Response::Done) => client.wish = Wish::Submit,
            (Wish::Submit, Response::Submitted { .. }) => {
                client.wish = Wish::Watch;
                client.submission_acknowledged = true;
                self.note(&Fact::SubmissionAcknowledged { job });
            }
            (Wish::Submit, Response::BlobMissing(_)) => client.wish = Wish::StoreArtifact,
            (Wish::Cancel, Response::Done) => {
                client.wish = Wish::Watch;
                client.wants_cancel = false;
                client.cancellation_acknowledged = true;
                self.note(&Fact::CancellationAcknowledged { job });
            }
            (Wish::Suspend, Response::Done) => {
                client.wish = Wish::Watch;
                client.wants_cancel = false;
            }
            // It ends otherwise already.
            (Wish::Cancel | Wish::Suspend, Response::Refused { .. }) => {
                client.wish = Wish::Watch;
                client.wants_cancel = false;
            }
            (wish, response) => {
                let text = format!("client {index} wanted {wish:?} of job {job} and was answered: {response}");
                self.watch.wrong(Violation::Answer(text));
            }
        }
        self.ask_later(index, 1, 50);
    }

    fn status(&mut self, index: usize, status: Option<JobStatus>) {
        let job = self.clients[index].job.spec.id;
        self.note(&Fact::StatusRead { job, status: status.as_ref() });
        match status.filter(JobStatus::is_terminal) {
            Some(status) => {
                let client = &mut self.clients[index];
                client.result = Some(status);
                client.wish = Wish::Nothing;
                client.number += 1;
            }
            None => self.ask_later(index, 200, 1200),
        }
    }
}
