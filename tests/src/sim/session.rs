//! The task that looks for the leader, says hello, and keeps the stream alive or looks anew.
//!
//! This imitates `taskmanager/src/runtime/session.rs`.

use tidemill_coordinator::engine::leader::{AddressedCommand, TaskManagerCommand, TaskManagerMessage};

use super::clock::{MILLISECOND, SECOND, Time};
use super::connection::Connection;
use super::event::{ConnectionId, Downward, Event, SessionTimer, Upward};
use super::network::Process;
use super::raft::Node;
use super::world::World;

/// How long a coordinator may take to welcome or refuse: at first, and at most.
const WELCOME_TIMEOUTS: (Time, Time) = (500 * MILLISECOND, 3 * SECOND);

/// How often a task manager says that it is there.
const HEARTBEAT: Time = 500 * MILLISECOND;

/// A leader that is silent for so long is left.
const SILENCE: Time = 3 * SECOND;

/// The first and the longest pause between tries.
const BACKOFF: (Time, Time) = (20 * MILLISECOND, SECOND);

/// Where a task manager's search for the leader stands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Session {
    Pausing,
    Opening { connection: ConnectionId },
    Serving { connection: ConnectionId, heard: Time },
}

/// The search itself.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) session: Session,
    /// What waits for an earlier state of the search is void.
    generation: u64,
    turn: Node,
    hint: Option<Node>,
    followed: bool,
    misses: usize,
    patience: Time,
    backoff: Time,
}

impl Search {
    pub(crate) fn new(turn: Node) -> Self {
        let session = Session::Pausing;
        let (patience, backoff) = (WELCOME_TIMEOUTS.0, BACKOFF.0);
        Self { session, generation: 0, turn, hint: None, followed: false, misses: 0, patience, backoff }
    }
}

impl World {
    fn session_later(&mut self, place: usize, delay: Time, timer: SessionTimer) {
        let (boot, generation) = (self.places[place].life.boot, self.places[place].search.generation);
        self.after(delay, Event::Session { place, boot, generation, timer });
    }

    pub(crate) fn session_timer(&mut self, place: usize, boot: u64, generation: u64, timer: SessionTimer) {
        let here = &self.places[place];
        if !here.life.is(boot) || here.search.generation != generation {
            return;
        }
        match (timer, here.search.session) {
            (SessionTimer::Resume, Session::Pausing) => self.open(place),
            (SessionTimer::NoWelcome, Session::Opening { connection }) => {
                self.leave(place, connection);
                self.session_lost(place);
                self.miss(place);
            }
            (SessionTimer::Beat, Session::Serving { connection, heard }) => {
                if self.now.saturating_sub(heard) > SILENCE {
                    return self.lost(place, connection);
                }
                let message = self.heartbeat(place);
                self.send_up(connection, Upward::Message(message));
                self.session_later(place, HEARTBEAT, SessionTimer::Beat);
            }
            (SessionTimer::Resume | SessionTimer::NoWelcome | SessionTimer::Beat, _) => {}
        }
    }

    /// Looks for the leader, from now on.
    pub(crate) fn search(&mut self, place: usize, delay: Time) {
        let search = &mut self.places[place].search;
        search.generation += 1;
        search.session = Session::Pausing;
        self.session_later(place, delay, SessionTimer::Resume);
    }

    fn pause_search(&mut self, place: usize) {
        let here = &mut self.places[place];
        let longest = here.search.backoff;
        here.search.backoff = (longest * 2).min(BACKOFF.1);
        let pause = here.random.between(longest / 2, longest);
        self.search(place, pause);
    }

    fn open(&mut self, place: usize) {
        let count = self.coordinators.len();
        let search = &mut self.places[place].search;
        let hint = search.hint.take();
        search.followed = hint.is_some();
        let node = hint.unwrap_or_else(|| {
            search.turn = (search.turn + 1) % count;
            search.turn
        });
        search.generation += 1;
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        self.places[place].search.session = Session::Opening { connection };
        let reachable = self.answers(Process::TaskManager(place), Process::Coordinator(node));
        if reachable && !self.coordinators[node].life.up {
            // Nobody listens there.
            return self.miss(place);
        }
        let boots = (self.places[place].life.boot, self.coordinators[node].life.boot);
        let fresh = Connection::new((place, boots.0), (node, boots.1), reachable);
        self.connections.insert(connection, fresh);
        let hello = self.places[place].hello();
        self.send_up(connection, Upward::Hello(Box::new(hello)));
        let patience = self.places[place].search.patience;
        self.session_later(place, patience, SessionTimer::NoWelcome);
    }

