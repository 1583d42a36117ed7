//! Crashes in each window of a checkpoint's life: the output is that of a run without failures.

use std::cell::RefCell;
use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use tidemill::cli::local_cluster::ProcessName;
use tidemill::job_client::{AttemptDetails, JobDetails};
use tidemill_model::id::{CheckpointId, JobId};
use tidemill_model::job::JobStatus;
use tidemill_tests::cluster::{TestCluster, until};
use tidemill_tests::http::set_fail_point;
use tidemill_tests::orders_cluster::{OrdersCluster, kill_process};

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");

const TASK_MANAGERS: u32 = 2;

/// How often the job is restarted at each point.
const RESTARTS: u32 = 3;

/// Where executors crash: after some time, so that there is something new to restore, or at once.
const IN_EXECUTORS: [(&str, &str); 7] = [
    ("ckpt.ack", "3*off->1*abort"),
    ("ckpt.notify", "3*off->1*abort"),
    ("restore.pre", "1*abort"),
    ("sink.precommit.pre", "5*off->1*abort"),
    ("sink.precommit.post", "5*off->1*abort"),
    ("sink.commit.pre", "5*off->1*abort"),
    ("sink.commit.post", "5*off->1*abort"),
];

/// Where leaders crash: between acknowledgement and completion, between completion and notification, and around them.
const IN_LEADERS: [&str; 4] = ["ckpt.trigger", "ckpt.pre_commit", "ckpt.post_commit", "gc.pre_delete"];

struct Windows {
    orders: OrdersCluster,
    restored: BTreeSet<CheckpointId>,
    crashes: u32,
}

fn task_managers() -> impl Iterator<Item = ProcessName> {
    (1..=TASK_MANAGERS).map(ProcessName::TaskManager)
}

impl Windows {
    async fn start(lines: u64) -> Result<Self> {
        let cluster = TestCluster::start(3, TASK_MANAGERS, 4, &[]).await?;
        let orders = OrdersCluster::new(cluster, JOB, TASK_MANAGERS, lines)?;
        Ok(Self { orders, restored: BTreeSet::new(), crashes: 0 })
    }

    async fn until_checkpoint(&mut self, job: JobId, after: Option<CheckpointId>) -> Result<JobDetails> {
        let details = self.orders.until_checkpoint(job, after).await?;
        self.restored.extend(details.restored_checkpoint);
        Ok(details)
    }

    /// Executors take over what their task manager has when they start, so that all of them have to start again.
    async fn set_in_executors(&mut self, details: &JobDetails, point: &str, action: &str) -> Result<()> {
        for name in task_managers() {
            set_fail_point(&self.orders.cluster, name, point, action)?;
        }
        let executors: BTreeSet<u32> = details.attempts.iter().filter_map(|attempt| attempt.process_id).collect();
        executors.into_iter().try_for_each(kill_process)
    }

    async fn crash_executors(&mut self, job: JobId, point: &str, action: &str) -> Result<()> {
        let before = self.until_checkpoint(job, None).await?;
        self.set_in_executors(&before, point, action).await?;
        let seen = RefCell::new(BTreeSet::new());
        let crashed = |details: &JobDetails| {
            seen.borrow_mut().extend(details.restored_checkpoint);
            details.restarts > before.restarts + RESTARTS
        };
        let after = self.orders.cluster.until_job(job, point, crashed).await?;
        self.crashes += after.restarts - before.restarts;
        self.restored.extend(seen.into_inner());
        for name in task_managers() {
            set_fail_point(&self.orders.cluster, name, point, "off")?;
        }
        // Those that have the point still: they crash once more, or end here.
        let last = self.orders.cluster.client().get_job(job).await?;
        self.set_in_executors(&last, point, "off").await?;
        self.until_checkpoint(job, after.latest_checkpoint).await?;
        Ok(())
    }

    /// The leader crashes, and with `and_task_manager` what its successor restores is needed at once.
    async fn crash_leader(&mut self, job: JobId, point: &str) -> Result<()> {
        let before = self.until_checkpoint(job, None).await?;
        let leader = self.orders.cluster.leader().await?;
        set_fail_point(&self.orders.cluster, leader, point, "1*abort")?;
        let processes = &self.orders.cluster.processes;
        until(point, || async { processes.pid(leader).is_none().then_some(()) }).await?;
        self.set_in_executors(&before, point, "off").await?;
        self.orders.cluster.processes.start_process(leader).await?;
        self.crashes += 2;
        self.until_checkpoint(job, before.latest_checkpoint).await?;
        Ok(())
    }

