//! Consensus, modelled: one replica of a Raft group with elections, a log with terms, lag, truncation and a lease.
//!
//! It is plain Raft without pre-votes, snapshots and changes of membership. What is on disk (term, vote, log) survives a
//! crash; everything else does not. Messages may be lost, doubled, delayed and reordered.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tidemill_coordinator::engine::replicated::Command;

use super::clock::{MILLISECOND, Time};
use super::random::Random;

/// A replica's place in the list of coordinators.
pub(crate) type Node = usize;

/// How often a leader speaks.
const HEARTBEAT: Time = 80 * MILLISECOND;

/// After so long a silence a follower stands for election, at the earliest and at the latest.
const ELECTION: (Time, Time) = (220 * MILLISECOND, 440 * MILLISECOND);

/// A leader whose quorum has been silent for so long does not lead here: the latest election and the earliest one.
const LEASE: Time = ELECTION.0 + ELECTION.1;

/// The most entries of one message: a replica that lags catches up over several.
const ENTRIES_PER_MESSAGE: usize = 32;

/// One proposal, so that its proposer hears what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProposalId(pub(crate) u64);

/// One entry of the log; the blank one with which a leader begins has no command.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) term: u64,
    pub(crate) command: Option<Rc<Command>>,
    pub(crate) proposal: Option<ProposalId>,
}

/// What replicas say to each other.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    RequestVote { term: u64, last_term: u64, last_index: u64 },
    Vote { term: u64 },
    Append { term: u64, sent: Time, previous_term: u64, previous_index: u64, entries: Vec<Entry>, commit: u64 },
    Appended { term: u64, sent: Time, outcome: Outcome },
}

/// What became of an `Append`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    /// The logs agree up to this index.
    Matched(u64),
    /// They do not agree at the given place; the follower's log ends here.
    Differs { last_index: u64 },
    /// The receiver knows a higher term.
    Behind,
}

/// What a leader knows of another replica.
#[derive(Debug, Clone, Copy)]
struct Peer {
    next: u64,
    matched: u64,
    /// When the newest message that it has answered was sent.
    acknowledged: Option<Time>,
}

#[derive(Debug, Clone)]
enum Role {
    Follower,
    Candidate { votes: BTreeSet<Node> },
    Leader { peers: BTreeMap<Node, Peer>, next_heartbeat: Time },
}

/// One replica.
#[derive(Debug)]
pub(crate) struct Replica {
    me: Node,
    size: usize,
    // On disk.
    term: u64,
    vote: Option<Node>,
    log: Vec<Entry>,
    // Lost in a crash.
    role: Role,
    leader: Option<Node>,
    commit: u64,
    heard: Option<Time>,
    election_at: Time,
    random: Random,
}

impl Replica {
    pub(crate) fn new(me: Node, size: usize, mut random: Random) -> Self {
        let election_at = random.between(ELECTION.0, ELECTION.1);
        Self {
            me,
            size,
            term: 0,
            vote: None,
            log: Vec::new(),
            role: Role::Follower,
            leader: None,
            commit: 0,
            heard: None,
            election_at,
            random,
        }
    }

    /// Only the disk is left.
    pub(crate) fn restart(&mut self, now: Time) {
        self.role = Role::Follower;
        self.leader = None;
        self.commit = 0;
        self.heard = None;
        self.put_off_election(now);
    }

    pub(crate) fn commit(&self) -> u64 {
        self.commit
    }

    pub(crate) fn entry(&self, index: u64) -> &Entry {
        &self.log[position(index)]
    }

    /// Who leads, as far as this replica knows.
    pub(crate) fn leader(&self) -> Option<Node> {
        self.leader
    }

    /// The term that it leads with a quorum that answers.
    pub(crate) fn leads(&self, now: Time) -> Option<u64> {
        let acknowledged = self.quorum_acknowledged(now)?;
        (now.saturating_sub(acknowledged) <= LEASE).then_some(self.term)
    }

    /// When the newest messages that a quorum has answered were sent; none while it does not lead, or none was.
    pub(crate) fn quorum_acknowledged(&self, now: Time) -> Option<Time> {
        let Role::Leader { peers, .. } = &self.role else { return None };
        let mut times: Vec<Time> = peers.values().filter_map(|peer| peer.acknowledged).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        let others = self.quorum() - 1;
        if others == 0 { Some(now) } else { times.get(others - 1).copied() }
    }

