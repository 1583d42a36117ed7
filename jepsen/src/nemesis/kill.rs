//! SIGKILL; the next incarnation starts from the same disk when the fault ends.

use anyhow::Context;

use super::Nemesis;
use crate::cluster::Cluster;
use crate::host::Host;
use crate::process::ended;

pub(super) struct Kill;

impl Nemesis for Kill {
    fn start(&mut self, cluster: &mut Cluster, targets: &[Host]) -> anyhow::Result<Vec<String>> {
        let mut killed = Vec::new();
        for host in targets {
            let mut process = cluster.take(*host).with_context(|| format!("kill {host}: nothing runs there"))?;
            let status = process.kill()?;
            killed.push(format!("{host} (process {}) ended by {}", process.id, ended(status)));
        }
        Ok(killed)
    }

    fn stop(&mut self, cluster: &mut Cluster, targets: &[Host]) -> anyhow::Result<Vec<String>> {
        for host in targets {
            if cluster.process(*host).is_none() {
                cluster.start(*host)?;
            }
        }
        Ok(Vec::new())
    }
}
