//! Starting a local cluster: what it shall be, its processes side by side, its first `cluster init`.

use std::fs;
use std::path::Path;
use std::process::Child;

use tidemill_model::config::{Configuration, Scope};

use super::ports::PortReservation;
use super::process::{self, ProcessIdentity};
use super::{Error, Layout, LocalCluster, LocalClusterSpec, POLL, ProcessName, START_TIMEOUT, is_task_manager};
use crate::clock;

/// How much of a log an error quotes.
const TAIL_LINES: usize = 12;

impl LocalCluster {
    /// Starts one more coordinator, with an empty folder: it waits until it is added to the cluster.
    ///
    /// # Errors
    ///
    /// As [`start_process`](Self::start_process).
    pub async fn start_another_coordinator(&mut self) -> Result<ProcessName, Error> {
        let (name, reserved) = self.layout.add_coordinator()?;
        self.reserved.extend(reserved);
        self.layout.save(&self.dir)?;
        self.start_process(name).await?;
        Ok(name)
    }

    /// Starts what does not run, and waits until the cluster is whole.
    pub(super) async fn start_all(&mut self) -> Result<(), Error> {
        let (coordinators, task_managers): (Vec<_>, Vec<_>) =
            self.layout.names().partition(|name| !is_task_manager(name));
        self.start_group(coordinators).await?;
        if self.layout.cluster.is_none() {
            let cluster = self.client().init_cluster().await?;
            self.layout.cluster = Some(cluster.to_string());
            self.layout.save(&self.dir)?;
        }
        self.wait_for_leader().await?;
        self.start_group(task_managers).await?;
        self.wait_for_slots().await?;
        Ok(())
    }

    /// Starts processes side by side.
    async fn start_group(&mut self, names: Vec<ProcessName>) -> Result<(), Error> {
        let mut started = Vec::with_capacity(names.len());
        for name in names {
            started.push((name, self.spawn(name)?));
        }
        for (name, log_start) in started {
            self.wait_until_ready(name, log_start).await?;
        }
        Ok(())
    }

    /// Starts a process; returns how long its log was before.
    pub(super) fn spawn(&mut self, name: ProcessName) -> Result<usize, Error> {
        let program = match name {
            ProcessName::Coordinator(_) => &self.programs.coordinator,
            ProcessName::TaskManager(_) => &self.programs.task_manager,
        };
        let log = self.log(name);
        let log_start = fs::read(&log).map_or(0, |text| text.len());
        let arguments = self.layout.arguments(name, &self.dir)?;
        let mut child =
            process::spawn(program, &arguments, &self.dir, &log).map_err(Error::io("start", program.clone()))?;
        match ProcessIdentity::of(child.id()) {
            Ok(identity) => self.layout.set_process(name, Some(identity)),
            // It has ended already; the caller finds out and quotes its log.
            Err(_) => self.layout.set_process(name, None),
        }
        if let Err(error) = self.layout.save(&self.dir) {
            drop(child.kill().and_then(|()| child.wait()));
            return Err(error);
        }
        self.children.insert(name, child);
        Ok(log_start)
    }

    /// Waits for the line that a server prints once it listens.
    pub(super) async fn wait_until_ready(&mut self, name: ProcessName, log_start: usize) -> Result<(), Error> {
        let deadline = clock::now() + START_TIMEOUT;
        let log = self.log(name);
        loop {
            let text = fs::read(&log).unwrap_or_default();
            let text = String::from_utf8_lossy(text.get(log_start..).unwrap_or_default()).into_owned();
            if text.lines().any(is_ready_line) {
                return Ok(());
            }
            if let Some(Ok(Some(status))) = self.children.get_mut(&name).map(Child::try_wait) {
                self.forget(name)?;
                return Err(Error::Exited { name, status: status.to_string(), tail: tail(&text), log });
            }
            if clock::now() >= deadline {
                let seconds = START_TIMEOUT.as_secs();
                return Err(Error::NotReady { name, seconds, tail: tail(&text), log });
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// What the cluster in `dir` shall be: a new one with its ports, or the one that is there.
pub(super) fn plan(dir: &Path, spec: &LocalClusterSpec) -> Result<(Layout, Vec<PortReservation>), Error> {
    let (mut layout, reserved) = match Layout::load(dir)? {
        None => {
            let count = |given: Option<u32>, usual| given.unwrap_or(usual);
            Layout::choose(count(spec.coordinators, 3), count(spec.task_managers, 2), count(spec.slots, 2))?
        }
        Some(layout) => {
            let running = layout.running();
            if !running.is_empty() {
                let processes: Vec<String> = running.iter().map(|(name, pid)| format!("{name} pid {pid}")).collect();
                return Err(Error::AlreadyRunning { dir: dir.to_owned(), processes: processes.join(", ") });
            }
            let count = |list: usize| u32::try_from(list).unwrap_or(u32::MAX);
            same(dir, "coordinators", count(layout.coordinators.len()), spec.coordinators)?;
            same(dir, "task managers", count(layout.task_managers.len()), spec.task_managers)?;
            same(dir, "slots each", layout.slots, spec.slots)?;
            (layout, Vec::new())
        }
    };
    layout.settings.extend(spec.settings.iter().cloned());
    // A wrong option is found here, not in the logs of five processes.
    for name in layout.names() {
        let scope = if is_task_manager(&name) { Scope::TaskManager } else { Scope::Coordinator };
        let settings: Vec<String> = layout.arguments(name, dir)?.into_iter().skip(1).step_by(2).collect();
        Configuration::parse(scope, [], &settings)?;
    }
    Ok((layout, reserved))
}

fn same(dir: &Path, what: &'static str, existing: u32, given: Option<u32>) -> Result<(), Error> {
    match given {
        Some(given) if given != existing => Err(Error::Different { dir: dir.to_owned(), what, existing, given }),
        Some(_) | None => Ok(()),
    }
}

/// What servers print once they listen.
fn is_ready_line(line: &str) -> bool {
    line.starts_with("tidemill-coordinator ready ") || line.starts_with("tidemill-taskmanager ready ")
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let tail: Vec<String> =
        lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| format!("  {line}")).collect();
    if tail.is_empty() { "  (nothing)".to_owned() } else { tail.join("\n") }
}
