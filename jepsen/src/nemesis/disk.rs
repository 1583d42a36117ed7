//! Disks that fail or are slow, by what the preloaded library does to a server's calls. What an operator would do then, the
//! nemesis does when the fault ends: it starts a server again that has ended, or whose disk was full.

use anyhow::{Context, bail};

use super::Nemesis;
use crate::cluster::Cluster;
use crate::host::Host;
use crate::shim::Slot;

/// How long each sync takes on a slow disk, in microseconds.
const SLOW_MICROS: u64 = 500_000;

pub(super) struct DiskFault {
    /// What is set, and to what.
    slot: Slot,
    value: u64,
    /// What counts the calls that it changed.
    counter: Slot,
    /// How often that had been before, on each host.
    before: Vec<(Host, u64)>,
}

impl DiskFault {
    /// Syncs take long.
    pub(super) fn slow() -> Self {
        Self { slot: Slot::DelaySync, value: SLOW_MICROS, counter: Slot::Delayed, before: Vec::new() }
    }

    /// One sync fails.
    pub(super) fn fails_once() -> Self {
        Self { slot: Slot::FailSync, value: 1, counter: Slot::Failed, before: Vec::new() }
    }

    /// Writes find no room.
    pub(super) fn full() -> Self {
        Self { slot: Slot::Full, value: 1, counter: Slot::Failed, before: Vec::new() }
    }
}

impl Nemesis for DiskFault {
    fn missing(&self, cluster: &Cluster) -> Option<String> {
        cluster.controls.as_ref().err().cloned()
    }

    fn start(&mut self, cluster: &mut Cluster, targets: &[Host]) -> anyhow::Result<Vec<String>> {
        for host in targets {
            if let Some(end) = cluster.exited(*host)? {
                bail!("spoil the disk of {host}: nothing runs there: {end}");
            }
            let control = cluster.control(*host)?;
            self.before.push((*host, control.get(self.counter)?));
            control.set(self.slot, self.value)?;
        }
        Ok(Vec::new())
    }

    fn stop(&mut self, cluster: &mut Cluster, targets: &[Host]) -> anyhow::Result<Vec<String>> {
        let mut changed = Vec::new();
        for host in targets {
            let control = cluster.control(*host)?;
            control.set(self.slot, 0)?;
            let before = self.before.iter().find(|(known, _)| known == host).map_or(0, |(_, count)| *count);
            let calls = control.get(self.counter)?.saturating_sub(before);
            if calls > 0 {
                changed.push(format!("{calls} calls of {host} failed or waited"));
            }
            let how = match (cluster.exited(*host)?, self.slot) {
                (Some(end), _) => format!("it ended ({end})"),
                // It says by an alarm that it has stopped, and wants to be started again.
                (None, Slot::Full) => "its replica had stopped".to_owned(),
                (None, _) => continue,
            };
            drop(cluster.take(*host));
            cluster.start(*host).with_context(|| format!("start {host} again: {how}"))?;
            changed.push(format!("{host} was started again: {how}"));
        }
        Ok(changed)
    }
}
