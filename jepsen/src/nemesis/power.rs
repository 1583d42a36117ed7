//! Power loss: the disks lose what was not synced, and everything on the hosts ends. Power is back when the fault ends.

use anyhow::{Context, bail};

use super::Nemesis;
use crate::cluster::Cluster;
use crate::host::Host;

pub(super) struct PowerLoss;

impl Nemesis for PowerLoss {
    fn missing(&self, cluster: &Cluster) -> Option<String> {
        cluster.disks.as_ref().err().cloned()
    }

    fn start(&mut self, cluster: &mut Cluster, targets: &[Host]) -> anyhow::Result<Vec<String>> {
        for host in targets {
            // A server that did not come back from an earlier fault must not pass for one that this fault ended.
            if let Some(end) = cluster.exited(*host)? {
                bail!("cut the power of {host}: nothing runs there: {end}");
            }
        }
        // First all disks, then all processes: meanwhile these see what a disk does that fails, and must not lie about it.
        for host in targets {
            cluster.disk(*host)?.cut_power()?;
        }
        let mut killed = Vec::new();
        for host in targets {
            let end = cluster.kill_all(*host).with_context(|| format!("cut the power of {host}"))?;
            killed.push(format!("{host}: its disk cannot be written, {end}"));
        }
        for host in targets {
            cluster.disk(*host)?.unmount()?;
        }
        Ok(killed)
    }

    fn stop(&mut self, cluster: &mut Cluster, targets: &[Host]) -> anyhow::Result<Vec<String>> {
        let mut lost = Vec::new();
        for host in targets {
            let disk = cluster.disk(*host)?;
            disk.mount()?;
            lost.push(format!("{host}: {}", disk.loss()?));
        }
        for host in targets {
            if cluster.process(*host).is_none() {
                cluster.start(*host)?;
            }
        }
        Ok(lost)
    }
}
