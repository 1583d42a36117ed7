//! A cluster that writes down what it does shows a change of leader as it was.

use std::path::Path;

use anyhow::{Context, Result};
use tidemill_model::event::{Event, EventRecord, EventRole};
use tidemill_model::id::{LeaderEpoch, NodeId, TaskManagerId};
use tidemill_tests::cluster::{Numbers, TestCluster, until};

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
