//! A cluster that writes down what it does shows a change of leader as it was.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use tidemill_model::event::{Event, EventRecord, EventRole};
use tidemill_model::id::{LeaderEpoch, NodeId, TaskManagerId};
use tidemill_tests::cluster::{Numbers, TestCluster, until};
use tidemill_tests::orders_cluster::{OrdersCluster, kill_process};

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");
const NUMBERS: Numbers = Numbers { count: 400_000, rate: 40_000, parallelism: 2 };

/// Everything that was written so far, in the order of the machine's clock.
fn records(dir: &Path) -> Result<Vec<EventRecord>> {
    let mut records = Vec::new();
    for entry in std::fs::read_dir(dir).context("the folder of events")? {
        let text = std::fs::read_to_string(entry?.path())?;
        // The last line may be under way.
        let complete = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        for line in complete {
            records.push(EventRecord::parse(line)?);
        }
    }
    records.sort_by_key(|record| record.mono_ns);
    Ok(records)
}

fn leaderships(records: &[EventRecord]) -> Vec<(LeaderEpoch, u64, NodeId)> {
    let leader = |record: &EventRecord| {
        let Event::LeaderStart { term, raft_term, node } = record.event else { return None };
        Some((term, raft_term, node))
    };
    records.iter().filter_map(leader).collect()
}

fn registered(records: &[EventRecord], epoch: LeaderEpoch) -> Vec<TaskManagerId> {
    let registered = |record: &EventRecord| {
        let Event::TmRegister { leader_term, task_manager } = record.event else { return None };
        (leader_term == epoch).then_some(task_manager)
    };
    records.iter().filter_map(registered).collect()
}

fn starts_and_stops(records: &[EventRecord]) -> (usize, usize) {
    let starts = records.iter().filter(|record| matches!(record.event, Event::TaskStart { .. })).count();
    let stops = records.iter().filter(|record| matches!(record.event, Event::TaskStop { .. })).count();
    (starts, stops)
}

#[tokio::test]
async fn a_killed_leader_is_followed_by_one_of_a_higher_epoch_with_which_all_task_managers_register() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let dir = folder.path().join("events");
    let option = format!("events.dir={}", dir.display());
    let mut cluster = TestCluster::start(3, 2, 1, &[&option]).await?;
    let job = cluster.submit_held(Path::new(JOB), "sums", NUMBERS).await?;
    cluster.until_flowing(job.job, 1_000).await?;
    let old = cluster.leader_status().await?.epoch.context("an epoch")?;
    cluster.processes.kill(cluster.leader().await?).await?;
    let new = until("both task managers register with a later leader", || async {
        let records = records(&dir).ok()?;
        let (last, _, _) = *leaderships(&records).last()?;
        (last > old && registered(&records, last).len() == 2).then_some(last)
    })
    .await?;
    let at_takeover = records(&dir)?;
    assert_eq!(starts_and_stops(&at_takeover), (4, 0), "no task was disturbed");
    let id = job.job;
    assert_eq!(job.release().await?.code, Some(0));
    let records = until("all tasks have stopped", || async {
        records(&dir).ok().filter(|records| starts_and_stops(records) == (4, 4))
    })
    .await?;

    let leaderships = leaderships(&records);
    assert!(leaderships.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1), "{leaderships:?}");
    let accepted = records.iter().filter_map(|record| {
        let Event::RpcAccept { call } = &record.event else { return None };
        Some((call.kind.as_str(), call.term, call.job))
    });
    let accepted: Vec<_> = accepted.collect();
    assert!(accepted.iter().any(|&(kind, _, job)| kind == "deploy" && job == Some(id)), "{accepted:?}");
    assert!(accepted.iter().any(|&(kind, term, job)| kind == "commit" && job == Some(id) && term >= new));
    assert!(records.iter().any(|record| matches!(&record.event, Event::SinkCommit { job, .. } if *job == id)));
    // Each replica that lives has applied the end of the job, and as the same entry.
    let ends = records.iter().filter_map(|record| {
        let Event::ProposalApplied { kind, index, job, effective: true, .. } = &record.event else { return None };
        (kind == "EndJob" && *job == Some(id)).then_some(*index)
    });
    let ends: Vec<u64> = ends.collect();
    assert!(!ends.is_empty() && ends.iter().all(|index| *index == ends[0]), "{ends:?}");
    let roles = |role| records.iter().filter(|record| record.process.role == role).count();
    assert!(roles(EventRole::Coordinator) > 0 && roles(EventRole::TaskManager) > 0);
    Ok(())
}

#[tokio::test]
async fn a_restore_shows_which_acknowledged_state_it_uses_and_a_commit_which_checkpoint_allows_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let dir = folder.path().join("events");
    let cluster = TestCluster::start(1, 1, 2, &[&format!("events.dir={}", dir.display())]).await?;
    let orders = OrdersCluster::new(cluster, JOB, 1, 20_000)?;
    let submitted = orders.submit("out", 2, &[]).await?;
    let before = orders.until_checkpoint(submitted.job, None).await?;
    kill_process(before.attempts[0].process_id.context("an executor")?)?;
    let after = orders.until_checkpoint(submitted.job, before.latest_checkpoint).await?;
    assert!(after.restored_checkpoint >= before.latest_checkpoint, "{after:?}");
    orders.release()?;
    orders.check_result(submitted, "out").await?;

    let (mut acknowledged, mut completed, mut restored, mut committed) = (BTreeMap::new(), Vec::new(), 0, 0);
    for record in records(&dir)? {
        if let Event::CkptAck { attempt, id, state_sha } = record.event {
            acknowledged.insert((id, attempt.vertex, attempt.subtask), state_sha.context("a hash")?);
        } else if let Event::CkptComplete { id, manifest_sha, .. } = record.event {
            assert!(completed.last().is_none_or(|last| *last < id), "{completed:?}, then {id}");
            assert!(manifest_sha.is_some());
            completed.push(id);
        } else if let Event::Restore { attempt, ckpt, state_sha } = record.event {
            assert_eq!(completed.last(), Some(&ckpt), "a restore uses the newest");
            assert_eq!(acknowledged.get(&(ckpt, attempt.vertex, attempt.subtask)), state_sha.as_ref());
            restored += 1;
        } else if let Event::SinkCommit { ckpt: Some(id), .. } = record.event {
            assert!(completed.contains(&id), "checkpoint {id} is committed before it is completed: {completed:?}");
            committed += 1;
        }
    }
    assert!(restored > 0 && committed > 0, "{restored} restored, {committed} committed");
    Ok(())
}
