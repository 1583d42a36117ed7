//! From the death of a leader to the adoption of every task of a thousand jobs.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidemill::cli::local_cluster::ProcessName;
use tidemill_model::event::Event;
use tidemill_model::id::JobId;

use super::ControlBench;
use super::agents::Agents;
use super::events::{EventTail, monotonic_ns};
use super::figures::Figures;
use super::jobs;
use crate::cluster::until;

/// Task managers.
const AGENTS: u32 = 50;
/// Slots of a job; its tasks are twice as many.
const PARALLELISM: u32 = 5;
/// Clients that submit at once.
const CLIENTS: usize = 32;
/// Far longer than a takeover takes.
const LIMIT: Duration = Duration::from_secs(120);

pub(super) async fn measure(bench: &ControlBench) -> Result<String> {
    let dir = bench.fresh("takeover-events")?;
    let mut cluster = bench.cluster("takeover", 0, &[format!("events.dir={}", dir.display())]).await?;
    let slots = (bench.jobs * PARALLELISM).div_ceil(AGENTS) + PARALLELISM;
    let agents = Agents::start(AGENTS, slots, &cluster.addresses());
    let tasks = u64::from(bench.jobs * PARALLELISM * 2);
    start_jobs(bench, &cluster).await?;
    until("every task is deployed", || async {
        (agents.counts.deployed.load(Ordering::Relaxed) == tasks).then_some(())
    })
    .await?;
    println!("{} jobs with {tasks} tasks run on {AGENTS} agents", bench.jobs);
    let mut events = EventTail::of(dir);
    let mut figures = Figures::default();
    for number in 1..=bench.repetitions {
        let (victim, epoch) = jobs::leader(&cluster.addresses()).await?;
        let name = ProcessName::Coordinator(u32::try_from(victim)? + 1);
        let killed = monotonic_ns();
        cluster.kill(name).await?;
        let adopted = all_adopted(&mut events, epoch, bench.jobs).await?;
        let took = (adopted.saturating_sub(killed)) as f64 / 1e6;
        let (deployed, stopped) = (&agents.counts.deployed, &agents.counts.stopped);
        let (deployed, stopped) = (deployed.load(Ordering::Relaxed), stopped.load(Ordering::Relaxed));
        ensure!((deployed, stopped) == (tasks, 0), "{deployed} attempts were started, {stopped} stopped");
        println!("kill {number} ({name}): all {tasks} tasks adopted after {took:.0} ms, none restarted");
        figures.add(took);
        cluster.start_process(name).await?;
        cluster.wait_for_leader().await?;
    }
    cluster.stop().await?;
    let (jobs, count) = (bench.jobs, figures.count());
    println!("leader kill -> {tasks} tasks of {jobs} jobs adopted: {figures} ms, 0 restarted, {count} kills");
    Ok(format!("{jobs} jobs {tasks} tasks adopted {figures} ms, 0 restarted"))
}

async fn start_jobs(bench: &ControlBench, cluster: &tidemill::cli::local_cluster::LocalCluster) -> Result<()> {
    let artifact = jobs::artifact(cluster).await?;
    let addresses = cluster.addresses();
    let stub = jobs::stub(&addresses[jobs::leader(&addresses).await?.0])?;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..bench.jobs {
        if calls.len() >= CLIENTS {
            calls.join_next().await.context("a call")???;
        }
        let mut stub = stub.clone();
        calls.spawn(async move { jobs::submit(&mut stub, jobs::job(artifact, PARALLELISM)).await });
    }
    while let Some(ended) = calls.join_next().await {
        ended??;
    }
    Ok(())
}

/// When the last of the jobs was recorded as taken over by one leadership after `epoch`.
async fn all_adopted(events: &mut EventTail, epoch: u64, jobs: u32) -> Result<u64> {
    let wait = async {
        let mut newest = epoch;
        let mut seen: BTreeSet<JobId> = BTreeSet::new();
        loop {
            for record in events.read()? {
                let Event::ProposalApplied { term, kind, job: Some(job), effective: true, .. } = record.event else {
                    continue;
                };
                if kind != "RecordTakeover" || term.0 < newest || term.0 == epoch {
                    continue;
                }
                if term.0 > newest {
                    // Another leader after the next one: it begins again.
                    newest = term.0;
                    seen.clear();
                }
                seen.insert(job);
                if seen.len() == usize::try_from(jobs)? {
                    return Ok(record.mono_ns);
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.context("not all jobs were taken over")?
}
