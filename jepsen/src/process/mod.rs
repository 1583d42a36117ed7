//! Processes of a run: started on a host, in a cgroup of their own where there are such; watched by their ids.

pub mod cgroup;
pub mod procfs;

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, WaitOptions};

use crate::clock;
use crate::host::Host;
use crate::topo::Entrance;
use cgroup::Cgroup;

/// What is to be started.
#[derive(Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What it sees beside `PATH` and `HOME`.
    pub environment: Vec<(String, String)>,
}

/// One incarnation of a process.
#[derive(Debug)]
pub struct Process {
    /// Where it runs.
    pub host: Host,
    /// Which start on this host it is, from 1.
    pub incarnation: u32,
    /// Its id.
    pub id: u32,
    /// When it was started.
    pub started: u64,
    child: Child,
}

impl Process {
    /// Starts a program on a host; its output goes to `logs/<host>-<incarnation>.{out,err}`.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn start(
        host: Host,
        incarnation: u32,
        program: &Program,
        entrance: &Entrance,
        cgroup: Option<&Cgroup>,
        logs: &Path,
    ) -> anyhow::Result<Self> {
        let log = |kind: &str| File::create(logs.join(format!("{host}-{incarnation}.{kind}"))).context("create a log");
        let mut command = match cgroup {
            None => Command::new(&program.path),
            Some(cgroup) => {
                // The shell joins the cgroup and then becomes the program: no moment outside.
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", r#"echo $$ >"$0" && exec "$@""#]).arg(cgroup.processes()).arg(&program.path);
                shell
            }
        };
        command.args(&program.arguments).envs(program.environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(log("out")?).stderr(log("err")?).process_group(0);
        // A thread moves into the host's network for good, so it is a fresh one.
        let spawned = std::thread::scope(|scope| {
            let start = || -> anyhow::Result<Child> {
                entrance.enter()?;
                command.spawn().with_context(|| format!("start {}", program.path.display()))
            };
            scope.spawn(start).join()
        });
        let child = spawned.map_err(|_| anyhow::anyhow!("starting a process panicked"))??;
        Ok(Self { host, incarnation, id: child.id(), started: clock::now(), child })
    }

    /// Its exit status, once it has one.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    pub fn exited(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("wait for process {}", self.id))
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// When there is no such process any more.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process_id = i32::try_from(self.id).ok().and_then(Pid::from_raw).context("a process id")?;
        rustix::process::kill_process(process_id, signal).with_context(|| format!("signal {} ({})", self.host, self.id))
    }

    /// Kills it and waits for its end; how it ended.
    ///
    /// # Errors
    ///
    /// When it cannot be killed.
    pub fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        self.child.kill().with_context(|| format!("kill {} ({})", self.host, self.id))?;
        self.child.wait().with_context(|| format!("wait for {} ({})", self.host, self.id))
    }

    /// Waits until it is in one of the kernel's states, such as `T` for stopped.
    ///
    /// # Errors
    ///
    /// When it is not within a second.
    pub fn until_state(&self, wanted: char) -> anyhow::Result<()> {
        for _ in 0..200 {
            if procfs::Stat::read(self.id).is_some_and(|stat| stat.state == wanted) {
                return Ok(());
            }
            clock::pause(std::time::Duration::from_millis(5));
        }
        bail!("{} ({}) does not come into state {wanted}", self.host, self.id)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended is what we want; nothing else can go wrong with SIGKILL.
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}

/// How a process ended, in words.
#[must_use]
pub fn ended(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "an unknown end".to_owned(),
    }
}

/// Has orphans of the run's processes become children of the harness.
///
/// # Errors
///
/// When the kernel refuses.
pub fn adopt_orphans() -> anyhow::Result<()> {
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own)).context("become the reaper of orphans")
}

/// Collects every ended child that nobody waits for; to be called when no [`Process`] is left.
pub fn reap() -> usize {
    let mut reaped = 0;
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {
        reaped += 1;
    }
    reaped
}
