//! What a job's master has deleted in the checkpoint storage.

use tidemill_model::checkpoint::ExternalizedRetention;
use tidemill_model::execution::{ExecutionState, FailureKind, TerminalState};
use tidemill_model::time::Timestamp;

use super::checkpoints::{ALL, SECOND, checkpointed, last_snapshot};
use super::{CommandBody, FinalizationKind, Harness, JobMasterEvent, Response};
use crate::engine::leader::job_master::StorageAnswer;
use crate::engine::replicated::Garbage;

#[test]
fn files_of_a_checkpoint_that_came_to_nothing_are_found_when_everything_retained_is_newer() {
    let mut harness = Harness::run(checkpointed());
    harness.complete(1);
    harness.tick_after(SECOND);
    ALL[..3].iter().for_each(|&place| drop(harness.acknowledge(place, 0, 2)));
    let expired = harness.tick_after(SECOND * 5);
    assert!(expired.contains("abort checkpoint 2"), "{expired}");
    assert!(!expired.contains("list files"), "checkpoint 1, which is retained, is older: {expired}");
    let completed: String = ALL.iter().map(|&place| harness.acknowledge(place, 0, 3)).collect();
    assert!(completed.ends_with("list files\n"), "{completed}");
    // Beside those of the checkpoint that came to nothing: one that is retained, one that may yet be, what a task that
    // has finished left, and what is no file of ours.
    let there = ["2/0-0", "2/0-1#1", "3/0-0", "4/0-0", "last/x", "lost+found/x", "2"].map(str::to_owned).to_vec();
    let found = harness.step(JobMasterEvent::StorageAnswered(StorageAnswer::Listed(there)));
    assert_eq!(found, "delete 2/0-0 2/0-1#1\n");
    let found = Garbage::Files(["2/0-0", "2/0-1#1"].map(str::to_owned).to_vec());
    let gone = harness.step(JobMasterEvent::StorageAnswered(StorageAnswer::Deleted(found)));
    assert_eq!(gone, "", "no list had them, and nothing else is to be done");
    let heard: String = ALL.iter().map(|&place| harness.notified(place, 3)).collect();
    assert_eq!(heard, "propose notified 3\ndelete 1/0-0 1/0-1 1/1-0 1/1-1\n");
}

#[test]
fn a_cancelled_job_that_keeps_its_checkpoints_is_rid_of_all_other_files() {
    let mut spec = checkpointed();
    if let Some(settings) = &mut spec.settings.checkpointing {
        settings.externalized = ExternalizedRetention::RetainOnEnd;
    }
    let mut harness = Harness::run(spec);
    harness.complete(1);
    harness.tick_after(SECOND);
    ALL.iter().for_each(|&place| drop(harness.acknowledge(place, 0, 2)));
    let body = CommandBody::CancelJob { job: harness.spec.id };
    harness.step(JobMasterEvent::Applied { body, stamp: Timestamp(9), response: Response::Done });
    ALL.iter().for_each(|&(v, s)| drop(harness.change(v, s, ExecutionState::Terminal(TerminalState::Canceled))));
    let ended = harness.finalized(1, FinalizationKind::Abort, None);
    assert!(ended.ends_with("release slots\ndelete 1/0-0 1/0-1 1/1-0 1/1-1\n"), "nobody will ever confirm 2: {ended}");
    let gone = Garbage::Files(harness.master.job().checkpoints.garbage.keys().cloned().collect());
    let gone = harness.step(JobMasterEvent::StorageAnswered(StorageAnswer::Deleted(gone)));
    assert_eq!(gone, "propose deleted 1/0-0 1/0-1 1/1-0 1/1-1\nended\n");
    assert_eq!(harness.latest(), Some(2));
}

#[test]
fn what_a_task_manager_wrote_after_the_end_of_its_job_is_deleted_when_it_comes_back() {
    let mut harness = Harness::run(checkpointed());
    harness.complete(1);
    let body = CommandBody::CancelJob { job: harness.spec.id };
    harness.step(JobMasterEvent::Applied { body, stamp: Timestamp(9), response: Response::Done });
    ALL.iter().for_each(|&(v, s)| drop(harness.change(v, s, ExecutionState::Terminal(TerminalState::Canceled))));
    let ended = harness.finalized(1, FinalizationKind::Abort, None);
    assert!(ended.ends_with("release slots\ndelete the folder\n"), "{ended}");
    let emptied = |harness: &mut Harness| {
        let gone = StorageAnswer::Deleted(Garbage::Folder);
        harness.step(JobMasterEvent::StorageAnswered(gone))
    };
    assert_eq!(emptied(&mut harness), "", "another time, for what is written late");
    assert_eq!(harness.tick_after(SECOND * 2), "delete the folder\n");
    let reports = harness.running_reports(1);
    assert_eq!(harness.register(2, reports), "tm-2 <- release\n");
    let again = emptied(&mut harness);
    assert_eq!(again, "propose deleted the folder\npropose RecordStraggler\ndelete the folder\n");
    assert_eq!(emptied(&mut harness), "");
    assert_eq!(harness.tick_after(SECOND * 2), "delete the folder\n");
    assert_eq!(emptied(&mut harness), "propose deleted the folder\nended\n");
}

/// Whatever retention says: its transactions were completed, are not all committed, and lie nowhere else.
#[test]
fn a_job_that_fails_because_its_sinks_cannot_commit_keeps_its_last_checkpoint() {
    let mut harness = Harness::run(checkpointed());
    ALL.iter().for_each(|&(v, s)| drop(harness.change(v, s, last_snapshot(v, s, 9))));
    assert_eq!(harness.status(), "COMMITTING");
    let last = harness.latest();
    harness.finalized(1, FinalizationKind::Commit, Some(FailureKind::InvalidInput));
    assert_eq!(harness.status(), "FAILING");
    let ended = harness.finalized(1, FinalizationKind::Abort, None);
    assert!(ended.ends_with("release slots\nended\n"), "nothing is deleted: {ended}");
    assert_eq!((harness.status(), harness.latest()), ("FAILED", last));
}
