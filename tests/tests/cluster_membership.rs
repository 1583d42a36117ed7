//! Coordinators come, go and are restarted while a job runs and others are submitted: nobody notices.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result};
use tidemill::cli::local_cluster::{ProcessName, Programs};
use tidemill::job_client::{JobClient, JobDetails};
use tidemill_model::id::ExecutionAttemptId;
use tidemill_tests::cluster::{HeldJob, Numbers, TestCluster, expected_sums, sorted_lines, until};
use tidemill_tests::load::Load;

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");
const NUMBERS: Numbers = Numbers { count: 200_000, rate: 40_000, parallelism: 4 };

/// The attempts with their processes: what must not change.
fn placements(details: &JobDetails) -> Vec<(ExecutionAttemptId, Option<u32>)> {
    details.attempts.iter().map(|attempt| (attempt.report.attempt, attempt.process_id)).collect()
}

/// A running job, and what must be the same of it at the end.
struct Undisturbed {
    job: HeldJob,
    before: JobDetails,
}

impl Undisturbed {
    async fn start(cluster: &TestCluster) -> Result<Self> {
        let job = cluster.submit_held(Path::new(JOB), "sums", NUMBERS).await?;
        let before = cluster.until_flowing(job.job, 1_000).await?;
        Ok(Self { job, before })
    }

    async fn check(self, cluster: &TestCluster) -> Result<()> {
        self.job.go_on()?;
        let after = cluster.until_flowing(self.job.job, self.before.records_in + 1).await?;
        assert_eq!(placements(&after), placements(&self.before), "attempts or processes changed");
        assert_eq!(after.restarts, 0);
        let output = self.job.output.clone();
        let ended = self.job.release().await?;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(sorted_lines(&output)?, expected_sums(NUMBERS.count));
        Ok(())
    }
}

