//! The cluster under test: real binaries on the hosts of a network, as somebody would start them by hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use tidemill::job_client::{ClusterStatus, JobClient};
use tidemill_model::mutant;

use crate::binaries::Binaries;
use crate::clients::{Clients, http_get};
use crate::clock;
use crate::host::{Host, Role};
use crate::process::cgroup::Cgroup;
use crate::process::{Process, Program};
use crate::topo::Net;
pub use disks::{Controls, Disks};

/// The client port of every coordinator; each host has its own address.
const CLIENT_PORT: u16 = 6123;
/// The Raft port of every coordinator.
const RAFT_PORT: u16 = 6124;
/// The HTTP ports.
const HTTP_PORTS: [u16; 2] = [8081, 8082];
/// How long anything may take to become ready on the slowest machine.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);
/// Task slots of each task manager.
const SLOTS: u8 = 2;

mod disks;
mod health;
mod jobs;

/// Where a run's files are.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Data directories, one for each host; dropped when the run succeeds.
    pub data: PathBuf,
    /// What processes print.
    pub logs: PathBuf,
    /// What the streaming job puts out.
    pub output: PathBuf,
    /// The checkpoints of jobs that take any.
    pub checkpoints: PathBuf,
    /// What servers write down about themselves.
    pub events: PathBuf,
}

/// The processes of a run.
pub struct Cluster {
    /// The network.
    pub net: Box<dyn Net>,
    /// The clients' host.
    pub clients: Clients,
    /// The disks that can lose their power; or why there are none.
    pub disks: Disks,
    /// What the syncs of servers are told; or why they cannot be.
    pub controls: Controls,
    run: String,
    binaries: Binaries,
    folders: Folders,
    hosts: Vec<Host>,
    cgroups: BTreeMap<Host, Cgroup>,
    processes: BTreeMap<Host, Process>,
    incarnations: BTreeMap<Host, u32>,
}

/// How a cluster contains its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Containment {
    /// A cgroup for each host.
    Cgroups,
    /// Process ids only.
    ProcessIds,
}

impl Cluster {
    /// An empty cluster on a network.
    ///
    /// # Errors
    ///
    /// When the clients' host, the cgroups or the disks cannot be set up.
    pub fn new(
        run: &str,
        net: Box<dyn Net>,
        hosts: &[Host],
        containment: Containment,
        binaries: Binaries,
        folders: Folders,
    ) -> anyhow::Result<Self> {
        let clients = Clients::start(&net.entrance(Host::client()))?;
        let mut cgroups = BTreeMap::new();
        if containment == Containment::Cgroups {
            for host in hosts {
                cgroups.insert(*host, Cgroup::create(run, &host.to_string())?);
            }
        }
        let disks = disks::make(run, hosts, &folders.data)?;
        let controls = disks::controls(hosts, &folders.data)?;
        let (processes, incarnations) = (BTreeMap::new(), BTreeMap::new());
        let (run, hosts) = (run.to_owned(), hosts.to_vec());
        Ok(Self { net, clients, disks, controls, run, binaries, folders, hosts, cgroups, processes, incarnations })
    }

    /// The hosts of a role.
    #[must_use]
    pub fn hosts(&self, role: Role) -> Vec<Host> {
        self.hosts.iter().copied().filter(|host| host.role == role).collect()
    }