    /// Every coordinator is tried once before a pause.
    pub(super) fn miss(&mut self, place: usize) {
        let count = self.coordinators.len();
        let search = &mut self.places[place].search;
        search.misses += 1;
        if search.misses >= count {
            search.misses = 0;
            search.patience = (search.patience * 2).min(WELCOME_TIMEOUTS.1);
            return self.pause_search(place);
        }
        let delay = self.network.delay();
        self.search(place, delay);
    }

    /// A session that had been served has ended.
    pub(super) fn lost(&mut self, place: usize, connection: ConnectionId) {
        self.leave(place, connection);
        self.session_lost(place);
        let search = &mut self.places[place].search;
        search.backoff = BACKOFF.0;
        search.patience = WELCOME_TIMEOUTS.0;
        search.misses = 0;
        self.pause_search(place);
    }

    /// Closes the task manager's half.
    fn leave(&mut self, place: usize, connection: ConnectionId) {
        if self.places[place].handle == Some(connection) {
            self.places[place].handle = None;
        }
        self.send_up(connection, Upward::End);
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.down.queue.clear();
        }
    }

    /// The agent would not have this leader, or gave up the stream.
    pub(crate) fn drop_session(&mut self, place: usize) {
        let Some(connection) = self.places[place].handle.take() else { return };
        self.leave(place, connection);
        self.session_lost(place);
        self.miss(place);
    }

    pub(super) fn arrived_down(&mut self, id: ConnectionId, message: Downward) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (place, node) = (connection.place, connection.node);
        let session = self.places[place].search.session;
        match (session, message) {
            (Session::Opening { connection }, Downward::Command(command)) if connection == id => {
                self.welcomed(place, id, command);
            }
            (Session::Opening { connection }, Downward::Refused(leader)) if connection == id => {
                self.refused(place, node, leader);
            }
            (Session::Opening { connection }, Downward::End) if connection == id => self.refused(place, node, None),
            (
                Session::Serving { connection, .. },
                Downward::Command(AddressedCommand { epoch, task_manager, command }),
            ) if connection == id => {
                self.places[place].search.session = Session::Serving { connection, heard: self.now };
                self.directed(place, epoch, task_manager, command);
            }
            (Session::Serving { connection, .. }, Downward::End | Downward::Refused(_)) if connection == id => {
                self.lost(place, id);
            }
            (
                Session::Pausing | Session::Opening { .. } | Session::Serving { .. },
                Downward::Command(_) | Downward::Refused(_) | Downward::End,
            ) => {}
        }
    }

    fn refused(&mut self, place: usize, node: Node, leader: Option<Node>) {
        let search = &mut self.places[place].search;
        // A hint is followed at once, but only once: two that name each other must not be believed.
        if search.followed || leader.is_none_or(|leader| leader == node) {
            return self.miss(place);
        }
        search.hint = leader;
        let delay = self.network.delay();
        self.search(place, delay);
    }

    /// Fence first, report second; nothing may reach the leader before the report.
    fn welcomed(&mut self, place: usize, id: ConnectionId, command: AddressedCommand) {
        if command.command != TaskManagerCommand::Welcome {
            self.leave(place, id);
            return self.miss(place);
        }
        self.places[place].handle = Some(id);
        let taken = self.welcome_agent(place, command.epoch, command.task_manager);
        if !taken {
            return;
        }
        let heard = self.now;
        let search = &mut self.places[place].search;
        search.generation += 1;
        search.session = Session::Serving { connection: id, heard };
        self.session_later(place, 0, SessionTimer::Beat);
    }

    fn heartbeat(&self, place: usize) -> TaskManagerMessage {
        let progress = self.places[place].agent.overview().into_iter();
        let progress =
            progress.map(|job| (job.generation.job, job.progress.records_in, job.progress.records_out)).collect();
        TaskManagerMessage::Heartbeat { sequence: self.now, progress }
    }
}
