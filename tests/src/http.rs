//! Requests to a server's HTTP port, as an observer sends them.

use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};
use tidemill::cli::local_cluster::ProcessName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::TestCluster;

/// What the server at `host:port` answers.
///
/// # Errors
///
/// When it does not answer.
pub async fn answer(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("dial {address}"))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.context("send request")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.context("read answer")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The body of an answer that says 200.
///
/// # Errors
///
/// When it says something else, or nothing.
pub async fn get(address: &str, path: &str) -> Result<String> {
    let answer = answer(address, path).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an HTTP answer")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    Ok(body.to_owned())
}

/// Tells a server's fail point what to do.
///
/// # Errors
///
/// When the server does not do it.
pub fn set_fail_point(cluster: &TestCluster, process: ProcessName, point: &str, action: &str) -> Result<()> {
    let address = cluster.processes.http_address(process)?;
    let mut stream = std::net::TcpStream::connect(&address).with_context(|| format!("connect to {process}"))?;
    let length = action.len();
    write!(
        stream,
        "PUT /failpoints/{point} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{action}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{process} {point}: {answer}");
    Ok(())
}