    /// Appends a command, if this replica believes that it leads.
    pub(crate) fn append(&mut self, command: Rc<Command>, proposal: ProposalId) -> bool {
        if !matches!(self.role, Role::Leader { .. }) {
            return false;
        }
        self.log.push(Entry { term: self.term, command: Some(command), proposal: Some(proposal) });
        self.hurry();
        self.advance_commit();
        true
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, now: Time, out: &mut Vec<(Node, Message)>) {
        match &mut self.role {
            Role::Leader { next_heartbeat, .. } if *next_heartbeat <= now => {
                *next_heartbeat = now + HEARTBEAT;
                self.replicate(now, out);
            }
            Role::Leader { .. } => {}
            Role::Follower | Role::Candidate { .. } if self.election_at <= now => self.stand(now, out),
            Role::Follower | Role::Candidate { .. } => {}
        }
    }

    pub(crate) fn receive(&mut self, now: Time, from: Node, message: Message, out: &mut Vec<(Node, Message)>) {
        match message {
            Message::RequestVote { term, last_term, last_index } => {
                self.vote(now, from, term, (last_term, last_index), out);
            }
            Message::Vote { term } if term == self.term => self.count_vote(now, from, out),
            Message::Vote { .. } => {}
            Message::Append { term, sent, .. } if term < self.term => {
                out.push((from, Message::Appended { term: self.term, sent, outcome: Outcome::Behind }));
            }
            Message::Append { term, sent, previous_term, previous_index, entries, commit } => {
                self.follow(now, term, Some(from));
                let outcome = self.take(previous_term, previous_index, entries, commit);
                out.push((from, Message::Appended { term, sent, outcome }));
            }
            Message::Appended { term, .. } if term > self.term => self.follow(now, term, None),
            Message::Appended { term, sent, outcome } if term == self.term => self.acknowledged(from, sent, outcome),
            Message::Appended { .. } => {}
        }
    }

    fn quorum(&self) -> usize {
        self.size / 2 + 1
    }

    fn last_index(&self) -> u64 {
        self.log.len() as u64
    }

    fn term_at(&self, index: u64) -> u64 {
        if index == 0 { 0 } else { self.log[position(index)].term }
    }

    fn others(&self) -> impl Iterator<Item = Node> + use<> {
        let me = self.me;
        (0..self.size).filter(move |node| *node != me)
    }

    fn put_off_election(&mut self, now: Time) {
        self.election_at = now + self.random.between(ELECTION.0, ELECTION.1);
    }

    fn stand(&mut self, now: Time, out: &mut Vec<(Node, Message)>) {
        self.term += 1;
        self.vote = Some(self.me);
        self.leader = None;
        self.role = Role::Candidate { votes: BTreeSet::from([self.me]) };
        self.put_off_election(now);
        let last_index = self.last_index();
        let request = Message::RequestVote { term: self.term, last_term: self.term_at(last_index), last_index };
        out.extend(self.others().map(|other| (other, request.clone())));
        self.lead_if_elected(now, out);
    }

    fn vote(&mut self, now: Time, from: Node, term: u64, last: (u64, u64), out: &mut Vec<(Node, Message)>) {
        // The lease of the leader that it hears: nobody else is wanted.
        let served = self.heard.is_some_and(|heard| now.saturating_sub(heard) < ELECTION.0);
        if term < self.term || (served && self.leader.is_some()) {
            return;
        }
        if term > self.term {
            self.follow(now, term, None);
        }
        let last_index = self.last_index();
        let free = self.vote.is_none_or(|vote| vote == from);
        if free && last >= (self.term_at(last_index), last_index) && matches!(self.role, Role::Follower) {
            self.vote = Some(from);
            self.put_off_election(now);
            out.push((from, Message::Vote { term }));
        }
    }

    fn count_vote(&mut self, now: Time, from: Node, out: &mut Vec<(Node, Message)>) {
        if let Role::Candidate { votes } = &mut self.role {
            votes.insert(from);
            self.lead_if_elected(now, out);
        }
    }

