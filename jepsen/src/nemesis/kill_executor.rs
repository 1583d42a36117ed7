//! SIGKILL to one executor: its task manager stays, notices, and starts another one when it is told to.

use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::Nemesis;
use crate::clock;
use crate::cluster::Cluster;
use crate::host::Host;
use crate::process::procfs;

/// How long the kernel and the task manager may take until a killed executor is gone.
const GONE_LIMIT: Duration = Duration::from_secs(2);

pub(super) struct KillExecutor;

impl Nemesis for KillExecutor {
    fn start(&mut self, cluster: &mut Cluster, targets: &[Host]) -> anyhow::Result<Vec<String>> {
        let mut killed = Vec::new();
        for host in targets {
            let agent = cluster.process(*host).with_context(|| format!("find the executors on {host}"))?.id;
            // One that was killed before may not have been followed yet.
            let executor = cluster
                .until(&format!("an executor runs on {host}"), |_| Ok(procfs::children(agent).into_iter().next()))?;
            let process_id = i32::try_from(executor.id).ok().and_then(Pid::from_raw).context("a process id")?;
            kill_process(process_id, Signal::KILL).with_context(|| format!("kill executor {}", executor.id))?;
            let deadline = clock::now() + clock::nanos(GONE_LIMIT);
            while procfs::living().get(&executor.id).is_some_and(|stat| stat.key == executor) {
                if clock::now() > deadline {
                    bail!("executor {} on {host} lives on after SIGKILL", executor.id);
                }
                clock::pause(Duration::from_millis(5));
            }
            killed.push(format!("executor {} on {host} is gone", executor.id));
        }
        Ok(killed)
    }

    fn stop(&mut self, _cluster: &mut Cluster, _targets: &[Host]) -> anyhow::Result<Vec<String>> {
        Ok(Vec::new())
    }
}
