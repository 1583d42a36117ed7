//! The operators over TCP: a job with most of them on two task managers against the same job in one process.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use tidemill::cli::local_cluster::ProcessName;
use tidemill_tests::cluster::{TestCluster, sorted_lines};

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");

#[tokio::test]
async fn every_operator_gives_on_a_cluster_what_it_gives_in_one_process() -> Result<()> {
    let cluster = TestCluster::start(1, 2, 2, &[]).await?;
    let (here, there) = (cluster.path("here"), cluster.path("there"));
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a UTF-8 path");
    let embedded = Command::new(JOB).args(["operators", "5000", &text(&here)?, "-p", "4"]).output()?;
    assert!(embedded.status.success(), "{}", String::from_utf8_lossy(&embedded.stderr));
    let here = sorted_lines(&here)?;
    assert!(here.iter().any(|line| line.starts_with("join (")) && here.len() > 30_000, "{} lines", here.len());
    for backend in ["heap", "rocksdb"] {
        let (output, setting) = (text(&there.join(backend))?, format!("state.backend.type={backend}"));
        let arguments = ["operators", "5000", &output, "-p", "4", "-D", &setting];
        let ended = cluster.submit(Path::new(JOB), &arguments).await?.wait().await?;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let there = sorted_lines(Path::new(&output))?;
        let differs = here.iter().zip(&there).find(|(here, there)| here != there);
        assert!(
            differs.is_none() && here.len() == there.len(),
            "{differs:?}, {} and {} lines",
            here.len(),
            there.len()
        );
    }
    Ok(())
}

#[tokio::test]
async fn records_that_cannot_travel_name_their_type_and_their_channel() -> Result<()> {
    let settings = ["restart-strategy.type=none"];
    let cluster = TestCluster::start(1, 2, 1, &settings).await?;
    for (number, reason) in [("1", "odd numbers are not written"), ("2", "2 modulo 4 is not read")] {
        let arguments = ["moody", number, "-p", "2", "-D", settings[0]];
        let ended = cluster.submit(Path::new(JOB), &arguments).await?.wait().await?;
        assert_eq!(ended.code, Some(1));
        assert!(ended.stderr.contains(reason) && ended.stderr.contains("Moody"), "{}", ended.stderr);
        assert!(ended.stderr.contains("on channel e0["), "{}", ended.stderr);
        assert!(ended.stderr.contains("to \"Reader"), "{}", ended.stderr);
    }
    let metrics = [1, 2].map(|number| metrics(&cluster, ProcessName::TaskManager(number)));
    let metrics = metrics.into_iter().collect::<Result<String>>()?;
    for kind in ["invalid input", "data connection lost"] {
        let count = format!("tidemill_taskmanager_attempts_failed_total{{kind=\"{kind}\"}}");
        assert!(metrics.contains(&count), "{count} in\n{metrics}");
    }
    Ok(())
}

fn metrics(cluster: &TestCluster, process: ProcessName) -> Result<String> {
    let mut socket = TcpStream::connect(cluster.processes.http_address(process)?)?;
    socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}
