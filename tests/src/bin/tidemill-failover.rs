//! Measures how long a cluster takes from the death of its leader to the next acknowledged write.

use anyhow::{Context, Result};
use clap::Parser;
use tidemill::cli::local_cluster::{LocalCluster, LocalClusterSpec, Programs};
use tidemill_tests::demo::{first_write, now};

/// Kills the leader of three idle coordinators with SIGKILL again and again, and prints the time to the first write
/// that any survivor acknowledges; the killed one returns before the next kill.
#[derive(Parser)]
struct Arguments {
    /// How often.
    #[arg(long, default_value_t = 10)]
    kills: usize,
    /// `key=value` options for the coordinators, such as coordinator.raft.election-timeout-max=300ms.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let dir = tempfile::tempdir()?;
    let mut cluster = LocalCluster::start(LocalClusterSpec {
        dir: dir.path().join("cluster"),
        coordinators: Some(3),
        task_managers: Some(0),
        slots: Some(1),
        settings: arguments.settings,
        programs: Programs::find()?,
        kill_on_drop: true,
    })
    .await?;
    let mut milliseconds = Vec::new();
    for kill in 1..=arguments.kills {
        let leader = cluster.wait_for_leader().await?;
        // A write that is acknowledged now shows that the cluster is well before the kill.
        first_write(&cluster.addresses(), now()).await?;
        let address = leader_address(&cluster).await?;
        let survivors: Vec<String> = cluster.addresses().into_iter().filter(|other| *other != address).collect();
        let killed = now();
        cluster.kill(leader).await?;
        let took = first_write(&survivors, killed).await?.as_secs_f64() * 1e3;
        println!("kill {kill} ({leader}): {took:.0} ms");
        milliseconds.push(took);
        cluster.start_process(leader).await?;
    }
    cluster.stop().await?;
    milliseconds.sort_by(f64::total_cmp);
    let median = milliseconds.get(milliseconds.len() / 2).context("at least one kill")?;
    let (min, max) = (milliseconds.first().context("one")?, milliseconds.last().context("one")?);
    println!("leader kill -> first acknowledged write: min {min:.0} ms, median {median:.0} ms, max {max:.0} ms");
    Ok(())
}

async fn leader_address(cluster: &LocalCluster) -> Result<String> {
    let status = cluster.client().leader_status().await?;
    Ok(status.leader().context("the leader names itself")?.client_address.clone())
}
