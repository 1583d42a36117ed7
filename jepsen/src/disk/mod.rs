//! A host's disk: an ext4 file system of its own in a sparse file, which can lose its power.
//!
//! Its options hide nothing: no commit but by fsync for as long as a run lasts, and no flush that ext4 would do by itself
//! when a file is replaced by a rename. What has reached the file counts as on the disk, so that a sync needs not wait for
//! two file systems, this one and that of the file.

mod power;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::clock;
use crate::topo::command::run;

/// How large it is, for whoever writes to it; what is not written takes no room.
const BYTES: u64 = 1 << 30;
/// How it is mounted.
const OPTIONS: &str = "loop,commit=600,noauto_da_alloc,barrier=0,noinit_itable";
/// What is written before the power goes, and must be gone with it.
const CANARY: &str = "canary";
/// How much that is: more than an inode could hold itself.
const CANARY_BYTES: usize = 8192;
/// How long a file system may stay busy after its last process has ended.
const BUSY_LIMIT: Duration = Duration::from_secs(5);
/// How often that is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Where the kernel lists its loop devices.
const LOOP_DEVICES: &str = "/sys/block";

/// One host's disk; taken away when it goes out of scope, its file excepted.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Mounted,
    /// The power is gone: nothing can be read or written.
    Dead,
    Unmounted,
}

impl Disk {
    /// Makes the file `<folder>/tmj-<run>-<name>.img`, a file system in it, and mounts that at `<folder>/<name>`.
    ///
    /// # Errors
    ///
    /// When this machine does not allow it.
    pub fn make(run_id: &str, name: &str, folder: &Path) -> anyhow::Result<Self> {
        Self::sized(&format!("{}{name}", prefix(run_id)), name, folder, BYTES)
    }

    fn sized(image: &str, name: &str, folder: &Path, bytes: u64) -> anyhow::Result<Self> {
        let (image, mount) = (folder.join(format!("{image}.img")), folder.join(name));
        let file = fs::File::create(&image).with_context(|| format!("make {}", image.display()))?;
        file.set_len(bytes).with_context(|| format!("make {}", image.display()))?;
        drop(file);
        fs::create_dir_all(&mount).with_context(|| format!("make {}", mount.display()))?;
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_os_str()], "")?;
        let mut disk = Self { image, mount, state: State::Unmounted };
        disk.mount()?;
        Ok(disk)
    }

    /// Where its file system is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Cuts its power: whatever was not brought to the disk by an fsync is lost, whoever wrote it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, or the file system is still there after that.
    pub fn cut_power(&mut self) -> anyhow::Result<()> {
        // Nobody syncs this. Whether it is still there afterwards tells whether anything was lost at all.
        let canary = self.mount.join(CANARY);
        fs::write(&canary, [1; CANARY_BYTES]).with_context(|| format!("write {}", canary.display()))?;
        power::cut(&self.mount).with_context(|| format!("cut the power of {}", self.mount.display()))?;
        self.state = State::Dead;
        if works(&self.mount).is_ok() {
            bail!("cut the power of {}: it can be written nevertheless", self.mount.display());
        }
        Ok(())
    }

    /// Lets go of a file system whose processes have ended.
    ///
    /// # Errors
    ///
    /// When it stays busy.
    pub fn unmount(&mut self) -> anyhow::Result<()> {
        if self.state != State::Unmounted {
            patiently(|| unmount(&self.mount))?;
            self.state = State::Unmounted;
        }
        Ok(())
    }

    /// Gives power back: mounts the file system, which recovers from its journal.
    ///
    /// # Errors
    ///
    /// When it cannot be mounted or written.
    pub fn mount(&mut self) -> anyhow::Result<()> {
        self.unmount()?;
        patiently(|| {
            let (image, mount) = (self.image.as_os_str(), self.mount.as_os_str());
            run("mount", &["-t".as_ref(), "ext4".as_ref(), "-o".as_ref(), OPTIONS.as_ref(), image, mount], "")?;
            // While anybody still has the dead file system, the kernel gives out the same one once more.
            if let Err(error) = works(&self.mount) {
                unmount(&self.mount)?;
                return Err(error).with_context(|| format!("write to {} after mounting it", self.mount.display()));
            }
            Ok(())
        })?;
        self.state = State::Mounted;
        Ok(())
    }

    /// Whether something was lost, as it had to be, when the power was cut last; says what.
    ///
    /// # Errors
    ///
    /// When what nobody had brought to the disk is there.
    pub fn loss(&self) -> anyhow::Result<String> {
        let canary = self.mount.join(CANARY);
        let found = match fs::read(&canary) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => "is gone".to_owned(),
            Err(error) => return Err(error).with_context(|| format!("read {}", canary.display())),
            // Somebody's fsync may have taken its name along, but not what was in it.
            Ok(bytes) if bytes.iter().any(|byte| *byte != 1) || bytes.len() < CANARY_BYTES => {
                format!("has {} of its bytes", bytes.iter().filter(|byte| **byte == 1).count())
            }
            Ok(_) => bail!("cut the power of {}: what was not synced is there", self.mount.display()),
        };
        Ok(format!("what was written last and not synced {found}"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            eprintln!("take a disk away: {error:#}; `tidemill-jepsen clean` tries again");
        }
    }
}