    /// Everything is gone that could still know what the leader was about to do: all task managers are killed with it.
    async fn crash_leader_and_task_managers(&mut self, job: JobId, point: &str) -> Result<()> {
        let before = self.until_checkpoint(job, None).await?;
        let leader = self.orders.cluster.leader().await?;
        set_fail_point(&self.orders.cluster, leader, point, "3*off->1*abort")?;
        let processes = &self.orders.cluster.processes;
        until(point, || async { processes.pid(leader).is_none().then_some(()) }).await?;
        self.kill_task_managers().await?;
        self.orders.cluster.processes.start_process(leader).await?;
        self.until_checkpoint(job, before.latest_checkpoint).await?;
        Ok(())
    }

    /// Task managers are killed while the sub-tasks on them are about to read what they start from.
    async fn kill_task_managers_during_restore(&mut self, job: JobId) -> Result<()> {
        let before = self.until_checkpoint(job, None).await?;
        self.set_in_executors(&before, "restore.pre", "sleep(600000)").await?;
        let restores = |details: &JobDetails| {
            let waits = |attempt: &AttemptDetails| attempt.report.state.name() == "INITIALIZING";
            details.restarts > before.restarts && details.attempts.iter().any(waits)
        };
        self.orders.cluster.until_job(job, "sub-tasks are being restored", restores).await?;
        self.kill_task_managers().await?;
        self.until_checkpoint(job, before.latest_checkpoint).await?;
        Ok(())
    }

    async fn kill_task_managers(&mut self) -> Result<()> {
        for name in task_managers() {
            self.orders.cluster.processes.kill(name).await?;
        }
        for name in task_managers() {
            self.orders.cluster.processes.start_process(name).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn crashes_at_each_point_of_a_checkpoint_lose_and_repeat_nothing() -> Result<()> {
    let mut windows = Windows::start(200_000).await?;
    let submitted = windows.orders.submit("out", 4, &[]).await?;
    let job = submitted.job;
    for (point, action) in IN_EXECUTORS {
        println!("executors crash at {point}");
        windows.crash_executors(job, point, action).await?;
    }
    for point in IN_LEADERS {
        println!("the leader crashes at {point}");
        windows.crash_leader(job, point).await?;
    }
    println!("{} crashes, {} checkpoints restored", windows.crashes, windows.restored.len());
    ensure!(windows.crashes >= 20 && windows.restored.len() >= 15, "{} of {:?}", windows.crashes, windows.restored);
    windows.orders.release()?;
    windows.orders.check_result(submitted, "out").await
}

#[tokio::test]
async fn task_managers_killed_in_each_window_together_with_the_leader_lose_and_repeat_nothing() -> Result<()> {
    let mut windows = Windows::start(100_000).await?;
    let submitted = windows.orders.submit("out", 4, &[]).await?;
    let job = submitted.job;
    for point in ["ckpt.pre_commit", "ckpt.post_commit"] {
        println!("the leader crashes at {point}, and the task managers with it");
        windows.crash_leader_and_task_managers(job, point).await?;
    }
    windows.kill_task_managers_during_restore(job).await?;
    ensure!(windows.restored.len() >= 3, "each time a checkpoint is restored: {:?}", windows.restored);
    // The end takes long enough to be hit.
    let details = windows.until_checkpoint(job, None).await?;
    windows.set_in_executors(&details, "sink.commit.pre", "sleep(1000)").await?;
    windows.orders.release()?;
    let committing = |details: &JobDetails| matches!(details.status, JobStatus::Committing);
    windows.orders.cluster.until_job(job, "the job commits", committing).await?;
    let leader = windows.orders.cluster.leader().await?;
    windows.orders.cluster.processes.kill(leader).await?;
    windows.kill_task_managers().await?;
    windows.orders.cluster.processes.start_process(leader).await?;
    windows.orders.check_result(submitted, "out").await
}

#[tokio::test]
async fn whoever_commits_the_last_output_and_leads_meanwhile_may_crash_at_any_point() -> Result<()> {
    let mut windows = Windows::start(20_000).await?;
    let submitted = windows.orders.submit("out", 4, &[]).await?;
    let job = submitted.job;
    let details = windows.until_checkpoint(job, None).await?;
    // The end takes long enough to be hit.
    windows.set_in_executors(&details, "sink.commit.pre", "sleep(200)").await?;
    windows.until_checkpoint(job, details.latest_checkpoint).await?;
    windows.orders.release()?;
    let committing = |details: &JobDetails| matches!(details.status, JobStatus::Committing);
    let details = windows.orders.cluster.until_job(job, "the job commits", committing).await?;
    let executors: BTreeSet<u32> = details.attempts.iter().filter_map(|attempt| attempt.process_id).collect();
    let leader = windows.orders.cluster.leader().await?;
    windows.orders.cluster.processes.kill(leader).await?;
    executors.into_iter().try_for_each(kill_process)?;
    windows.orders.cluster.processes.start_process(leader).await?;
    windows.orders.check_result(submitted, "out").await
}
