//! Streams between task managers and coordinators: each keeps its order, and ends as connections do.
//!
//! This imitates gRPC streams over TCP and `coordinator/src/runtime/server/task_manager_service.rs`. When a stream ends,
//! each side notices in its own time, and what was under way is lost from some point on.

use std::collections::VecDeque;

use tidemill_coordinator::engine::leader::{AddressedCommand, TaskManagerCommand};

use super::clock::{MILLISECOND, SECOND, Time};
use super::event::{Actor, ConnectionId, Downward, Event, Mail, Upward};
use super::network::{Direction, Pipe, Process};
use super::raft::Node;
use super::session::Session;
use super::world::World;

/// What has not got through for so long ends a connection (`TCP_USER_TIMEOUT`).
const USER_TIMEOUT: Time = 3 * SECOND;

/// How many of the last commands of a stream may still turn up after its end.
const RECENT: usize = 4;

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) place: usize,
    place_boot: u64,
    pub(crate) node: Node,
    node_boot: u64,
    up: Pipe<Upward>,
    pub(super) down: Pipe<Downward>,
    /// The coordinator's half is in use.
    accepted: bool,
    /// Nothing gets through any more.
    broken: bool,
    /// The last commands that went down.
    recent: VecDeque<AddressedCommand>,
}

impl Connection {
    /// One that a task manager opens, each side with its process's present start; over a way that is not reachable
    /// nothing ever comes through.
    pub(super) fn new(place: (usize, u64), node: (Node, u64), reachable: bool) -> Self {
        Self {
            place: place.0,
            place_boot: place.1,
            node: node.0,
            node_boot: node.1,
            up: Pipe::default(),
            down: Pipe::default(),
            accepted: false,
            broken: !reachable,
            recent: VecDeque::new(),
        }
    }

    pub(crate) fn receiver(&self, direction: Direction) -> Process {
        match direction {
            Direction::Up => Process::Coordinator(self.node),
            Direction::Down => Process::TaskManager(self.place),
        }
    }

    fn sender(&self, direction: Direction) -> Process {
        match direction {
            Direction::Up => Process::TaskManager(self.place),
            Direction::Down => Process::Coordinator(self.node),
        }
    }
}

