//! What dead runs left: told from what living ones use by the locks that die with their harness.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use crate::disk;
use crate::lock::{self, Lock};
use crate::process::{cgroup, procfs};
use crate::topo::veth;

/// Removes what every dead run left; what was done, in words.
///
/// # Errors
///
/// When something stays.
pub fn all() -> anyhow::Result<Vec<String>> {
    let mut done = Vec::new();
    let mut runs: BTreeSet<String> = lock::runs().into_iter().collect();
    runs.extend(named("/run/netns"));
    runs.extend(disk::runs());
    runs.extend(cgroup::mount_point().into_iter().flat_map(|mount| named(&mount.to_string_lossy())));
    runs.extend(processes().into_iter().map(|(run, _)| run));
    for run in runs {
        // A lock that cannot be taken is of a run that lives.
        if let Some(lock) = Lock::take(&run)? {
            let killed = kill_processes(&run)?;
            let cgroups = cgroup::remove_all(&run)?;
            let namespaces = veth::remove_all(&run)?;
            let disks = disk::remove_all(&run)?;
            done.push(format!(
                "run {run}: {killed} processes, {cgroups} cgroups, {namespaces} namespaces, {disks} disks"
            ));
            drop(lock);
        }
    }
    Ok(done)
}

/// What is left of a run, in words.
#[must_use]
pub fn left_of(run: &str) -> Vec<String> {
    let processes = processes().into_iter().filter(|(of, _)| of == run).map(|(_, id)| format!("process {id}"));
    let namespaces = names("/run/netns").into_iter().filter(|name| name.starts_with(&format!("tmj-{run}-")));
    let cgroups = cgroup::mount_point().map(|mount| mount.join(format!("tmj-{run}"))).filter(|path| path.exists());
    let cgroups = cgroups.into_iter().flat_map(|path| names(&path.to_string_lossy())).filter(|name| name.len() == 2);
    let cgroups = cgroups.map(|name| format!("cgroup {name}"));
    processes.chain(namespaces).chain(cgroups).chain(disk::left_of(run)).collect()
}

fn names(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The runs that objects `tmj-<run>` or `tmj-<run>-...` of a folder belong to.
fn named(folder: &str) -> Vec<String> {
    let run = |name: String| name.strip_prefix("tmj-").and_then(|rest| rest.split('-').next()).map(str::to_owned);
    names(folder).into_iter().filter_map(run).collect()
}

/// This user's processes that carry a run's name in their environment; another user's runs have locks elsewhere.
fn processes() -> Vec<(String, u32)> {
    let own = std::process::id();
    let user = rustix::process::geteuid().as_raw();
    let is_own = |id: &u32| fs::metadata(format!("/proc/{id}")).is_ok_and(|process| process.uid() == user);
    let prefix = format!("{}=", lock::VARIABLE);
    let mut found = Vec::new();
    for id in procfs::living().into_keys().filter(|id| *id != own && is_own(id)) {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        if let Some(run) = environment.split('\0').find_map(|pair| pair.strip_prefix(&prefix)) {
            found.push((run.to_owned(), id));
        }
    }
    found
}

fn kill_processes(run: &str) -> anyhow::Result<usize> {
    let ids: Vec<u32> = processes().into_iter().filter(|(of, _)| of == run).map(|(_, id)| id).collect();
    for id in &ids {
        let id = i32::try_from(*id).ok().and_then(Pid::from_raw).context("a process id")?;
        // It may have ended meanwhile.
        let _ = kill_process(id, Signal::KILL);
    }
    Ok(ids.len())
}
