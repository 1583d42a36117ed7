//! `cluster.toml`: which processes a local cluster has, on which ports, and which of them were started.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::ports::PortReservation;
use super::process::ProcessIdentity;

/// The file's name.
pub(super) const FILE_NAME: &str = "cluster.toml";
/// The version of the file's form.
const VERSION: u32 = 1;
/// More processes than this on one machine are a slip of the finger.
const PROCESSES_MAX: u32 = 64;

/// One process of a local cluster; numbers count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProcessName {
    /// A coordinator.
    Coordinator(u32),
    /// A task manager.
    TaskManager(u32),
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator(number) => write!(f, "coordinator-{number}"),
            Self::TaskManager(number) => write!(f, "taskmanager-{number}"),
        }
    }
}

/// What `cluster.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// The version of the form.
    version: u32,
    /// The cluster's id, once it is initialized.
    pub cluster: Option<String>,
    /// Slots of each task manager.
    pub slots: u32,
    /// `key=value` options given to every process.
    pub settings: Vec<String>,
    /// The coordinators.
    pub coordinators: Vec<CoordinatorEntry>,
    /// The task managers.
    pub task_managers: Vec<TaskManagerEntry>,
}

/// One coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorEntry {
    /// The port for clients and task managers.
    pub client_port: u16,
    /// The port for the other coordinators.
    pub raft_port: u16,
    /// The port for health and metrics.
    pub http_port: u16,
    /// The process that was started last, unless it was stopped since.
    pub process: Option<ProcessIdentity>,
}

/// One task manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskManagerEntry {
    /// The port for records.
    pub data_port: u16,
    /// The port for health and metrics.
    pub http_port: u16,
    /// The process that was started last, unless it was stopped since.
    pub process: Option<ProcessIdentity>,
}

impl Layout {
    /// A new cluster of this size, and its ports.
    pub(super) fn choose(
        coordinators: u32,
        task_managers: u32,
        slots: u32,
    ) -> Result<(Self, Vec<PortReservation>), Error> {
        if coordinators == 0 || coordinators + task_managers > PROCESSES_MAX {
            return Err(Error::Size { coordinators, task_managers, limit: PROCESSES_MAX });
        }
        let count = usize::try_from(3 * coordinators + 2 * task_managers).expect("u32 fits usize");
        let reserved = PortReservation::some(count).map_err(|source| Error::Ports { source })?;
        let mut ports = reserved.iter().map(PortReservation::port);
        let mut port = || ports.next().expect("as many ports were reserved as are used");
        let coordinators = (0..coordinators).map(|_| CoordinatorEntry {
            client_port: port(),
            raft_port: port(),
            http_port: port(),
            process: None,
        });
        let coordinators = coordinators.collect();
        let task_managers = (0..task_managers)
            .map(|_| TaskManagerEntry { data_port: port(), http_port: port(), process: None })
            .collect();
        let settings = Vec::new();
        Ok((Self { version: VERSION, cluster: None, slots, settings, coordinators, task_managers }, reserved))
    }

    /// One more coordinator, which waits to be added, and its ports.
    pub(super) fn add_coordinator(&mut self) -> Result<(ProcessName, Vec<PortReservation>), Error> {
        let reserved = PortReservation::some(3).map_err(|source| Error::Ports { source })?;
        let port = |index: usize| reserved.get(index).map_or(0, PortReservation::port);
        let (client_port, raft_port, http_port) = (port(0), port(1), port(2));
        self.coordinators.push(CoordinatorEntry { client_port, raft_port, http_port, process: None });
        let number = u32::try_from(self.coordinators.len()).unwrap_or(u32::MAX);
        Ok((ProcessName::Coordinator(number), reserved))
    }