/// Whether a file can be made in a folder. Names and contents that the kernel remembers can be read from a dead disk, too.
fn works(folder: &Path) -> io::Result<()> {
    let path = folder.join("works");
    fs::File::create(&path)?;
    fs::remove_file(&path)
}

/// Tries until it succeeds or for long enough.
fn patiently(mut what: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let deadline = clock::now() + clock::nanos(BUSY_LIMIT);
    loop {
        match what() {
            Ok(()) => return Ok(()),
            Err(error) if clock::now() > deadline => return Err(error),
            Err(_) => clock::pause(POLL),
        }
    }
}

fn unmount(mount: &Path) -> anyhow::Result<()> {
    run("umount", &[mount], "").map(drop)
}

/// What the names of a run's files begin with.
fn prefix(run_id: &str) -> String {
    format!("tmj-{run_id}-")
}

/// The loop devices, each with the name of the file behind it.
fn attached() -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(LOOP_DEVICES) else { return Vec::new() };
    let device = |entry: fs::DirEntry| {
        let backing = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        let file = Path::new(backing.trim_end()).file_name()?.to_string_lossy().into_owned();
        Some((entry.file_name().to_string_lossy().into_owned(), file))
    };
    entries.flatten().filter_map(device).collect()
}

/// The runs whose disks are attached.
#[must_use]
pub fn runs() -> Vec<String> {
    let run = |(_, file): (String, String)| Some(file.strip_prefix("tmj-")?.split_once('-')?.0.to_owned());
    attached().into_iter().filter_map(run).collect()
}

/// What is attached of a run's disks, in words.
#[must_use]
pub fn left_of(run_id: &str) -> Vec<String> {
    let own = attached().into_iter().filter(|(_, file)| file.starts_with(&prefix(run_id)));
    own.map(|(device, file)| format!("disk {file} on {device}")).collect()
}

/// Takes away the disks of a run, whoever made them; how many there were. Their files stay in the run's folder.
///
/// # Errors
///
/// When one stays.
pub fn remove_all(run_id: &str) -> anyhow::Result<usize> {
    let own: Vec<(String, String)> =
        attached().into_iter().filter(|(_, file)| file.starts_with(&prefix(run_id))).collect();
    for (device, _) in &own {
        let device = format!("/dev/{device}");
        let mounts = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
        let of_device = |line: &str| {
            let mut fields = line.split(' ');
            (fields.next() == Some(&device)).then(|| fields.next().map(unescaped)).flatten()
        };
        for mount in mounts.lines().filter_map(of_device) {
            patiently(|| unmount(Path::new(&mount)))?;
        }
    }
    // A device whose file system is gone lets go of its file by itself, after a moment.
    patiently(|| match left_of(run_id).first() {
        None => Ok(()),
        Some(left) => bail!("remove {left}: it stays"),
    })?;
    Ok(own.len())
}

/// A path as the kernel's list of mounts has it: blanks and the like as octal numbers.
fn unescaped(field: &str) -> String {
    [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")]
        .iter()
        .fold(field.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

/// Tries everything that a disk needs, in a small one.
///
/// # Errors
///
/// What this machine does not allow.
pub fn trial() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("tmjt-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let tried = try_in(&folder);
    drop(fs::remove_dir_all(&folder));
    tried
}

fn try_in(folder: &Path) -> anyhow::Result<()> {
    let name = format!("tmjt-{}", std::process::id());
    let mut disk = Disk::sized(&name, "trial", folder, 16 << 20)?;
    disk.cut_power()?;
    disk.mount()?;
    disk.loss().map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_cut_takes_what_was_not_synced_and_nothing_else() {
        if let Err(missing) = trial() {
            println!("skipped: {missing:#}");
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let name = format!("tmjt-{}-unit", std::process::id());
        let mut disk = Disk::sized(&name, "unit", folder.path(), 16 << 20).expect("a disk");
        let mut synced = fs::File::create(disk.path().join("synced")).expect("writable");
        synced.write_all(b"here").and_then(|()| synced.sync_all()).expect("writable");
        fs::write(disk.path().join("written"), "gone").expect("writable");
        drop(synced);

        disk.cut_power().expect("possible");
        assert!(fs::write(disk.path().join("late"), "x").is_err(), "nothing works without power");
        disk.mount().expect("mountable");
        assert_eq!(fs::read(disk.path().join("synced")).expect("it is there"), b"here");
        assert!(!disk.path().join("written").exists());
        disk.loss().expect("the canary has died");
        fs::write(disk.path().join(CANARY), [1; CANARY_BYTES]).expect("writable");
        disk.loss().expect_err("a canary that lives shows that nothing was lost");

        drop(disk);
        assert!(attached().iter().all(|(_, file)| !file.starts_with(&name)), "the device is free again");
    }

    #[test]
    fn a_mount_point_with_blanks_reads_back() {
        assert_eq!(unescaped(r"/a\040b\134c"), r"/a b\c");
    }
}
