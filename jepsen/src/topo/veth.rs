//! A network of the kernel: a namespace for each host, joined by a bridge in a namespace of its own that has no address
//! and no way out; links are cut by nftables where packets arrive.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::Context;
use serde_json::Value;

use super::command::run;
use super::{Entrance, Net};
use crate::host::Host;

/// Where the kernel's named namespaces are.
const NAMESPACES: &str = "/run/netns";

/// What drops packets: before connection tracking, so that established connections are cut as well.
const RULES: &str = "table inet tmj {
  counter cut { }
  set blocked { type ipv4_addr; }
  chain arrive {
    type filter hook input priority -300; policy accept;
    ip saddr @blocked counter name cut drop
  }
}
";

/// The namespaces of one run.
pub struct VethNet {
    run: String,
    subnet: u8,
    hosts: Vec<Host>,
}

impl VethNet {
    /// Builds the network of a run.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; what was built is then taken away again.
    pub fn build(run: &str, subnet: u8, hosts: &[Host]) -> anyhow::Result<Self> {
        let mut net = Self { run: run.to_owned(), subnet, hosts: hosts.to_vec() };
        let built = net.build_all();
        if built.is_err() {
            net.remove().context("take down what was built")?;
        }
        built.map(|()| net)
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}{name}", prefix(&self.run))
    }

    fn of(&self, host: Host) -> String {
        self.namespace(&host.to_string())
    }

    fn build_all(&self) -> anyhow::Result<()> {
        let switch = self.namespace("sw");
        let mut spaces: Vec<String> = self.hosts.iter().map(|host| self.of(*host)).collect();
        spaces.push(switch.clone());
        for space in &spaces {
            run("ip", &["netns", "add", space], "")?;
        }
        let mut wiring = String::from("link add name br0 type bridge\nlink set br0 up\n");
        for host in &self.hosts {
            let space = self.of(*host);
            wiring += &format!("link add name {host} type veth peer name eth0 netns {space}\n");
            wiring += &format!("link set {host} master br0\nlink set {host} up\n");
        }
        run("ip", &["-n", &switch, "-batch", "-"], &wiring)?;
        for host in &self.hosts {
            let space = self.of(*host);
            let address = self.address(*host);
            let setting = format!("link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 up\n");
            run("ip", &["-n", &space, "-batch", "-"], &setting)?;
            self.rules(*host, RULES)?;
        }
        Ok(())
    }

    fn rules(&self, host: Host, rules: &str) -> anyhow::Result<String> {
        run("ip", &["netns", "exec", &self.of(host), "nft", "-f", "-"], rules)
    }
}

/// What the names of a run's objects begin with.
fn prefix(run: &str) -> String {
    format!("tmj-{run}-")
}

/// Takes away the namespaces of a run, whoever built them; how many there were.
///
/// # Errors
///
/// When one stays.
pub fn remove_all(run_id: &str) -> anyhow::Result<usize> {
    let Ok(entries) = std::fs::read_dir(NAMESPACES) else { return Ok(0) };
    let mut removed = 0;
    for entry in entries {
        let name = entry.context("read the namespaces")?.file_name().to_string_lossy().into_owned();
        if name.starts_with(&prefix(run_id)) {
            run("ip", &["netns", "del", &name], "")?;
            removed += 1;
        }
    }
    Ok(removed)
}

impl Net for VethNet {
    fn name(&self) -> &'static str {
        "veth"
    }

    fn listens(&self, host: Host) -> Ipv4Addr {
        self.address(host)
    }

    fn address(&self, host: Host) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.subnet, host.octet())
    }

    fn entrance(&self, host: Host) -> Entrance {
        Entrance::Namespace(PathBuf::from(NAMESPACES).join(self.of(host)))
    }

    fn cut(&mut self, from: Host, to: Host) -> anyhow::Result<()> {
        let address = self.address(from);
        self.rules(to, &format!("add element inet tmj blocked {{ {address} }}\n")).map(drop)
    }

    fn lost(&self, at: Host) -> anyhow::Result<u64> {
        let space = self.of(at);
        let listed = run("ip", &["netns", "exec", &space, "nft", "-j", "list", "counters"], "")?;
        let listed: Value = serde_json::from_str(&listed).context("read nft's counters")?;
        let counters = listed["nftables"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(counters.iter().filter_map(|entry| entry["counter"]["packets"].as_u64()).sum())
    }

    fn heal(&mut self) -> anyhow::Result<()> {
        for host in &self.hosts {
            self.rules(*host, "flush set inet tmj blocked\n")?;
        }
        Ok(())
    }

    fn started(&mut self, _host: Host, _process_id: u32) {}

    fn remove(&mut self) -> anyhow::Result<()> {
        remove_all(&self.run).map(drop)
    }
}

impl Drop for VethNet {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("take down the network: {error:#}; `tidemill-jepsen clean` tries again");
        }
    }
}
