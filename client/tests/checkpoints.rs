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
    let numbers = match end {
        End::AfterAllNumbers => 40_000,
        // However late the checkpoints are.
        End::ByPanic => u64::MAX,
    };
    env.generate_sequence(0..numbers, Some(100_000))
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

#[test]
fn a_folder_that_cannot_be_used_is_told_at_submission() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let error = run(&folder.path().join("file/checkpoints"), End::AfterAllNumbers, &[]).unwrap_err().to_string();
    assert!(
        error.contains("submit job") && error.contains("file/checkpoints") && error.contains("make the folder"),
        "{error}"
    );
}

#[test]
fn operators_without_a_uid_are_listed_with_one_to_paste() {
    let folder = TempDir::new().unwrap();
    let directory = format!("execution.checkpointing.dir={}", folder.path().display());
    let settings = ["execution.runtime-mode=streaming", "execution.checkpointing.interval=1 s", &directory];
    let env = Environment::with_arguments(settings.into_iter().flat_map(|setting| ["-D", setting])).unwrap();
    let numbers = env.generate_sequence(0..10, None).map(|number| number + 1).uid("map").map(|number| number + 1);
    numbers.map(|number| number + 1).discard();
    let error = env.execute("unnamed").unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().skip(1).map(str::trim).collect();
    let wanted = [
        ".uid(\"source-sequence\") after Source: sequence",
        ".uid(\"map-2\") after Map",
        ".uid(\"map-3\") after Map",
        ".uid(\"sink-discard\") after Sink: discard",
    ];
    assert_eq!(lines, wanted, "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
