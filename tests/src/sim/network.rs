//! The network: who reaches whom, how long that takes, and what gets lost or doubled on the way.

use std::collections::{BTreeMap, VecDeque};

use super::clock::{MILLISECOND, Time};
use super::raft::Node;
use super::random::Random;

/// One process of the simulated cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Process {
    Coordinator(Node),
    /// The task manager at this place, whichever incarnation.
    TaskManager(usize),
    Client(usize),
}

/// Directed cuts, and the weather.
#[derive(Debug)]
pub(crate) struct Network {
    /// How many faults cut each direction.
    cuts: BTreeMap<(Process, Process), u32>,
    /// Of a thousand datagrams, so many are lost, and so many come twice.
    pub(crate) lossy: bool,
    random: Random,
}

const LOSS: u64 = 80;
const DUPLICATION: u64 = 50;

impl Network {
    pub(crate) fn new(random: Random) -> Self {
        Self { cuts: BTreeMap::new(), lossy: false, random }
    }

    pub(crate) fn cut(&mut self, from: Process, to: Process) {
        *self.cuts.entry((from, to)).or_default() += 1;
    }

    pub(crate) fn join(&mut self, from: Process, to: Process) {
        if let Some(count) = self.cuts.get_mut(&(from, to)) {
            *count -= 1;
            if *count == 0 {
                self.cuts.remove(&(from, to));
            }
        }
    }

    pub(crate) fn reaches(&self, from: Process, to: Process) -> bool {
        !self.cuts.contains_key(&(from, to))
    }

    /// How long one message takes.
    pub(crate) fn delay(&mut self) -> Time {
        if self.random.chance(if self.lossy { 250 } else { 20 }) {
            self.random.between(5 * MILLISECOND, 120 * MILLISECOND)
        } else {
            self.random.between(150, 1500)
        }
    }

    /// When the copies of a datagram arrive, from now on: none, one or two.
    pub(crate) fn datagram(&mut self, from: Process, to: Process) -> Vec<Time> {
        if !self.reaches(from, to) || (self.lossy && self.random.chance(LOSS)) {
            return Vec::new();
        }
        let mut copies = vec![self.delay()];
        if self.random.chance(if self.lossy { DUPLICATION } else { 3 }) {
            copies.push(self.delay());
        }
        copies
    }
}

/// One direction of a stream: in order, and nothing is lost but by the end of it all.
#[derive(Debug)]
pub(crate) struct Pipe<T> {
    pub(crate) queue: VecDeque<T>,
    /// An event that will deliver the next one is under way.
    pub(crate) pumping: bool,
    /// Since when nothing gets through.
    pub(crate) blocked_since: Option<Time>,
}

impl<T> Default for Pipe<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), pumping: false, blocked_since: None }
    }
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the coordinator.
    Up,
    /// To the task manager.
    Down,
}
