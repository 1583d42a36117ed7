//! One cgroup (version 2) for each host: everything that runs there is in it, and dies with one write.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::clock;

/// Where version 2 is mounted, if it is.
#[must_use]
pub fn mount_point() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let is_v2 = |line: &&str| line.split_whitespace().nth(2) == Some("cgroup2");
    mounts.lines().find(is_v2).and_then(|line| line.split_whitespace().nth(1)).map(PathBuf::from)
}

/// A cgroup that is removed with everything in it when it goes out of scope.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes the cgroup `tmj-<run>/<name>`.
    ///
    /// # Errors
    ///
    /// When there is no version 2, or it may not be written.
    pub fn create(run: &str, name: &str) -> anyhow::Result<Self> {
        let mount = mount_point().context("find a cgroup file system of version 2")?;
        let path = mount.join(format!("tmj-{run}")).join(name);
        fs::create_dir_all(&path).with_context(|| format!("make cgroup {}", path.display()))?;
        if !path.join("cgroup.kill").exists() {
            bail!("make cgroup {}: this kernel's cgroups have no cgroup.kill", path.display());
        }
        Ok(Self { path })
    }

    /// The file that takes the ids of processes.
    #[must_use]
    pub fn processes(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// The ids of its living processes.
    #[must_use]
    pub fn members(&self) -> Vec<u32> {
        members(&self.path)
    }

    /// Kills everything in it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn kill(&self) -> anyhow::Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1").with_context(|| format!("kill cgroup {}", self.path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            eprintln!("remove a cgroup: {error:#}; `tidemill-jepsen clean` tries again");
        }
    }
}

/// Removes what a run left, whoever made it; how many cgroups there were.
///
/// # Errors
///
/// When one stays.
pub fn remove_all(run: &str) -> anyhow::Result<usize> {
    let Some(mount) = mount_point() else { return Ok(0) };
    let root = mount.join(format!("tmj-{run}"));
    let Ok(entries) = fs::read_dir(&root) else { return Ok(0) };
    let mut removed = 0;
    for entry in entries {
        let path = entry.context("read the cgroups")?.path();
        if path.is_dir() {
            remove(&path)?;
            removed += 1;
        }
    }
    fs::remove_dir(&root).with_context(|| format!("remove {}", root.display()))?;
    Ok(removed)
}

fn members(path: &Path) -> Vec<u32> {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn remove(path: &Path) -> anyhow::Result<()> {
    // It has gone already when a run was cleaned up by another one.
    if !path.exists() {
        return Ok(());
    }
    fs::write(path.join("cgroup.kill"), "1").with_context(|| format!("kill cgroup {}", path.display()))?;
    for _ in 0..400 {
        if fs::remove_dir(path).is_ok() {
            return Ok(());
        }
        clock::pause(Duration::from_millis(10));
    }
    bail!("remove {}: processes {:?} do not go away", path.display(), members(path))
}
