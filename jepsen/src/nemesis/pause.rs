//! SIGSTOP and SIGCONT: a process that lives, keeps its connections, and does nothing.

use anyhow::Context;
use rustix::process::Signal;

use super::Nemesis;
use crate::cluster::Cluster;
use crate::host::Host;

pub(super) struct Pause;

impl Nemesis for Pause {
    fn start(&mut self, cluster: &mut Cluster, targets: &[Host]) -> anyhow::Result<Vec<String>> {
        let mut stopped = Vec::new();
        for host in targets {
            let process = cluster.process(*host).with_context(|| format!("pause {host}: nothing runs there"))?;
            process.signal(Signal::STOP)?;
            process.until_state('T')?;
            stopped.push(format!("{host} (process {}) in state T", process.id));
        }
        Ok(stopped)
    }

    fn stop(&mut self, cluster: &mut Cluster, targets: &[Host]) -> anyhow::Result<Vec<String>> {
        for host in targets {
            if let Some(process) = cluster.process(*host) {
                process.signal(Signal::CONT)?;
            }
        }
        Ok(Vec::new())
    }
}