    fn lead_if_elected(&mut self, now: Time, out: &mut Vec<(Node, Message)>) {
        let Role::Candidate { votes } = &self.role else { return };
        if votes.len() < self.quorum() {
            return;
        }
        let next = self.last_index() + 1;
        let peers = self.others().map(|other| (other, Peer { next, matched: 0, acknowledged: None })).collect();
        self.leader = Some(self.me);
        self.role = Role::Leader { peers, next_heartbeat: now + HEARTBEAT };
        self.log.push(Entry { term: self.term, command: None, proposal: None });
        self.advance_commit();
        self.replicate(now, out);
    }

    fn follow(&mut self, now: Time, term: u64, leader: Option<Node>) {
        if term > self.term {
            self.term = term;
            self.vote = None;
        }
        self.role = Role::Follower;
        self.leader = leader;
        if leader.is_some() {
            self.heard = Some(now);
        }
        self.put_off_election(now);
    }

    /// Takes in entries; what contradicts them is truncated.
    fn take(&mut self, previous_term: u64, previous_index: u64, entries: Vec<Entry>, commit: u64) -> Outcome {
        let last_index = self.last_index();
        if previous_index > last_index || self.term_at(previous_index) != previous_term {
            return Outcome::Differs { last_index: last_index.min(previous_index.saturating_sub(1)) };
        }
        let mut index = previous_index;
        for entry in entries {
            index += 1;
            if index <= self.last_index() {
                if self.term_at(index) == entry.term {
                    continue;
                }
                assert!(index > self.commit, "the model would truncate what is committed");
                self.log.truncate(position(index));
            }
            self.log.push(entry);
        }
        self.commit = self.commit.max(commit.min(index));
        Outcome::Matched(index)
    }

    fn acknowledged(&mut self, from: Node, sent: Time, outcome: Outcome) {
        let Role::Leader { peers, .. } = &mut self.role else { return };
        let Some(peer) = peers.get_mut(&from) else { return };
        peer.acknowledged = peer.acknowledged.max(Some(sent));
        match outcome {
            Outcome::Matched(index) => {
                peer.matched = peer.matched.max(index);
                peer.next = peer.next.max(peer.matched + 1);
                let behind = peer.next <= self.log.len() as u64;
                self.advance_commit();
                if behind {
                    self.hurry();
                }
            }
            Outcome::Differs { last_index } => {
                peer.next = (last_index + 1).max(peer.matched + 1).min(peer.next);
                self.hurry();
            }
            Outcome::Behind => {}
        }
    }

    /// Speaks with the next tick, which is soon.
    fn hurry(&mut self) {
        if let Role::Leader { next_heartbeat, .. } = &mut self.role {
            *next_heartbeat = 0;
        }
    }

    /// Whether it has something to say that should not wait for the regular tick.
    pub(crate) fn hurries(&self) -> bool {
        matches!(self.role, Role::Leader { next_heartbeat: 0, .. })
    }

    /// Committed is what a quorum has, up to an entry of this leader's own term.
    fn advance_commit(&mut self) {
        let Role::Leader { peers, .. } = &self.role else { return };
        let mut matched: Vec<u64> = peers.values().map(|peer| peer.matched).chain([self.log.len() as u64]).collect();
        matched.sort_unstable_by(|a, b| b.cmp(a));
        let index = matched[self.quorum() - 1];
        if index > self.commit && self.term_at(index) == self.term {
            self.commit = index;
        }
    }

    fn replicate(&mut self, now: Time, out: &mut Vec<(Node, Message)>) {
        let Role::Leader { peers, .. } = &mut self.role else { return };
        for (&other, peer) in peers {
            let previous_index = peer.next - 1;
            let start = usize::try_from(previous_index).expect("an index of a log in memory");
            let end = self.log.len().min(start + ENTRIES_PER_MESSAGE);
            let entries = self.log[start..end].to_vec();
            let previous_term = if previous_index == 0 { 0 } else { self.log[start - 1].term };
            let (term, commit) = (self.term, self.commit);
            out.push((other, Message::Append { term, sent: now, previous_term, previous_index, entries, commit }));
        }
    }
}

/// Where the entry of an index lies in the list.
fn position(index: u64) -> usize {
    usize::try_from(index).expect("an index of a log in memory") - 1
}
