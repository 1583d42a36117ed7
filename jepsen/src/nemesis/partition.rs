//! Packets that are lost between some hosts and all others. Clients keep their way: they are beside whoever is cut off.

use super::Nemesis;
use crate::cluster::Cluster;
use crate::host::{Host, Role};

pub(super) struct Partition {
    outwards: Direction,
    inwards: Direction,
    /// What had been lost at each receiving host before.
    before: Vec<(Host, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Open,
    Cut,
}

impl Partition {
    pub(super) fn both_ways() -> Self {
        Self { outwards: Direction::Cut, inwards: Direction::Cut, before: Vec::new() }
    }

    pub(super) fn outwards() -> Self {
        Self { outwards: Direction::Cut, inwards: Direction::Open, before: Vec::new() }
    }

    pub(super) fn inwards() -> Self {
        Self { outwards: Direction::Open, inwards: Direction::Cut, before: Vec::new() }
    }

    /// The directed links that are cut around the targets.
    fn links(&self, cluster: &Cluster, targets: &[Host]) -> Vec<(Host, Host)> {
        let servers = [Role::Coordinator, Role::TaskManager].map(|role| cluster.hosts(role)).concat();
        let mut links = Vec::new();
        for target in targets {
            for other in servers.iter().filter(|other| !targets.contains(other)) {
                if self.outwards == Direction::Cut {
                    links.push((*target, *other));
                }
                if self.inwards == Direction::Cut {
                    links.push((*other, *target));
                }
            }
        }
        links
    }
}

impl Nemesis for Partition {
    fn start(&mut self, cluster: &mut Cluster, targets: &[Host]) -> anyhow::Result<Vec<String>> {
        let links = self.links(cluster, targets);
        let mut receivers: Vec<Host> = links.iter().map(|(_, to)| *to).collect();
        receivers.sort_unstable();
        receivers.dedup();
        for host in receivers {
            self.before.push((host, cluster.net.lost(host)?));
        }
        for (from, to) in links {
            cluster.net.cut(from, to)?;
        }
        Ok(Vec::new())
    }

    fn stop(&mut self, cluster: &mut Cluster, _targets: &[Host]) -> anyhow::Result<Vec<String>> {
        cluster.net.heal()?;
        let mut lost = Vec::new();
        for (host, before) in &self.before {
            let during = cluster.net.lost(*host)?.saturating_sub(*before);
            if during > 0 {
                lost.push(format!("{during} lost on the way to {host}"));
            }
        }
        Ok(lost)
    }
}
