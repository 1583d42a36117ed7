//! A GET request, as an observer of a server's HTTP port sends it.

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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
