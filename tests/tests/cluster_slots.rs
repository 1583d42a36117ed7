//! Who shares a slot with whom: slot sharing groups of a program, as a real cluster places them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use tidemill::job_client::JobDetails;
use tidemill_tests::cluster::TestCluster;

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");

/// Vertices and sub-tasks.
type Tenants = BTreeSet<(u32, u32)>;

/// What each slot serves.
fn tenants(details: &JobDetails) -> Result<BTreeSet<Tenants>> {
    let mut tenants: BTreeMap<(String, u32), Tenants> = BTreeMap::new();
    for attempt in &details.attempts {
        let task_manager = attempt.task_manager.as_ref().context("it is placed")?.to_string();
        let vertex = attempt.report.attempt.vertex;
        let slot = (task_manager, attempt.slot.context("it has a slot")?);
        tenants.entry(slot).or_default().insert((vertex.vertex.0, vertex.subtask.0));
    }
    Ok(tenants.into_values().collect())
}

#[tokio::test]
async fn members_of_a_group_share_slots_and_groups_do_not() -> Result<()> {
    let cluster = TestCluster::start(1, 2, 2, &[]).await?;
    let submitted = cluster.submit(Path::new(JOB), &["groups", "-p", "2"]).await?;
    let details = cluster.until_flowing(submitted.job, 1).await?;
    // Vertex 0 is the source, 1 the sums, 2 the maps and the sink behind them.
    let expected = [[(0, 0), (1, 0)].into(), [(0, 1), (1, 1)].into(), [(2, 0)].into(), [(2, 1)].into()];
    assert_eq!(tenants(&details)?, BTreeSet::from(expected));
    cluster.client().cancel_job(submitted.job).await?;
    Ok(())
}

#[tokio::test]
async fn a_job_with_too_few_slots_waits_and_says_for_which_group() -> Result<()> {
    let cluster = TestCluster::start(1, 1, 3, &[]).await?;
    let submitted = cluster.submit(Path::new(JOB), &["groups", "-p", "2"]).await?;
    let told = |details: &JobDetails| details.waiting_reason.as_deref().is_some_and(|reason| reason.contains("heavy"));
    cluster.until_job(submitted.job, "the reason names the group", told).await?;
    cluster.client().cancel_job(submitted.job).await?;
    Ok(())
}
