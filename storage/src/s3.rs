//! Buckets of S3, and of whatever speaks its protocol.
//!
//! Where the server is and who asks comes from the environment, by the variables of the AWS tools
//! (`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, ...): a job's settings are replicated, and secrets must not be.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::client::SpawnedReqwestConnector;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use tokio::runtime::{Builder, Runtime};

use super::location::Patience;

/// How long the server may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long one request may take, with all of its body.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// The first and the longest pause before a request that was refused for the moment is repeated. What a server that has
/// too much to do answers (503 `SlowDown`, 429) is one of these.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The threads that move bytes to and from all buckets: connections live as long as they do, whoever waits.
static TRANSFERS: OnceLock<Runtime> = OnceLock::new();

fn transfers() -> io::Result<&'static Runtime> {
    if let Some(runtime) = TRANSFERS.get() {
        return Ok(runtime);
    }
    // The only refusal is that somebody was faster.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("transfers").enable_all().build()?;
    Ok(TRANSFERS.get_or_init(|| runtime))
}

/// The store of a bucket.
///
/// # Errors
/// The environment does not say all that is needed, or contradicts itself.
pub(super) fn open(bucket: &str, patience: Patience) -> Result<Arc<dyn ObjectStore>, String> {
    open_as(std::env::vars(), bucket, patience)
}

/// The same, with this environment.
fn open_as(
    environment: impl Iterator<Item = (String, String)>,
    bucket: &str,
    patience: Patience,
) -> Result<Arc<dyn ObjectStore>, String> {
    let runtime = transfers().map_err(|error| error.to_string())?;
    let (tries, retry_timeout) = match patience {
        Patience::Long => (6, Duration::from_secs(20)),
        Patience::Short => (2, Duration::from_secs(3)),
    };
    let options =
        ClientOptions::new().with_connect_timeout(CONNECT_LIMIT).with_timeout(REQUEST_LIMIT).with_allow_http(true);
    let mut builder = AmazonS3Builder::new();
    for (name, value) in environment.filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty()) {
        // The tools have variables that mean nothing here.
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    let builder = builder
        .with_bucket_name(bucket)
        .with_client_options(options)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_retry(RetryConfig {
            backoff: BackoffConfig { init_backoff: BACKOFF.0, max_backoff: BACKOFF.1, base: 2.0 },
            max_retries: tries,
            retry_timeout,
        })
        .with_http_connector(SpawnedReqwestConnector::new(runtime.handle().clone()));
    builder.build().map(|store| Arc::new(store) as Arc<dyn ObjectStore>).map_err(|error| error.to_string())
}

/// Does something when nobody waits for it any more.
pub(super) fn in_background(future: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = transfers() {
        drop(runtime.spawn(future));
    }
}

#[cfg(test)]
mod tests;
