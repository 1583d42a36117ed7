//! One process of a local cluster: started detached, recognised later, signalled only when it is still the same.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// A process as one boot of this machine knows it: a pid alone is given to others later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessIdentity {
    /// The process id.
    pub pid: u32,
    /// When it was started, in clock ticks since boot.
    pub started: u64,
    /// The boot's own id.
    pub boot: String,
}

impl ProcessIdentity {
    /// The process that has this id now.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let gone = || io::Error::other(format!("process {pid} has ended"));
        let started = parse_stat(&stat).ok_or_else(gone)?;
        Ok(Self { pid, started, boot: boot_id() })
    }

    /// Whether it still runs; a zombie whose threads have all ended does not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        Self::of(self.pid).is_ok_and(|found| found == *self)
    }

    /// Signals it, unless it has ended.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Err(io::Error::other(format!("{} is no process id", self.pid)));
        };
        if !self.is_running() {
            return Ok(());
        }
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Starts a program that outlives its starter: its own process group, no terminal, everything it says in one log.
pub(super) fn spawn(program: &Path, arguments: &[String], directory: &Path, log: &Path) -> io::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    // Else an error's backtrace is the end of the log, which is what `Error::Exited` quotes. Panics keep theirs.
    let backtrace = std::env::var_os("RUST_LIB_BACKTRACE").unwrap_or_else(|| "0".into());
    Command::new(program)
        .env("RUST_LIB_BACKTRACE", backtrace)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
}

/// The start time of a process that has not ended, from the text of its `stat` file.
fn parse_stat(stat: &str) -> Option<u64> {
    // The second field is the program's name in brackets, which may hold blanks and brackets.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    // The state was field 3; the number of threads is field 20, the start time field 22.
    let threads: u32 = fields.nth(16)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    // The first thread of a killed process may be dead while others have yet to end: until then they keep the ports
    // and the locks.
    let ended = matches!(state, "Z" | "X") && threads <= 1;
    (!ended).then_some(started)
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 8675309 1000 200 18446744073709551615";
        assert_eq!(parse_stat(stat), Some(8_675_309));
        assert_eq!(parse_stat(&stat.replace(" S ", " Z ")), None);
        let ending = stat.replace(" S ", " Z ").replace(" 20 0 1 0 ", " 20 0 2 0 ");
        assert_eq!(parse_stat(&ending), Some(8_675_309), "another thread has yet to end");
        assert_eq!(parse_stat("12 (a"), None);
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_mistaken_for_it() {
        let own = ProcessIdentity::of(std::process::id()).unwrap();
        assert!(own.is_running());
        let other = ProcessIdentity { started: own.started + 1, ..own.clone() };
        assert!(!other.is_running());
        // Were it signalled, this test would end here.
        other.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn a_killed_child_counts_as_ended_before_it_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let arguments = ["1000".to_owned()];
        let mut child =
            spawn(Path::new("/bin/sleep"), &arguments, directory.path(), &directory.path().join("log")).unwrap();
        let identity = ProcessIdentity::of(child.id()).unwrap();
        identity.signal(Signal::KILL).unwrap();
        while identity.is_running() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
