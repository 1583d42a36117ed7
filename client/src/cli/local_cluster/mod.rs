//! A cluster of real processes on this machine, on 127.0.0.1: for trying things out, for demos and for tests.
//!
//! Everything of it lies in one folder: `cluster.toml` (ports and pids), a folder for each process, and `logs/`.

mod error;
mod layout;
mod ports;
mod process;
mod programs;
mod startup;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use rustix::process::Signal;

pub use self::error::Error;
pub use self::layout::{CoordinatorEntry, Layout, ProcessName, TaskManagerEntry};
use self::layout::{loopback, position};
use self::ports::PortReservation;
pub use self::process::ProcessIdentity;
pub use self::programs::{BIN_DIR_VARIABLE, Programs};
use self::startup::plan;
use crate::clock;
use crate::job_client::{ClusterStatus, JobClient};

/// How long a process may take to listen, and a cluster to be complete: generous, for loaded machines.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a process may take to end when it is asked to, before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// What to start.
#[derive(Debug, Clone)]
pub struct LocalClusterSpec {
    /// The cluster's folder; made when it is missing.
    pub dir: PathBuf,
    /// How many coordinators; none: 3, or what the folder's cluster has.
    pub coordinators: Option<u32>,
    /// How many task managers; none: 2, or what the folder's cluster has.
    pub task_managers: Option<u32>,
    /// How many slots each task manager has; none: 2, or what the folder's cluster has.
    pub slots: Option<u32>,
    /// `key=value` options for every process, added to those that the folder's cluster has.
    pub settings: Vec<String>,
    /// The servers' binaries.
    pub programs: Programs,
    /// Whether to kill everything when the handle is dropped.
    pub kill_on_drop: bool,
}

impl LocalClusterSpec {
    /// A cluster of the usual size in `dir`.
    ///
    /// # Errors
    ///
    /// [`Error::ProgramMissing`] when the servers' binaries are not built.
    pub fn new(dir: impl Into<PathBuf>) -> Result<Self, Error> {
        Ok(Self {
            dir: dir.into(),
            coordinators: None,
            task_managers: None,
            slots: None,
            settings: Vec::new(),
            programs: Programs::find()?,
            kill_on_drop: false,
        })
    }
}

/// A local cluster; belongs to the tokio runtime that it is used in.
///
/// ```no_run
/// # async fn example() -> Result<(), tidemill::cli::local_cluster::Error> {
/// use tidemill::cli::local_cluster::{LocalCluster, LocalClusterSpec, ProcessName};
///
/// let mut cluster = LocalCluster::start(LocalClusterSpec::new("/tmp/try-tidemill")?).await?;
/// println!("--coordinators {}", cluster.addresses().join(","));
/// cluster.kill(ProcessName::Coordinator(1)).await?;
/// cluster.start_process(ProcessName::Coordinator(1)).await?;
/// cluster.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LocalCluster {
    dir: PathBuf,
    layout: Layout,
    programs: Programs,
    kill_on_drop: bool,
    /// Our own children must be waited for, or they stay as zombies.
    children: BTreeMap<ProcessName, Child>,
    /// The ports of a cluster that this handle has laid out, so that no other one lays itself out on them, neither
    /// before its processes listen nor while one of them is down.
    reserved: Vec<PortReservation>,
}

impl LocalCluster {
    /// Starts a cluster, or starts again the one that the folder holds; returns when all its slots are registered.
    ///
    /// # Errors
    ///
    /// When it runs already, or a process does not start; what this call started is killed again then.
    pub async fn start(spec: LocalClusterSpec) -> Result<Self, Error> {
        fs::create_dir_all(spec.dir.join("logs")).map_err(Error::io("create", &spec.dir))?;
        let dir = spec.dir.canonicalize().map_err(Error::io("find", &spec.dir))?;
        let _lock = lock(&dir)?;
        let (layout, reserved) = plan(&dir, &spec)?;
        layout.save(&dir)?;
        let (programs, children) = (spec.programs, BTreeMap::new());
        let mut cluster = Self { dir, layout, programs, kill_on_drop: true, children, reserved };
        cluster.start_all().await?;
        cluster.kill_on_drop = spec.kill_on_drop;
        Ok(cluster)
    }