    /// The client addresses of all coordinators.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<Host, String> {
        let address = |host: Host| format!("{}:{CLIENT_PORT}", self.net.address(host));
        self.hosts(Role::Coordinator).into_iter().map(|host| (host, address(host))).collect()
    }

    /// Where jobs keep their checkpoints.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.folders.checkpoints.clone()
    }

    /// The data directory of a host.
    #[must_use]
    pub fn data(&self, host: Host) -> PathBuf {
        self.folders.data.join(host.to_string())
    }

    /// A client of all coordinators.
    #[must_use]
    pub fn client(&self, timeout: Duration) -> JobClient {
        JobClient::new(self.addresses().into_values().collect()).with_timeout(timeout)
    }

    /// Starts coordinators, makes them a cluster, starts task managers, waits until all are there.
    ///
    /// # Errors
    ///
    /// When something does not come up in time.
    pub fn boot(&mut self) -> anyhow::Result<()> {
        let coordinators = self.hosts(Role::Coordinator);
        for host in &coordinators {
            self.start(*host)?;
        }
        for host in &coordinators {
            self.until_healthy(*host)?;
        }
        let client = self.client(READY_LIMIT);
        self.clients.run(async move { client.init_cluster().await })?.context("initialise the cluster")?;
        let task_managers = self.hosts(Role::TaskManager);
        for host in &task_managers {
            self.start(*host)?;
        }
        self.until("all task managers are registered", |cluster| {
            Ok((cluster.leader_status()?.task_managers.len() == task_managers.len()).then_some(()))
        })
    }

    /// Starts the next incarnation of a host's process.
    ///
    /// # Errors
    ///
    /// When one runs already, or it does not start.
    pub fn start(&mut self, host: Host) -> anyhow::Result<()> {
        let mut program = match host.role {
            Role::Coordinator => self.coordinator(host),
            Role::TaskManager => self.task_manager(host),
            Role::Client => bail!("start {host}: clients run in the harness"),
        };
        program.environment.extend(self.preloaded(host));
        self.launch(host, &program)
    }

    fn launch(&mut self, host: Host, program: &Program) -> anyhow::Result<()> {
        if self.processes.contains_key(&host) {
            bail!("start {host}: a process runs there already");
        }
        let incarnation = self.incarnations.entry(host).or_insert(0);
        *incarnation += 1;
        let entrance = self.net.entrance(host);
        let cgroup = self.cgroups.get(&host);
        let process = Process::start(host, *incarnation, program, &entrance, cgroup, &self.folders.logs)?;
        self.net.started(host, process.id);
        self.processes.insert(host, process);
        Ok(())
    }

    fn environment(&self) -> Vec<(String, String)> {
        let mut environment =
            vec![(crate::lock::VARIABLE.to_owned(), self.run.clone()), ("RUST_BACKTRACE".to_owned(), "0".to_owned())];
        environment.extend(self.binaries.mutant.map(|mutant| (mutant::VARIABLE.to_owned(), mutant.name().to_owned())));
        environment
    }

    fn coordinator(&self, host: Host) -> Program {
        let join: Vec<String> = self
            .hosts(Role::Coordinator)
            .into_iter()
            .map(|host| format!("{}:{RAFT_PORT}", self.net.address(host)))
            .collect();
        let options = [
            format!("coordinator.name={host}"),
            format!("coordinator.dir={}", self.folders.data.join(host.to_string()).display()),
            format!("coordinator.bind-host={}", self.net.listens(host)),
            format!("coordinator.host={}", self.net.address(host)),
            format!("coordinator.join={}", join.join(",")),
            format!("events.dir={}", self.folders.events.display()),
            "coordinator.chaos-api=true".to_owned(),
            // Clients look at jobs long after they have ended.
            "coordinator.history.size=100000".to_owned(),
        ];
        self.program(&self.binaries.coordinator, &options)
    }

    fn task_manager(&self, host: Host) -> Program {
        let coordinators: Vec<String> = self.addresses().into_values().collect();
        let options = [
            format!("taskmanager.resource-id={host}"),
            format!("taskmanager.dir={}", self.folders.data.join(host.to_string()).display()),
            format!("taskmanager.bind-host={}", self.net.listens(host)),
            format!("taskmanager.host={}", self.net.address(host)),
            format!("events.dir={}", self.folders.events.display()),
            format!("taskmanager.numberOfTaskSlots={SLOTS}"),
            format!("coordinator.addresses={}", coordinators.join(",")),
        ];
        self.program(&self.binaries.task_manager, &options)
    }

    fn program(&self, path: &Path, options: &[String]) -> Program {
        let mut arguments = vec!["--insecure".to_owned()];
        arguments.extend(options.iter().flat_map(|option| ["-D".to_owned(), option.clone()]));
        Program { path: path.to_owned(), arguments, environment: self.environment() }
    }

    /// How a host's process ended, if it has.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    pub fn exited(&mut self, host: Host) -> anyhow::Result<Option<String>> {
        let Some(process) = self.processes.get_mut(&host) else { return Ok(Some("it was stopped".to_owned())) };
        Ok(process.exited()?.map(crate::process::ended))
    }

    /// A host's process, while it runs.
    #[must_use]
    pub fn process(&self, host: Host) -> Option<&Process> {
        self.processes.get(&host)
    }

    /// Takes a host's process out, so that somebody else may end it.
    pub fn take(&mut self, host: Host) -> Option<Process> {
        self.processes.remove(&host)
    }

    /// What the leader says of the cluster.
    ///
    /// # Errors
    ///
    /// When there is none within some seconds.
    pub fn leader_status(&self) -> anyhow::Result<ClusterStatus> {
        let client = self.client(Duration::from_secs(8));
        self.clients.run(async move { client.leader_status().await })?.context("ask the leader")
    }

    /// Which coordinator leads.
    ///
    /// # Errors
    ///
    /// When there is none within some seconds.
    pub fn leader(&self) -> anyhow::Result<Host> {
        let status = self.leader_status()?;
        let name = &status.leader().context("the leader names itself")?.name;
        name.parse().with_context(|| format!("find the host of leader {name}"))
    }

    fn until_healthy(&mut self, host: Host) -> anyhow::Result<()> {
        let address = self.net.listens(host);
        self.until(&format!("{host} is healthy"), |cluster| {
            if let Some(end) = cluster.exited(host)? {
                bail!("{host} ended ({end}); its log says why");
            }
            let port = HTTP_PORTS[usize::from(host.role == Role::TaskManager)];
            let answer = cluster.clients.run(async move { http_get(address, port, "/health").await })?;
            Ok(answer.is_ok_and(|(status, _)| status == 200).then_some(()))
        })
    }

    /// Waits until `look` finds something.
    ///
    /// # Errors
    ///
    /// When it does not in time, or cannot.
    pub fn until<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Self) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let deadline = clock::now() + clock::nanos(READY_LIMIT);
        loop {
            if let Some(found) = look(self).with_context(|| format!("wait until {what}"))? {
                return Ok(found);
            }
            if clock::now() > deadline {
                bail!("waited {READY_LIMIT:?} until {what}");
            }
            clock::pause(POLL);
        }
    }

    /// Stops every process, first by SIGTERM; what was left of them after that.
    ///
    /// # Errors
    ///
    /// When a process cannot be signalled.
    pub fn stop(&mut self) -> anyhow::Result<Vec<String>> {
        let order = [Role::Client, Role::TaskManager, Role::Coordinator];
        for role in order {
            let hosts: Vec<Host> = self.processes.keys().copied().filter(|host| host.role == role).collect();
            for host in hosts {
                self.stop_one(host)?;
            }
        }
        let mut left = Vec::new();
        for (host, cgroup) in &self.cgroups {
            for process_id in cgroup.members() {
                left.push(format!("process {process_id} on {host}"));
            }
        }
        Ok(left)
    }

    fn stop_one(&mut self, host: Host) -> anyhow::Result<()> {
        let Some(mut process) = self.processes.remove(&host) else { return Ok(()) };
        if process.exited()?.is_none() {
            process.signal(rustix::process::Signal::TERM)?;
        }
        let deadline = clock::now() + clock::nanos(Duration::from_secs(10));
        while process.exited()?.is_none() && clock::now() < deadline {
            clock::pause(POLL);
        }
        Ok(())
    }
}
