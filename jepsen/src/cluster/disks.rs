//! The disks of a cluster's hosts, and the end of everything on a host at once.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, anyhow};

use super::{Cluster, POLL, READY_LIMIT};
use crate::caps;
use crate::clock;
use crate::disk::Disk;
use crate::host::{Host, Role};
use crate::process::ended;

/// The disk of each host that runs a server; or why there are none.
pub type Disks = Result<BTreeMap<Host, Disk>, String>;

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

impl Cluster {
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
