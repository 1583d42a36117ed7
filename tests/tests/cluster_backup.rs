//! The worst day: a backup restored into a new cluster, and a new cluster out of the last survivor.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result};
use tidemill::cli::local_cluster::{ProcessName, Programs};
use tidemill_model::id::{JobId, LeaderEpoch};
use tidemill_model::job::JobStatus;
use tidemill_tests::cluster::{Numbers, TestCluster, expected_sums, sorted_lines, until};
use tidemill_tests::load::waiting_job;

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");
const NUMBERS: Numbers = Numbers { count: 20_000, rate: 40_000, parallelism: 1 };

fn tidemill(arguments: &[&str]) -> Result<Output> {
    let program = Programs::find()?.coordinator.with_file_name("tidemill");
    Command::new(&program).args(arguments).output().with_context(|| format!("run {}", program.display()))
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// The sentence that a report asks for.
fn phrase(report: &Output) -> Result<String> {
    let text = text(&report.stderr);
    let (_, rest) = text.split_once("--confirm \"").with_context(|| format!("a phrase in {text}"))?;
    Ok(rest.split('"').next().unwrap_or_default().to_owned())
}

async fn epoch(cluster: &TestCluster) -> Result<LeaderEpoch> {
    cluster.leader_status().await?.epoch.context("a leader has an epoch")
}

async fn knows(cluster: &TestCluster, job: JobId) -> Result<bool> {
    let jobs = until("an answer", || async { cluster.client().list_jobs().await.ok() }).await?;
    Ok(jobs.iter().any(|summary| summary.id == job))
}

#[tokio::test]
async fn a_backup_is_restored_into_a_cluster_that_the_old_one_cannot_disturb() -> Result<()> {
    let mut old = TestCluster::start(1, 1, 1, &[]).await?;
    let held = old.submit_held(Path::new(JOB), "sums", NUMBERS).await?;
    old.until_flowing(held.job, 1).await?;
    let file = old.path("backup");
    let path = file.to_str().context("a UTF-8 path")?;
    let backed_up =
        tidemill(&["admin", "backup", path, "--coordinators", &old.processes.addresses().join(","), "--json"])?;
    assert!(backed_up.status.success(), "{}", text(&backed_up.stderr));
    let summary: serde_json::Value = serde_json::from_str(&text(&backed_up.stdout))?;
    assert_eq!((&summary["jobs"], &summary["blobs"]), (&1.into(), &1.into()), "{summary}");
    let later = waiting_job();
    old.client().submit_job(&later).await?;
    let before = epoch(&old).await?;
    let coordinator = ProcessName::Coordinator(1);
    let address = old.processes.addresses()[0].clone();
    let raft = old.processes.raft_address(coordinator)?;
    old.processes.kill(coordinator).await?;

    // The machine is new: an empty directory behind the old addresses.
    let dir = old.processes.process_dir(coordinator);
    std::fs::remove_dir_all(&dir)?;
    let dir = dir.to_str().context("a UTF-8 path")?;
    let common =
        ["admin", "restore", path, "--dir", dir, "--name", "coordinator-1", "--raft", &raft, "--client", &address];
    let unconfirmed = tidemill(&[&common[..], &["--confirm", "yes"]].concat())?;
    assert!(!unconfirmed.status.success(), "a restore needs its sentence");
    let report = text(&unconfirmed.stdout);
    assert!(report.contains("Lost: everything that was decided after") && report.contains("Repeated:"), "{report}");
    let confirmed = tidemill(&[&common[..], &["--confirm", &phrase(&unconfirmed)?]].concat())?;
    assert!(confirmed.status.success(), "{}", text(&confirmed.stderr));
    let again = tidemill(&[&common[..], &["--confirm", "x"]].concat())?;
    assert!(text(&again.stderr).contains("is a member of cluster"), "a restored directory is not empty");

    old.processes.start_process(coordinator).await?;
    // Before the leadership has begun, the newest epoch is that of the backup.
    until("an epoch far beyond any that was seen", || async {
        epoch(&old).await.ok().filter(|after| after.0 > before.0 + 1_000_000)
    })
    .await?;
    assert!(knows(&old, held.job).await? && !knows(&old, later.id).await?);
    // The old cluster's task manager is refused until it is started again; then the job runs from its beginning.
    let task_manager = ProcessName::TaskManager(1);
    until("the task manager's refusal", || async {
        let log = std::fs::read_to_string(old.processes.log(task_manager)).ok()?;
        log.contains("the task manager belongs to cluster").then_some(())
    })
    .await?;
    old.processes.kill(task_manager).await?;
    old.processes.start_process(task_manager).await?;
    let (job, output) = (held.job, held.output.clone());
    held.go_on()?;
    drop(held.release().await);
    old.until_job(job, "the job has finished", |job| matches!(job.status, JobStatus::Finished(_))).await?;
    assert_eq!(sorted_lines(&output)?, expected_sums(NUMBERS.count));
    Ok(())
}

#[tokio::test]
async fn the_last_survivor_of_a_lost_quorum_begins_a_new_cluster() -> Result<()> {
    let mut cluster = TestCluster::start(3, 0, 1, &[]).await?;
    let known = waiting_job();
    cluster.client().submit_job(&known).await?;
    let before = epoch(&cluster).await?;
    let names: Vec<_> = (1..=3).map(ProcessName::Coordinator).collect();
    let client = cluster.client();
    until("all have the job", || async {
        let members = client.members().await.ok()?;
        members.iter().all(|member| member.lag == Some(0)).then_some(())
    })
    .await?;
    for &name in &names {
        cluster.processes.kill(name).await?;
    }
    let survivor = names[1];
    let dir = cluster.processes.process_dir(survivor);
    let dir = dir.to_str().context("a UTF-8 path")?;
    let described = tidemill(&["admin", "recover", "--dir", dir])?;
    let report = text(&described.stdout);
    assert!(
        report.contains("Lost: whatever the other coordinators (coordinator-1 (node 1), coordinator-3 (node 3))"),
        "{report}"
    );
    assert!(report.contains("give --force-new-cluster") && report.contains(&known.id.to_string()), "{report}");
    let refused = tidemill(&["admin", "recover", "--dir", dir, "--force-new-cluster", "--confirm", "sure"])?;
    assert!(!refused.status.success(), "a recovery needs its sentence");
    let confirm = phrase(&refused)?;
    let done = tidemill(&["admin", "recover", "--dir", dir, "--force-new-cluster", "--confirm", &confirm])?;
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("the old log is kept in"), "{}", text(&done.stdout));

    // All three start: the old ones have no majority of the old cluster, and are no part of the new one.
    for &name in &names {
        cluster.processes.start_process(name).await?;
    }
    let client = cluster.client();
    let leader = until("the survivor leads", || async {
        let status = client.leader_status().await.ok()?;
        let begun = status.epoch.is_some_and(|after| after.0 > before.0 + 1_000_000);
        (status.leader()?.name == survivor.to_string() && begun).then_some(status)
    })
    .await?;
    assert_eq!(leader.nodes.len(), 1, "{leader:?}");
    let survivors_address = leader.nodes[0].client_address.clone();
    let client = tidemill::job_client::JobClient::new(vec![survivors_address]);
    assert!(client.list_jobs().await?.iter().any(|job| job.id == known.id), "what the survivor had is kept");
    client.submit_job(&waiting_job()).await?;

    // An emptied one joins the new cluster like any other.
    let emptied = names[0];
    cluster.processes.kill(emptied).await?;
    let stray = client.add_member(&cluster.processes.raft_address(names[2])?).await;
    assert!(stray.is_err_and(|error| error.to_string().contains("give it an empty directory")));
    std::fs::remove_dir_all(cluster.processes.process_dir(emptied))?;
    cluster.processes.start_process(emptied).await?;
    let added = client.add_member(&cluster.processes.raft_address(emptied)?).await?;
    assert_eq!(added.nodes.len(), 2);
    Ok(())
}
