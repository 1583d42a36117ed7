//! The disks of a cluster's hosts, what their syncs are told, and the end of everything on a host at once.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, anyhow};

use super::{Cluster, POLL, READY_LIMIT};
use crate::caps;
use crate::clock;
use crate::disk::Disk;
use crate::host::{Host, Role};
use crate::process::ended;
use crate::shim::Control;

/// The disk of each host that runs a server; or why there are none.
pub type Disks = Result<BTreeMap<Host, Disk>, String>;

/// The control file of each host that runs a server; or why there are none.
pub type Controls = Result<BTreeMap<Host, Control>, String>;

/// Makes a disk for each server, where this machine allows it; without, their data is in ordinary folders.
pub(super) fn make(run: &str, hosts: &[Host], folder: &Path) -> anyhow::Result<Disks> {
    if let Some(missing) = caps::lacks("disk") {
        println!("SKIPPED({missing}): hosts have no disks that could lose their power");
        return Ok(Err(missing));
    }
    let servers = hosts.iter().filter(|host| host.role != Role::Client);
    let disk = |host: &Host| {
        let disk = Disk::make(run, &host.to_string(), folder).with_context(|| format!("make the disk of {host}"))?;
        anyhow::Ok((*host, disk))
    };
    Ok(Ok(servers.map(disk).collect::<anyhow::Result<_>>()?))
}

/// Makes a control file for each server, about the files in its data directory, where servers load the library for it.
pub(super) fn controls(hosts: &[Host], folder: &Path) -> anyhow::Result<Controls> {
    if let Some(missing) = caps::lacks("shim") {
        println!("SKIPPED({missing}): syncs of servers cannot be told to fail");
        return Ok(Err(missing));
    }
    let folder = folder.canonicalize().with_context(|| format!("find {}", folder.display()))?;
    let servers = hosts.iter().filter(|host| host.role != Role::Client);
    let control = |host: &Host| {
        let (path, prefix) = (folder.join(format!("{host}.control")), folder.join(host.to_string()));
        anyhow::Ok((*host, Control::make(&path, &prefix)?))
    };
    Ok(Ok(servers.map(control).collect::<anyhow::Result<_>>()?))
}

impl Cluster {
    /// The control file of a host.
    ///
    /// # Errors
    ///
    /// When it has none.
    pub fn control(&self, host: Host) -> anyhow::Result<&Control> {
        let controls = self.controls.as_ref().map_err(|missing| anyhow!("control the syncs of {host}: {missing}"))?;
        controls.get(&host).with_context(|| format!("control the syncs of {host}: it runs no server"))
    }

    /// What a server needs in its environment for that.
    pub(super) fn preloaded(&self, host: Host) -> Vec<(String, String)> {
        let control = self.controls.as_ref().ok().and_then(|controls| controls.get(&host));
        control.map(|control| control.environment(&self.binaries.library)).unwrap_or_default()
    }

    /// The disk of a host.
    ///
    /// # Errors
    ///
    /// When it has none.
    pub fn disk(&mut self, host: Host) -> anyhow::Result<&mut Disk> {
        let disks = self.disks.as_mut().map_err(|missing| anyhow!("find the disk of {host}: {missing}"))?;
        disks.get_mut(&host).with_context(|| format!("find the disk of {host}: it runs no server"))
    }

    /// Kills everything on a host; how its server ended.
    ///
    /// # Errors
    ///
    /// When nothing runs there, or something stays.
    pub fn kill_all(&mut self, host: Host) -> anyhow::Result<String> {
        let mut process = self.take(host).with_context(|| format!("kill {host}: nothing runs there"))?;
        if let Some(cgroup) = self.cgroups.get(&host) {
            cgroup.kill()?;
        }
        let status = process.kill()?;
        let deadline = clock::now() + clock::nanos(READY_LIMIT);
        while let Some(left) = self.cgroups.get(&host).and_then(|cgroup| cgroup.members().first().copied()) {
            anyhow::ensure!(clock::now() < deadline, "kill {host}: process {left} does not go away");
            clock::pause(POLL);
        }
        Ok(format!("process {} ended by {}", process.id, ended(status)))
    }
}