    /// What the file in `dir` says, if there is one.
    pub(super) fn load(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(FILE_NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { action: "read", path, source }),
        };
        let layout: Self = toml::from_str(&text)
            .map_err(|error| Error::Malformed { path: path.clone(), reason: error.to_string() })?;
        if layout.version != VERSION {
            let reason = format!("its version is {}, this program knows {VERSION}", layout.version);
            return Err(Error::Malformed { path, reason });
        }
        Ok(Some(layout))
    }

    /// Writes the file, so that a reader sees the old one or the new one.
    pub(super) fn save(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(FILE_NAME);
        let text = toml::to_string(self).expect("strings, numbers and lists of tables have a TOML form");
        let text = format!("# Written by `tidemill cluster start`; ports and pids of a local cluster.\n\n{text}");
        let temporary = dir.join(format!(".{FILE_NAME}.new"));
        fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &path)).map_err(|source| Error::Io {
            action: "write",
            path,
            source,
        })
    }

    /// Every process, coordinators first.
    pub fn names(&self) -> impl Iterator<Item = ProcessName> + use<> {
        let coordinators = (1..).take(self.coordinators.len()).map(ProcessName::Coordinator);
        coordinators.chain((1..).take(self.task_managers.len()).map(ProcessName::TaskManager))
    }

    /// The coordinators' client addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.coordinators.iter().map(|coordinator| loopback(coordinator.client_port)).collect()
    }

    /// The process that was started last under this name, unless it was stopped since.
    #[must_use]
    pub fn process(&self, name: ProcessName) -> Option<&ProcessIdentity> {
        match name {
            ProcessName::Coordinator(number) => self.coordinators.get(position(number))?.process.as_ref(),
            ProcessName::TaskManager(number) => self.task_managers.get(position(number))?.process.as_ref(),
        }
    }

    /// The processes that run now.
    #[must_use]
    pub fn running(&self) -> Vec<(ProcessName, u32)> {
        let running = |name| self.process(name).filter(|process| process.is_running()).map(|process| process.pid);
        self.names().filter_map(|name| Some((name, running(name)?))).collect()
    }

    pub(super) fn set_process(&mut self, name: ProcessName, process: Option<ProcessIdentity>) {
        let entry = match name {
            ProcessName::Coordinator(number) => {
                self.coordinators.get_mut(position(number)).map(|entry| &mut entry.process)
            }
            ProcessName::TaskManager(number) => {
                self.task_managers.get_mut(position(number)).map(|entry| &mut entry.process)
            }
        };
        if let Some(entry) = entry {
            *entry = process;
        }
    }

    /// What a process is started with.
    ///
    /// # Errors
    ///
    /// When the cluster has no such process.
    pub(super) fn arguments(&self, name: ProcessName, dir: &Path) -> Result<Vec<String>, Error> {
        let directory = dir.join(name.to_string()).display().to_string();
        let own: Vec<(&str, String)> = match name {
            ProcessName::Coordinator(number) => {
                let entry = self.coordinators.get(position(number)).ok_or(Error::UnknownProcess { name })?;
                let join: Vec<String> = self.coordinators.iter().map(|peer| loopback(peer.raft_port)).collect();
                vec![
                    ("coordinator.name", name.to_string()),
                    ("coordinator.dir", directory),
                    ("coordinator.client.port", entry.client_port.to_string()),
                    ("coordinator.raft.port", entry.raft_port.to_string()),
                    ("coordinator.http.port", entry.http_port.to_string()),
                    ("coordinator.join", join.join(",")),
                ]
            }
            ProcessName::TaskManager(number) => {
                let entry = self.task_managers.get(position(number)).ok_or(Error::UnknownProcess { name })?;
                vec![
                    ("taskmanager.resource-id", name.to_string()),
                    ("taskmanager.dir", directory),
                    ("taskmanager.data.port", entry.data_port.to_string()),
                    ("taskmanager.http.port", entry.http_port.to_string()),
                    ("taskmanager.numberOfTaskSlots", self.slots.to_string()),
                    ("coordinator.addresses", self.addresses().join(",")),
                ]
            }
        };
        // Ours come last and win: a setting must not move a process away from its recorded place.
        let own = own.into_iter().map(|(key, value)| format!("{key}={value}"));
        Ok(self.settings.iter().cloned().chain(own).flat_map(|setting| ["-D".to_owned(), setting]).collect())
    }
}

pub(super) fn loopback(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

pub(super) fn position(number: u32) -> usize {
    // Number 0 is no process: an index out of range.
    usize::try_from(number).ok().and_then(|number| number.checked_sub(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn layout() -> Layout {
        let process = ProcessIdentity { pid: 17, started: 4711, boot: "b00t".to_owned() };
        let coordinator =
            |base, process| CoordinatorEntry { client_port: base, raft_port: base + 1, http_port: base + 2, process };
        Layout {
            version: VERSION,
            cluster: Some("0190".to_owned()),
            slots: 2,
            settings: vec!["heartbeat.interval=100 ms".to_owned()],
            coordinators: vec![coordinator(1000, Some(process.clone())), coordinator(2000, None)],
            task_managers: vec![TaskManagerEntry { data_port: 3000, http_port: 3001, process: Some(process) }],
        }
    }

    #[test]
    fn the_file_keeps_everything() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Layout::load(dir.path()).unwrap().is_none());
        layout().save(dir.path()).unwrap();
        assert_eq!(Layout::load(dir.path()).unwrap(), Some(layout()));
    }

    #[test]
    fn a_file_that_is_no_layout_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["slots = [", "version = 1\nsolts = 2\n", "", "\0"] {
            fs::write(dir.path().join(FILE_NAME), text).unwrap();
            let error = Layout::load(dir.path()).unwrap_err().to_string();
            assert!(error.contains(FILE_NAME), "{error}");
        }
        let newer = toml::to_string(&Layout { version: 2, ..layout() }).unwrap();
        fs::write(dir.path().join(FILE_NAME), newer).unwrap();
        assert!(Layout::load(dir.path()).unwrap_err().to_string().contains("version is 2"));
    }

    #[test]
    fn processes_are_started_with_their_recorded_ports() {
        let text = |name| layout().arguments(name, Path::new("/data")).unwrap().join(" ").replace(" -D ", "\n-D ");
        expect![[r"
            -D heartbeat.interval=100 ms
            -D coordinator.name=coordinator-2
            -D coordinator.dir=/data/coordinator-2
            -D coordinator.client.port=2000
            -D coordinator.raft.port=2001
            -D coordinator.http.port=2002
            -D coordinator.join=127.0.0.1:1001,127.0.0.1:2001"]]
        .assert_eq(&text(ProcessName::Coordinator(2)));
        expect![[r"
            -D heartbeat.interval=100 ms
            -D taskmanager.resource-id=taskmanager-1
            -D taskmanager.dir=/data/taskmanager-1
            -D taskmanager.data.port=3000
            -D taskmanager.http.port=3001
            -D taskmanager.numberOfTaskSlots=2
            -D coordinator.addresses=127.0.0.1:1000,127.0.0.1:2000"]]
        .assert_eq(&text(ProcessName::TaskManager(1)));
        assert!(layout().arguments(ProcessName::Coordinator(0), Path::new("/data")).is_err());
    }

    #[test]
    fn a_cluster_without_a_coordinator_is_refused() {
        assert!(Layout::choose(0, 1, 1).is_err());
        assert!(Layout::choose(1, 1000, 1).is_err());
    }
}