/// Runs the command line on a cluster.
fn tidemill(cluster: &TestCluster, arguments: &[&str]) -> Result<Output> {
    let program = Programs::find()?.coordinator.with_file_name("tidemill");
    let mut command = Command::new(&program);
    command.args(["--coordinators", &cluster.processes.addresses().join(",")]).args(arguments);
    command.output().with_context(|| format!("run {}", program.display()))
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// Runs a command that must do what it says.
fn done(cluster: &TestCluster, arguments: &[&str]) -> Result<String> {
    let output = tidemill(cluster, arguments)?;
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    Ok(text(&output.stdout))
}

/// Waits until every member answers and lacks nothing.
async fn until_caught_up(client: &JobClient, count: usize) -> Result<()> {
    until("every coordinator has caught up", || async {
        let members = client.members().await.ok()?;
        // Under load the last entries are always on their way.
        let caught_up = members.iter().all(|member| member.lag.is_some_and(|lag| lag <= 20) && member.node.voter);
        (members.len() == count && caught_up).then_some(())
    })
    .await
}

/// Waits until all coordinators that answer have applied the same, and compares their states.
async fn until_equal(client: &JobClient, count: usize) -> Result<()> {
    let statuses = until("equal applied indexes", || async {
        let members = client.members().await.ok()?;
        let statuses: Option<Vec<_>> = members.into_iter().map(|member| member.own.ok()).collect();
        let statuses = statuses.filter(|statuses| statuses.len() == count)?;
        statuses.iter().all(|status| status.applied_index == statuses[0].applied_index).then_some(statuses)
    })
    .await?;
    assert!(statuses.iter().all(|status| status.state_checksum == statuses[0].state_checksum), "{statuses:?}");
    Ok(())
}

#[tokio::test]
async fn a_cluster_grows_from_one_to_five_and_back_while_a_job_runs() -> Result<()> {
    let mut cluster = TestCluster::start(1, 2, 2, &[]).await?;
    let undisturbed = Undisturbed::start(&cluster).await?;
    let load = Load::start(cluster.client());
    for _ in 0..4 {
        let name = cluster.processes.start_another_coordinator().await?;
        let added = done(&cluster, &["cluster", "add", &cluster.processes.raft_address(name)?])?;
        assert!(added.contains(&format!("coordinator {name} ")) && added.contains("is a voter now"), "{added}");
    }
    until_caught_up(&cluster.client(), 5).await?;
    let listed = done(&cluster, &["cluster", "members", "--json"])?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    let members = listed["members"].as_array().context("a list")?;
    assert_eq!(members.iter().filter(|member| member["leader"] == true).count(), 1, "{listed}");
    // The leader of five is among those that go, wherever it is.
    done(&cluster, &["cluster", "transfer-leader", "coordinator-4"])?;
    for number in (2..=5).rev() {
        let name = ProcessName::Coordinator(number);
        done(&cluster, &["cluster", "remove", &name.to_string()])?;
        cluster.processes.stop_process(name).await?;
    }
    assert!(!load.stop().await?.is_empty());
    let listed = done(&cluster, &["cluster", "members"])?;
    assert!(listed.contains("coordinator-1") && !listed.contains("coordinator-2"), "{listed}");
    undisturbed.check(&cluster).await
}

#[tokio::test]
async fn a_rolling_restart_of_all_coordinators_leaves_a_job_untouched() -> Result<()> {
    let mut cluster = TestCluster::start(3, 2, 2, &[]).await?;
    let undisturbed = Undisturbed::start(&cluster).await?;
    let load = Load::start(cluster.client());
    let mut led = 0;
    for name in (1..=3).map(ProcessName::Coordinator) {
        let leads = cluster.leader().await? == name;
        cluster.processes.stop_process(name).await?;
        let log = std::fs::read_to_string(cluster.processes.log(name))?;
        // On a busy machine it may have lost its leadership before the signal reached it.
        led += usize::from(leads && log.contains("hand leadership over"));
        cluster.processes.start_process(name).await?;
        until_caught_up(&cluster.client(), 3).await?;
    }
    assert!(led > 0, "no leader was among those that were restarted");
    let accepted = load.stop().await?;
    let jobs = cluster.client().list_jobs().await?;
    assert!(accepted.iter().all(|id| jobs.iter().any(|job| job.id == *id)), "an accepted job is gone");
    until_equal(&cluster.client(), 3).await?;
    undisturbed.check(&cluster).await
}

#[tokio::test]
async fn a_new_member_gets_a_snapshot_while_writes_go_on() -> Result<()> {
    let mut cluster = TestCluster::start(1, 0, 1, &["coordinator.raft.snapshot-every=20"]).await?;
    let load = Load::start(cluster.client());
    // What it needs is not in the log any more, so that nothing but a snapshot helps.
    until("a snapshot that is far into the log", || async {
        metric(&cluster, ProcessName::Coordinator(1), "raft_snapshot_index").await.filter(|&index| index > 100)
    })
    .await?;
    let name = cluster.processes.start_another_coordinator().await?;
    done(&cluster, &["cluster", "add", &cluster.processes.raft_address(name)?])?;
    let installed = metric(&cluster, name, "raft_snapshot_index").await.context("it answers")?;
    assert!(installed > 0, "it came by snapshot");
    let accepted = load.stop().await?;
    assert!(accepted.len() > 100, "{}", accepted.len());
    until_equal(&cluster.client(), 2).await
}

#[tokio::test]
async fn a_wiped_coordinator_is_replaced_and_never_gets_its_old_number() -> Result<()> {
    let mut cluster = TestCluster::start(3, 2, 2, &[]).await?;
    let undisturbed = Undisturbed::start(&cluster).await?;
    let leader = cluster.leader().await?;
    let wiped = (1..=3).map(ProcessName::Coordinator).find(|name| *name != leader).context("a follower")?;
    let number = |members: &[tidemill::job_client::MemberStatus]| {
        members.iter().find(|member| member.node.name == wiped.to_string()).map(|member| member.node.id)
    };
    let old = number(&cluster.client().members().await?).context("it is listed")?;
    cluster.processes.kill(wiped).await?;
    std::fs::remove_dir_all(cluster.processes.process_dir(wiped))?;
    cluster.processes.start_process(wiped).await?;

    let address = cluster.processes.raft_address(wiped)?;
    let refused = tidemill(&cluster, &["cluster", "add", &address])?;
    assert_eq!(refused.status.code(), Some(1));
    let reason = text(&refused.stderr);
    assert!(reason.contains("has forgotten that member's votes") && reason.contains("replace"), "{reason}");
    done(&cluster, &["cluster", "replace", &wiped.to_string(), &address])?;
    let new = number(&cluster.client().members().await?).context("it is listed")?;
    assert_ne!(new, old);
    until_caught_up(&cluster.client(), 3).await?;
    undisturbed.check(&cluster).await
}

/// A number of a coordinator's `/metrics`.
async fn metric(cluster: &TestCluster, name: ProcessName, metric: &str) -> Option<u64> {
    let address = cluster.processes.http_address(name).ok()?;
    let text = tidemill_tests::http::get(&address, "/metrics").await.ok()?;
    let wanted = format!("tidemill_coordinator_{metric} ");
    text.lines().find_map(|line| line.strip_prefix(&wanted)).and_then(|value| value.trim().parse().ok())
}