impl World {
    pub(crate) fn send_up(&mut self, id: ConnectionId, message: Upward) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.up.queue.push_back(message);
        let idle = !std::mem::replace(&mut connection.up.pumping, true);
        if idle {
            self.pump_later(id, Direction::Up);
        }
    }

    pub(crate) fn send_down(&mut self, id: ConnectionId, message: Downward) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Downward::Command(command) = &message
            && !matches!(command.command, TaskManagerCommand::HeartbeatAnswer { .. })
        {
            connection.recent.push_back(command.clone());
            if connection.recent.len() > RECENT {
                connection.recent.pop_front();
            }
        }
        connection.down.queue.push_back(message);
        let idle = !std::mem::replace(&mut connection.down.pumping, true);
        if idle {
            self.pump_later(id, Direction::Down);
        }
    }

    fn pump_later(&mut self, connection: ConnectionId, direction: Direction) {
        let delay = self.network.delay();
        self.after(delay, Event::Pump { connection, direction });
    }

    /// Delivers what is next, unless the way is cut.
    pub(crate) fn pump(&mut self, id: ConnectionId, direction: Direction) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.broken {
            return;
        }
        let (from, to) = (connection.sender(direction), connection.receiver(direction));
        let since = match direction {
            Direction::Up => &mut connection.up.blocked_since,
            Direction::Down => &mut connection.down.blocked_since,
        };
        if !self.network.reaches(from, to) || !self.network.reaches(to, from) {
            if self.now - *since.get_or_insert(self.now) > USER_TIMEOUT {
                return self.break_connection(id, 0);
            }
            return self.after(100 * MILLISECOND, Event::Pump { connection: id, direction });
        }
        *since = None;
        let alive = match direction {
            Direction::Up => self.coordinators[connection.node].life.is(connection.node_boot),
            Direction::Down => self.places[connection.place].life.is(connection.place_boot),
        };
        if !alive {
            return self.break_connection(id, 0);
        }
        match direction {
            Direction::Up => {
                let message = connection.up.queue.pop_front();
                connection.up.pumping = !connection.up.queue.is_empty();
                if connection.up.pumping {
                    self.after(20, Event::Pump { connection: id, direction });
                }
                if let Some(message) = message {
                    self.arrived_up(id, message);
                }
            }
            Direction::Down => {
                let message = connection.down.queue.pop_front();
                connection.down.pumping = !connection.down.queue.is_empty();
                if connection.down.pumping {
                    self.after(20, Event::Pump { connection: id, direction });
                }
                if let Some(message) = message {
                    self.arrived_down(id, message);
                }
            }
        }
    }

    fn arrived_up(&mut self, id: ConnectionId, message: Upward) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let node = connection.node;
        let leads = self.coordinators[node].leads();
        match message {
            Upward::Hello(hello) => match leads {
                Some(epoch) => {
                    connection.accepted = true;
                    self.post(node, epoch, Actor::ResourceManager, Mail::Open { connection: id, hello });
                }
                None => {
                    let leader = self.coordinators[node].replica.leader().filter(|leader| *leader != node);
                    self.send_down(id, Downward::Refused(leader));
                }
            },
            Upward::Message(message) => {
                let Some(epoch) = leads.filter(|_| connection.accepted) else { return };
                self.post(node, epoch, Actor::ResourceManager, Mail::Inbound { connection: id, message });
            }
            Upward::End => self.upstream_ended(id),
        }
    }

    fn upstream_ended(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let node = connection.node;
        if std::mem::take(&mut connection.accepted)
            && let Some(epoch) = self.coordinators[node].leads()
        {
            self.post_later(node, epoch, Actor::ResourceManager, Mail::Closed(id));
        }
    }

    /// Ends a connection from outside: what is under way is lost from some point on, and each side notices when it does.
    pub(crate) fn break_connection(&mut self, id: ConnectionId, notice: Time) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if std::mem::replace(&mut connection.broken, true) {
            return;
        }
        connection.down.queue.clear();
        connection.up.queue.clear();
        self.commands_linger(id);
        for direction in [Direction::Up, Direction::Down] {
            let delay = notice + self.random.between(0, 200) * MILLISECOND;
            self.after(delay, Event::Gone { connection: id, direction });
        }
    }

    /// What went down last may turn up late, when its leadership or its addressee is gone.
    fn commands_linger(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (place, recent) = (connection.place, std::mem::take(&mut connection.recent));
        for command in recent {
            if self.random.chance(300) {
                let delay = self.random.between(1, 8000) * MILLISECOND;
                self.after(delay, Event::Late { place, command: Box::new(command) });
            }
        }
    }

    /// The receiver of a direction learns that nothing comes any more.
    pub(crate) fn gone(&mut self, id: ConnectionId, direction: Direction) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (place, node) = (connection.place, connection.node);
        match direction {
            Direction::Up => {
                if self.coordinators[node].life.is(connection.node_boot) {
                    self.upstream_ended(id);
                }
            }
            Direction::Down => {
                if !self.places[place].life.is(connection.place_boot) {
                    return;
                }
                match self.places[place].search.session {
                    Session::Opening { connection } if connection == id => self.miss(place),
                    Session::Serving { connection, .. } if connection == id => self.lost(place, id),
                    Session::Pausing | Session::Opening { .. } | Session::Serving { .. } => {}
                }
            }
        }
    }

    /// A process is gone. The kernel of a machine that lives tells the other sides.
    pub(crate) fn drop_connections_of(&mut self, process: Process, dark: bool) {
        let of_process = |connection: &Connection| {
            !connection.broken
                && [Direction::Up, Direction::Down].map(|way| connection.receiver(way)).contains(&process)
        };
        let ids: Vec<ConnectionId> =
            self.connections.iter().filter(|(_, connection)| of_process(connection)).map(|(&id, _)| id).collect();
        for id in ids {
            if !dark {
                self.break_connection(id, 0);
            } else if let Some(connection) = self.connections.get_mut(&id) {
                // Nobody is told: the others' own timers have to notice.
                connection.broken = true;
                self.commands_linger(id);
            }
        }
    }

    /// A leadership has ended: its sessions close, so that task managers look for the other side.
    pub(crate) fn close_sessions(&mut self, node: Node) {
        let open = |connection: &Connection| connection.node == node && connection.accepted && !connection.broken;
        let ids: Vec<ConnectionId> =
            self.connections.iter().filter(|(_, connection)| open(connection)).map(|(&id, _)| id).collect();
        for id in ids {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.accepted = false;
            }
            self.commands_linger(id);
            self.send_down(id, Downward::End);
        }
    }

    /// Connections on which nothing can happen any more are forgotten.
    pub(crate) fn sweep_connections(&mut self) {
        let in_use = |id: ConnectionId, place: usize| match self.places[place].search.session {
            Session::Opening { connection } | Session::Serving { connection, .. } => connection == id,
            Session::Pausing => false,
        };
        let keep: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(id, connection)| in_use(**id, connection.place) || (connection.accepted && !connection.broken))
            .map(|(&id, _)| id)
            .collect();
        self.connections.retain(|id, _| keep.contains(id));
    }
}
