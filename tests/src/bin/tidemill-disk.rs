//! How much disk and time a coordinator's log, state and snapshots need: `make bench-disk`.
//!
//! Submits jobs that cannot be placed and cancels them, in one coordinator on a real disk, and reports what lies there;
//! then measures what so many jobs that stay cost a snapshot.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use futures::future::try_join_all;
use tidemill_coordinator::engine::replicated::{ClusterState, Command, CommandBody};
use tidemill_coordinator::runtime::clock::Clock;
use tidemill_coordinator::runtime::codec;
use tidemill_coordinator::runtime::server::{Coordinator, CoordinatorSettings};
use tidemill_model::config::{Configuration, Scope};
use tidemill_model::id::{LeaderEpoch, NodeId};
use tidemill_proto::pb;
use tidemill_proto::pb::client_client::ClientClient;
use tidemill_tests::load::waiting_job;
use tonic::transport::Endpoint;

/// How often the folder is looked at.
const POLL: Duration = Duration::from_millis(200);

/// What to measure.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many jobs are submitted and cancelled.
    #[arg(long, default_value_t = 100_000)]
    submissions: usize,
    /// How many clients do so at a time.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// How many jobs stay, for the snapshot.
    #[arg(long, default_value_t = 100_000)]
    jobs: usize,
    /// The coordinator's folder [default: a temporary one].
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    snapshots(arguments.jobs);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start runtime")?;
    runtime.block_on(disk(&arguments))
}

fn millis(duration: Duration) -> u128 {
    duration.as_millis()
}

/// The parts of a snapshot that others wait for, and those that they do not.
fn snapshots(jobs: usize) {
    let clock = Clock::default();
    let mut state = ClusterState::default();
    let started = CommandBody::LeaderStarted { node: NodeId(1), term: 1 };
    state.apply(1, 1, &Command { epoch: LeaderEpoch(0), stamp: clock.wall(), body: started });
    let begin = clock.now();
    for index in (2..).take(jobs) {
        let body = CommandBody::SubmitJob { spec: Box::new(waiting_job()) };
        state.apply(index, 1, &Command { epoch: LeaderEpoch(1), stamp: clock.wall(), body });
    }
    let applied = clock.now();
    let copy = state.clone();
    let cloned = clock.now();
    let bytes = codec::encode(&copy);
    let encoded = clock.now();
    let decoded: ClusterState = codec::decode("state", &bytes).expect("just encoded");
    let read = clock.now();
    assert_eq!(decoded.jobs.len(), jobs);
    let checksum = codec::checksum(&copy);
    let summed = clock.now();
    println!(
        "snapshot of {jobs} jobs: apply {} ms in all, copy (apply waits) {} ms, encode {} ms, {} MiB, decode {} ms, \
         checksum {} ms ({checksum:016x})",
        millis(applied.since(begin)),
        millis(cloned.since(applied)),
        millis(encoded.since(cloned)),
        bytes.len() >> 20,
        millis(read.since(encoded)),
        millis(summed.since(read)),
    );
}

async fn disk(arguments: &Arguments) -> Result<()> {
    let temporary = tempfile::tempdir().context("make a folder")?;
    let dir = arguments.dir.clone().unwrap_or_else(|| temporary.path().join("coordinator"));
    let overrides = ["client", "raft", "http"].map(|port| format!("coordinator.{port}.port=0"));
    let overrides: Vec<String> = overrides.into_iter().chain([format!("coordinator.dir={}", dir.display())]).collect();
    let configuration = Configuration::parse(Scope::Coordinator, [], &overrides).context("configure")?;
    let coordinator = Coordinator::start(CoordinatorSettings::new(&configuration, false)?).await?;
    let address = coordinator.node().own().client_address.clone();
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let mut client = ClientClient::new(channel.clone());
    client.init_cluster(pb::InitClusterRequest {}).await.context("make the cluster")?;
    let clock = Clock::default();
    let begin = clock.now();
    let each = arguments.submissions / arguments.clients.max(1);
    let clients = (0..arguments.clients).map(|_| submit(ClientClient::new(channel.clone()), each));
    let peak = AtomicU64::new(0);
    let watch = async {
        loop {
            tokio::time::sleep(POLL).await;
            peak.fetch_max(size(&dir), Ordering::Relaxed);
        }
    };
    tokio::select! {
        biased;
        done = try_join_all(clients) => drop(done?),
        () = watch => {}
    }
    let took = clock.now().since(begin);
    let status = client.cluster_status(pb::ClusterStatusRequest::default()).await?.into_inner();
    println!(
        "{} submissions and as many cancellations by {} clients in {:.1} s: {:.0} a second; log index {}; disk now {} MiB, \
         at its largest {} MiB",
        each * arguments.clients,
        arguments.clients,
        took.as_secs_f64(),
        2.0 * f64::from(u32::try_from(each * arguments.clients)?) / took.as_secs_f64(),
        status.last_log_index,
        size(&dir) >> 20,
        peak.load(Ordering::Relaxed) >> 20,
    );
    coordinator.stop().await;
    Ok(())
}

async fn submit(mut client: ClientClient<tonic::transport::Channel>, count: usize) -> Result<()> {
    for _ in 0..count {
        let spec = waiting_job();
        let id = pb::JobId::from(spec.id);
        // The first ones come before the leadership has begun.
        while let Err(status) = client.submit_job(pb::SubmitJobRequest { spec: Some(spec.clone().into()) }).await {
            anyhow::ensure!(status.code() == tonic::Code::Unavailable, "submit: {status}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        client.cancel_job(id).await.context("cancel")?;
    }
    Ok(())
}

/// Everything below a folder.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map_while(Result::ok);
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        // It has just been removed.
        Err(_) => 0,
    });
    sizes.sum()
}