    /// The cluster that the folder holds, running or not; its ports are its own only while its processes listen.
    ///
    /// # Errors
    ///
    /// [`Error::Absent`] when there is none.
    pub fn open(dir: &Path, programs: Programs) -> Result<Self, Error> {
        let absent = || Error::Absent { dir: dir.to_owned() };
        let layout = Layout::load(dir)?.ok_or_else(absent)?;
        let dir = dir.canonicalize().map_err(Error::io("find", dir))?;
        Ok(Self { dir, layout, programs, kill_on_drop: false, children: BTreeMap::new(), reserved: Vec::new() })
    }

    /// Its processes and ports.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The cluster's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The coordinators' client addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.layout.addresses()
    }

    /// A new client of this cluster.
    #[must_use]
    pub fn client(&self) -> JobClient {
        JobClient::new(self.addresses())
    }

    /// The pid of a process, if it runs.
    #[must_use]
    pub fn pid(&self, name: ProcessName) -> Option<u32> {
        self.layout.process(name).filter(|process| process.is_running()).map(|process| process.pid)
    }

    /// The log of a process.
    #[must_use]
    pub fn log(&self, name: ProcessName) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    /// The folder of a process.
    #[must_use]
    pub fn process_dir(&self, name: ProcessName) -> PathBuf {
        self.dir.join(name.to_string())
    }

    /// The address of a process's health and metrics.
    ///
    /// # Errors
    ///
    /// When the cluster has no such process.
    pub fn http_address(&self, name: ProcessName) -> Result<String, Error> {
        let port = match name {
            ProcessName::Coordinator(number) => {
                self.layout.coordinators.get(position(number)).map(|entry| entry.http_port)
            }
            ProcessName::TaskManager(number) => {
                self.layout.task_managers.get(position(number)).map(|entry| entry.http_port)
            }
        };
        port.map(loopback).ok_or(Error::UnknownProcess { name })
    }

    /// Starts one process, and returns when it listens; one that runs is left alone.
    ///
    /// # Errors
    ///
    /// [`Error::Exited`] or [`Error::NotReady`] with the end of its log.
    pub async fn start_process(&mut self, name: ProcessName) -> Result<(), Error> {
        if self.pid(name).is_none() {
            let log_start = self.spawn(name)?;
            self.wait_until_ready(name, log_start).await?;
        }
        Ok(())
    }

    /// The Raft address of a coordinator.
    ///
    /// # Errors
    ///
    /// When the cluster has no such process.
    pub fn raft_address(&self, name: ProcessName) -> Result<String, Error> {
        let port = match name {
            ProcessName::Coordinator(number) => self.layout.coordinators.get(position(number)).map(|c| c.raft_port),
            ProcessName::TaskManager(_) => None,
        };
        port.map(loopback).ok_or(Error::UnknownProcess { name })
    }

    /// Kills one process (SIGKILL) and waits for its end.
    ///
    /// # Errors
    ///
    /// When the operating system refuses.
    pub async fn kill(&mut self, name: ProcessName) -> Result<(), Error> {
        self.signal(name, Signal::KILL)?;
        self.wait_for_end(name, STOP_TIMEOUT).await?;
        self.forget(name)
    }

    /// Asks one process to end (SIGTERM), waits, and kills it when it does not.
    ///
    /// # Errors
    ///
    /// When the operating system refuses.
    pub async fn stop_process(&mut self, name: ProcessName) -> Result<(), Error> {
        self.signal(name, Signal::TERM)?;
        if self.wait_for_end(name, STOP_TIMEOUT).await.is_err() {
            return self.kill(name).await;
        }
        self.forget(name)
    }

    /// Halts a process as a long pause would (SIGSTOP).
    ///
    /// # Errors
    ///
    /// When the operating system refuses.
    pub fn pause(&self, name: ProcessName) -> Result<(), Error> {
        self.signal(name, Signal::STOP)
    }

    /// Lets a halted process go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// When the operating system refuses.
    pub fn resume(&self, name: ProcessName) -> Result<(), Error> {
        self.signal(name, Signal::CONT)
    }

    /// Stops everything, coordinators first, so that they do not take a stopped task manager for a lost one.
    ///
    /// # Errors
    ///
    /// When another command works on the folder, or the operating system refuses.
    pub async fn stop(&mut self) -> Result<Vec<ProcessName>, Error> {
        let _lock = lock(&self.dir)?;
        let running: Vec<ProcessName> = self.layout.running().into_iter().map(|(name, _)| name).collect();
        let is_coordinator = |name: &ProcessName| matches!(name, ProcessName::Coordinator(_));
        let (coordinators, task_managers): (Vec<_>, Vec<_>) = running.iter().copied().partition(is_coordinator);
        for group in [coordinators, task_managers] {
            for &name in &group {
                // A halted process acts on nothing else.
                self.signal(name, Signal::CONT)?;
                self.signal(name, Signal::TERM)?;
            }
            for name in group {
                self.stop_process(name).await?;
            }
        }
        Ok(running)
    }

    /// Which coordinator leads; waits for one.
    ///
    /// # Errors
    ///
    /// When there is none for a minute.
    pub async fn wait_for_leader(&self) -> Result<ProcessName, Error> {
        let status = self.client().leader_status().await?;
        let leader = status.leader().map(|node| node.client_address.clone()).unwrap_or_default();
        let position = self.addresses().iter().position(|address| *address == leader).unwrap_or(usize::MAX);
        let number = u32::try_from(position).unwrap_or(u32::MAX).saturating_add(1);
        Ok(ProcessName::Coordinator(number))
    }

    /// Waits until the leader knows the slots of all task managers that run.
    ///
    /// # Errors
    ///
    /// [`Error::NotRegistered`] after a minute.
    pub async fn wait_for_slots(&self) -> Result<ClusterStatus, Error> {
        let pids: Vec<u32> = self.layout.names().filter(is_task_manager).filter_map(|name| self.pid(name)).collect();
        let wanted = self.layout.slots * u32::try_from(pids.len()).unwrap_or(u32::MAX);
        let deadline = clock::now() + START_TIMEOUT;
        let client = self.client();
        loop {
            let status = client.leader_status().await?;
            // Incarnations that were killed may still be listed.
            let ours = status.task_managers.iter().filter(|manager| pids.contains(&manager.process_id));
            let registered = ours.map(|manager| manager.slots).sum();
            if registered >= wanted {
                return Ok(status);
            }
            if clock::now() >= deadline {
                let (seconds, logs) = (START_TIMEOUT.as_secs(), self.dir.join("logs"));
                return Err(Error::NotRegistered { registered, wanted, seconds, logs });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn signal(&self, name: ProcessName, signal: Signal) -> Result<(), Error> {
        let Some(process) = self.layout.process(name) else {
            return Ok(());
        };
        process.signal(signal).map_err(Error::io("signal", format!("process {}", process.pid)))
    }

    async fn wait_for_end(&mut self, name: ProcessName, patience: Duration) -> Result<(), Error> {
        let deadline = clock::now() + patience;
        while let Some(pid) = self.pid(name) {
            if clock::now() >= deadline {
                return Err(Error::Unstoppable { name, pid });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Strikes an ended process from the record.
    fn forget(&mut self, name: ProcessName) -> Result<(), Error> {
        if let Some(mut child) = self.children.remove(&name) {
            child.wait().map_err(Error::io("wait for", name.to_string()))?;
        }
        self.layout.set_process(name, None);
        self.layout.save(&self.dir)
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        if !self.kill_on_drop {
            return;
        }
        for (name, mut child) in std::mem::take(&mut self.children) {
            // A child that has ended is what we want; nothing else can go wrong with SIGKILL.
            drop(child.kill().and_then(|()| child.wait()));
            self.layout.set_process(name, None);
        }
        drop(self.layout.save(&self.dir));
    }
}

/// Keeps other commands away from the folder.
#[derive(Debug)]
struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing would not do: a process that is being forked has a copy of the file until it execs. Unlocking fails
        // only for files that cannot be locked.
        drop(self.0.unlock());
    }
}

fn lock(dir: &Path) -> Result<FolderLock, Error> {
    let path = dir.join(".lock");
    let file = File::create(&path).map_err(Error::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock(file)),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(Error::Io { action: "lock", path, source }),
    }
}

fn is_task_manager(name: &ProcessName) -> bool {
    matches!(name, ProcessName::TaskManager(_))
}
