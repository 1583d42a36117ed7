//! What people and scripts are told of checkpoints.

use std::time::Duration;

use expect_test::expect;
use tidemill_model::id::{CheckpointId, ExecutionVertexId, JobVertexId, SubtaskIndex};
use tidemill_model::job::JobStatus;
use tidemill_model::time::Timestamp;

use super::super::tests::details;
use super::{recovery, text, value};
use crate::job_client::{
    CheckpointActivity, CheckpointFailure, CheckpointOverview, JobDetails, PendingCheckpoint, RetainedCheckpoint,
    SubtaskSnapshot,
};

const NOW: Timestamp = Timestamp(1_700_000_010_000);

fn job() -> JobDetails {
    let vertex = ExecutionVertexId { vertex: JobVertexId(1), subtask: SubtaskIndex(0) };
    let retained = RetainedCheckpoint {
        id: CheckpointId(9),
        triggered: Timestamp(1_700_000_007_900),
        completed: Timestamp(1_700_000_008_000),
        size_bytes: 3 << 20,
        notified: true,
    };
    let reason = "it took too long; not acknowledged by v1[0]".to_owned();
    let activity = CheckpointActivity {
        failed: 2,
        last_failure: Some(CheckpointFailure { id: CheckpointId(8), reason, held_up_by: vec![vertex, vertex] }),
        pending: vec![PendingCheckpoint {
            id: CheckpointId(10),
            age: Duration::from_millis(70),
            missing: vec![vertex],
        }],
        newest: Some(CheckpointId(9)),
        newest_subtasks: vec![SubtaskSnapshot { vertex, duration: Duration::from_millis(80), size_bytes: 3 << 20 }],
    };
    let checkpoints = CheckpointOverview {
        interval: Duration::from_secs(1),
        directory: "file:///checkpoints".to_owned(),
        retained: vec![retained],
        activity: Some(activity),
    };
    JobDetails { checkpoints: Some(checkpoints), ..details(JobStatus::Running) }
}

#[test]
fn people_see_what_is_kept_what_is_under_way_and_what_held_the_last_failure_up() {
    expect![[r#"
        Checkpoints of job 01900000000070008000000000000001 every 1.0 s in file:///checkpoints
        7 completed, 1 in progress, 2 failed since the leader began
        Recovery    from checkpoint 9, 2.0 s old, 3 MiB

        RETAINED  TRIGGERED (UTC)          TOOK    SIZE   NOTIFIED
        9         2023-11-14 22:13:27.900  100 ms  3 MiB  yes

        Last failure: checkpoint 8: it took too long; not acknowledged by v1[0]; held up by Sum

        In progress: checkpoint 10 for 70 ms; held up by Sum

        Checkpoint 9 by sub-task
        OPERATORS  SUBTASK  ACKNOWLEDGED AFTER  SIZE
        Sum        0        80 ms               3 MiB
    "#]]
    .assert_eq(&text(&job(), NOW));
}

#[test]
fn scripts_see_the_same() {
    expect![[r#"{"activity":{"failed":2,"last_failure":{"held_up_by":[{"subtask":0,"vertex":1},{"subtask":0,"vertex":1}],"id":8,"reason":"it took too long; not acknowledged by v1[0]"},"newest":9,"newest_subtasks":[{"duration_ms":80,"size_bytes":3145728,"subtask":0,"vertex":1}],"pending":[{"age_ms":70,"id":10,"missing":[{"subtask":0,"vertex":1}]}]},"checkpointing":true,"completed":7,"directory":"file:///checkpoints","interval_ms":1000,"job":"01900000000070008000000000000001","overdue":false,"recoverable":true,"retained":[{"completed_ms":1700000008000,"id":9,"notified":true,"size_bytes":3145728,"triggered_ms":1700000007900}]}"#]].assert_eq(&value(&job(), NOW).to_string());
    let without = value(&details(JobStatus::Running), NOW);
    assert_eq!(without["checkpointing"], false);
}

#[test]
fn a_job_says_whether_it_could_go_on_after_a_failure() {
    let mut job = job();
    assert_eq!(recovery(&job, NOW).as_deref(), Some("from checkpoint 9, 2.0 s old, 3 MiB"));
    let late = recovery(&job, Timestamp(NOW.0 + 2000)).unwrap_or_default();
    assert!(late.ends_with("4.0 s old, 3 MiB; OVERDUE, one is wanted every 1.0 s"), "{late}");
    if let Some(details) = &mut job.checkpoints {
        details.retained.clear();
    }
    let none = recovery(&job, NOW).unwrap_or_default();
    assert!(none.contains("no checkpoint is completed"), "{none}");
    assert_eq!(recovery(&details(JobStatus::Running), NOW), None);
}
