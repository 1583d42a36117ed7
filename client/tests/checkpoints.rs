//! Checkpoints of an embedded cluster: what is in their folder when the job has ended.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidemill::{Environment, Error};

/// How the job ends when enough checkpoints are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    AfterAllNumbers,
    ByPanic,
}

/// A job that counts many keys with a checkpoint every few milliseconds.
fn run(folder: &Path, end: End, settings: &[&str]) -> Result<(), Error> {
    let directory = format!("execution.checkpointing.dir=file://{}", folder.display());
    let usual = ["execution.runtime-mode=streaming", "execution.checkpointing.interval=5 ms"];
    let settings = settings.iter().copied().chain(usual).chain([directory.as_str()]);
    let env = Environment::with_arguments(settings.flat_map(|setting| ["-D", setting]))?;
    let folder = folder.to_owned();
    env.generate_sequence(0..40_000, Some(100_000))
        .uid("numbers")
        .map(|number| (number % 5_000, 1_u64))
        .uid("ones")
        .key_by(|(key, _)| *key)
        .sum(|(_, count)| count)
        .uid("counts")
        .for_each(move |(key, _)| {
            let enough = key == 0 && files(&folder).len() >= 2;
            assert!(end == End::AfterAllNumbers || !enough, "enough");
        })
        .uid("looks");
    env.execute("checkpointed").map(drop)
}

/// The finished files of checkpoints.
fn files(folder: &Path) -> Vec<PathBuf> {
    let below = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = below(folder.to_owned()).flat_map(below).flat_map(below);
    files.filter(|file| !file.to_string_lossy().contains('#')).collect()
}

#[test]
fn a_job_that_has_finished_leaves_no_file_of_a_checkpoint() {
    let folder = TempDir::new().unwrap();
    run(
        folder.path(),
        End::AfterAllNumbers,
        &["execution.checkpointing.externalized-checkpoint-retention=retain-on-cancellation"],
    )
    .unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_job_that_has_failed_leaves_its_newest_checkpoint_if_that_is_wanted() {
    let folder = TempDir::new().unwrap();
    let retain = "execution.checkpointing.externalized-checkpoint-retention=retain-on-cancellation";
    run(folder.path(), End::ByPanic, &[retain]).unwrap_err();
    assert!(!files(folder.path()).is_empty());
    let folder = TempDir::new().unwrap();
    run(folder.path(), End::ByPanic, &["execution.checkpointing.num-retained=3"]).unwrap_err();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
