//! Acknowledged submissions a second, beside puts of the same size to etcd on the same disk in the same run.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidemill_model::id::BlobId;
use tidemill_proto::pb;
use tokio::task::JoinSet;

use super::ControlBench;
use super::etcd::Etcd;
use super::figures::Figures;
use super::jobs;
use crate::demo::now;

/// How many clients at once, and how many calls each makes in one repetition.
const LOADS: [(usize, usize); 2] = [(1, 100), (64, 16)];

/// How often a repetition may be begun again because the leader changed under it.
const DISTURBANCES_MAX: usize = 20;

/// The repetitions of one load.
#[derive(Default)]
struct Measured {
    per_second: Figures,
    latency_p50: Figures,
    latency_p99: Figures,
}

impl Measured {
    fn add(&mut self, latencies: &[Duration], took: Duration) {
        let mut figures = Figures::default();
        latencies.iter().for_each(|latency| figures.add(latency.as_secs_f64() * 1e3));
        self.per_second.add(latencies.len() as f64 / took.as_secs_f64());
        self.latency_p50.add(figures.median());
        self.latency_p99.add(figures.quantile(0.99));
    }

    fn print(&self, what: &str, clients: usize) {
        let Self { per_second, latency_p50, latency_p99 } = self;
        println!("{what}, {clients} clients: {per_second} /s; latency p50 {latency_p50} ms, p99 {latency_p99} ms");
    }
}

pub(super) async fn measure(bench: &ControlBench) -> Result<String> {
    let mut cluster = bench.cluster("submissions", 0, &[]).await?;
    let etcd = Etcd::start(&bench.fresh("etcd")?).await?;
    if etcd.is_none() {
        println!("etcd: SKIPPED (not installed: apt-get install etcd-server)");
    }
    let artifact = jobs::artifact(&cluster).await?;
    let size = prost::Message::encoded_len(&pb::JobSpec::from(jobs::job(artifact, 2)));
    println!("one submission has {size} bytes");
    let mut summary = Vec::new();
    for (clients, calls) in LOADS {
        let (mut ours, mut theirs) = (Measured::default(), Measured::default());
        let mut disturbances = 0;
        while ours.per_second.count() < bench.repetitions {
            if let Err(error) = repetition(&cluster.addresses(), artifact, clients, calls, &mut ours).await {
                // On a machine that others saturate, leaders change; what was measured across a change is left out.
                disturbances += 1;
                ensure!(disturbances <= DISTURBANCES_MAX, "the leader changes all the time: {error:#}");
                println!("a repetition is begun again: {error:#}");
                continue;
            }
            if let Some(etcd) = &etcd {
                let (latencies, took) = put(etcd, size, clients, calls).await?;
                theirs.add(&latencies, took);
            }
        }
        ours.print("submissions", clients);
        let mut line = format!("{clients} clients {} submissions/s", ours.per_second);
        if etcd.is_some() {
            theirs.print("etcd puts", clients);
            line += &format!(", etcd {} puts/s", theirs.per_second);
        }
        summary.push(line);
    }
    cluster.stop().await?;
    Ok(summary.join("; "))
}

/// Submits, keeps the figures, and ends the jobs again.
async fn repetition(
    addresses: &[String],
    artifact: BlobId,
    clients: usize,
    calls: usize,
    measured: &mut Measured,
) -> Result<()> {
    let leader = &addresses[jobs::leader(addresses).await?.0];
    let (latencies, took) = submit(leader, artifact, clients, calls).await?;
    jobs::cancel_all(leader).await?;
    measured.add(&latencies, took);
    Ok(())
}

/// Jobs that nobody can place: there is no task manager.
async fn submit(leader: &str, artifact: BlobId, clients: usize, calls: usize) -> Result<(Vec<Duration>, Duration)> {
    let mut stubs = Vec::new();
    for _ in 0..clients {
        let mut stub = jobs::stub(leader)?;
        // The connection is there before the clock runs.
        stub.has_blob(pb::BlobId { id: artifact.0.to_vec().into() }).await.context("connect")?;
        stubs.push(stub);
    }
    all(stubs, calls, move |mut stub| async move {
        jobs::submit(&mut stub, jobs::job(artifact, 2)).await?;
        Ok(stub)
    })
    .await
}

async fn put(etcd: &Etcd, size: usize, clients: usize, calls: usize) -> Result<(Vec<Duration>, Duration)> {
    let mut connected = Vec::new();
    for _ in 0..clients {
        let mut client = etcd.client()?;
        client.put(b"connect".to_vec(), Vec::new()).await.context("connect to etcd")?;
        connected.push(client);
    }
    all(connected, calls, move |mut client| async move {
        let key = uuid::Uuid::now_v7().into_bytes().to_vec();
        client.put(key, vec![7; size]).await?;
        Ok(client)
    })
    .await
}

/// Has every client make so many calls, one after the other; the latencies of all and the time of the whole.
async fn all<C, F>(
    clients: Vec<C>,
    calls: usize,
    call: impl Fn(C) -> F + Clone + Send + 'static,
) -> Result<(Vec<Duration>, Duration)>
where
    C: Send + 'static,
    F: Future<Output = Result<C, tonic::Status>> + Send,
{
    let begun = now();
    let mut running = JoinSet::new();
    for mut client in clients {
        let call = call.clone();
        running.spawn(async move {
            let mut latencies = Vec::with_capacity(calls);
            for _ in 0..calls {
                let asked = now();
                client = call(client).await?;
                latencies.push(now().duration_since(asked));
            }
            Ok::<_, tonic::Status>(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(ended) = running.join_next().await {
        latencies.extend(ended??);
    }
    Ok((latencies, now().duration_since(begun)))
}
