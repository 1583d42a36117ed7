//! What this machine lets the harness do: each capability with the reason where it is missing.

use std::fs::File;
use std::sync::OnceLock;

use anyhow::Context;

use crate::binaries::Binaries;
use crate::process::cgroup::Cgroup;
use crate::topo::command::run;
use crate::{disk, shim};

/// One capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// Its name.
    pub name: &'static str,
    /// What needs it.
    pub for_what: &'static str,
    /// None: it is there.
    pub missing: Option<String>,
}

/// Everything the harness may want of a machine. Tried once: it does not change while the harness runs.
pub fn all() -> &'static [Capability] {
    static TRIED: OnceLock<Vec<Capability>> = OnceLock::new();
    TRIED.get_or_init(try_all)
}

fn try_all() -> Vec<Capability> {
    let capability = |name, for_what, tried: anyhow::Result<()>| {
        let missing = tried.err().map(|error| format!("{error:#}"));
        Capability { name, for_what, missing }
    };
    vec![
        capability("root", "hosts with a network of their own", root()),
        capability("ip", "--net veth", run("ip", &["-V"], "").map(drop)),
        capability("nft", "--net veth: cutting links", run("nft", &["--version"], "").map(drop)),
        capability("namespaces", "--net veth", namespaces()),
        capability("cgroup", "killing all of a host at once, finding what is left", cgroup()),
        capability("disk", "power loss", root().and_then(|()| disk::trial())),
        capability("shim", "syncs that are skipped, late or fail", shim()),
        capability("procfs", "proofs that processes stopped, stayed, ended", procfs()),
        capability("netem", "packet faults in the kernel", netem()),
    ]
}

/// Why a network of the kernel cannot be built here; none: it can.
#[must_use]
pub fn lacks_veth() -> Option<String> {
    let needed = ["root", "ip", "nft", "namespaces"];
    needed.into_iter().find_map(lacks)
}

/// Why this capability is missing; none: it is there.
#[must_use]
pub fn lacks(name: &str) -> Option<String> {
    let capability = all().iter().find(|capability| capability.name == name)?;
    capability.missing.as_ref().map(|why| format!("{name}: {why}"))
}

/// Whether this capability is there.
#[must_use]
pub fn has(name: &str) -> bool {
    lacks(name).is_none()
}

fn root() -> anyhow::Result<()> {
    anyhow::ensure!(rustix::process::geteuid().is_root(), "not root");
    Ok(())
}

/// Names of trial objects have no run's form, so that `clean` and other runs leave them alone.
fn trial() -> String {
    format!("tmjt-{}", std::process::id())
}

fn namespaces() -> anyhow::Result<()> {
    let name = trial();
    run("ip", &["netns", "add", &name], "").context("make a network namespace")?;
    let rules = "table inet tmj {\n  set blocked { type ipv4_addr; }\n  counter cut { }\n}\n";
    let ruled = run("ip", &["netns", "exec", &name, "nft", "-f", "-"], rules).context("filter in a namespace");
    let wired = run("ip", &["-n", &name, "link", "add", "name", "a", "type", "veth", "peer", "name", "b"], "");
    run("ip", &["netns", "del", &name], "").context("remove a network namespace")?;
    ruled?;
    wired.context("make a veth pair").map(drop)
}

fn cgroup() -> anyhow::Result<()> {
    let run = format!("t{}", std::process::id());
    drop(Cgroup::create(&run, "trial")?);
    crate::process::cgroup::remove_all(&run).map(drop)
}

fn shim() -> anyhow::Result<()> {
    let binaries = Binaries::find()?;
    shim::trial(&binaries.coordinator, &binaries.library)
}

fn procfs() -> anyhow::Result<()> {
    crate::process::procfs::Stat::read(std::process::id()).context("read own /proc/<id>/stat").map(drop)
}

fn netem() -> anyhow::Result<()> {
    // The kernel's own list of what it was built with, where it has one.
    File::open("/proc/config.gz").context("read the kernel's configuration")?;
    let text = run("zcat", &["/proc/config.gz"], "")?;
    anyhow::ensure!(
        text.contains("CONFIG_NET_SCH_NETEM=y") || text.contains("CONFIG_NET_SCH_NETEM=m"),
        "not in this kernel"
    );
    Ok(())
}
