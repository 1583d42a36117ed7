//! The artifact cache: fetches executables from the coordinators, and lets nothing in that is not what it should be.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tidemill_model::execution::{Failure, FailureKind};
use tidemill_model::id::BlobId;
use tidemill_proto::{convert, pb};
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::{info, warn};

use super::backoff::Backoff;
use super::coordinators::Coordinators;
use super::directory::Directory;
use crate::engine::Event;

/// How often all coordinators are asked while some of them answer that they do not have it: an accepted job's
/// artifact is on a majority of them, so more rounds than a repair between them takes.
const ROUNDS_WITHOUT_IT: u32 = 10;

const BACKOFF_INITIAL: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The part of an ELF header that says what it is for.
const ELF_HEADER_BYTES: usize = 20;

/// Why one coordinator's copy is not in the cache.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("fetch artifact from {address}: {reason}")]
    Unreachable { address: String, reason: String },
    #[error("fetch artifact from {address}: it has no such blob")]
    Absent { address: String },
    #[error("fetch artifact from {address}: what it sent has hash {actual}; its copy is damaged")]
    WrongHash { address: String, actual: BlobId },
    #[error("store artifact: {0}; is taskmanager.dir full or read-only?")]
    Disk(#[from] io::Error),
}

/// The cache, and what is known of its files.
#[derive(Debug)]
pub(crate) struct Artifacts {
    coordinators: Arc<Coordinators>,
    directory: Arc<Directory>,
    /// Hashed since this process started: a restart of a job need not wait for that again.
    verified: Mutex<BTreeSet<BlobId>>,
}

impl Artifacts {
    pub(crate) fn new(coordinators: Arc<Coordinators>, directory: Arc<Directory>) -> Self {
        Self { coordinators, directory, verified: Mutex::default() }
    }

    /// Puts the artifact into the cache, unless it is there already; the event that says how that went.
    pub(crate) async fn fetch(self: Arc<Self>, artifact: BlobId) -> Event {
        let path = self.directory.artifact(artifact);
        let known = self.verified().contains(&artifact);
        if known && fs::try_exists(&path).await.unwrap_or(false) {
            return Event::ArtifactReady { artifact };
        }
        match cached_or_fetched(artifact, &self.coordinators, &self.directory).await {
            Ok(()) => match check_executable(&path).await {
                Ok(()) => {
                    self.verified().insert(artifact);
                    Event::ArtifactReady { artifact }
                }
                Err(reason) => failed(artifact, FailureKind::InvalidArtifact, &reason),
            },
            Err(error @ Error::WrongHash { .. }) => failed(artifact, FailureKind::InvalidArtifact, &error.to_string()),
            Err(error) => failed(artifact, FailureKind::Io, &error.to_string()),
        }
    }

    fn verified(&self) -> MutexGuard<'_, BTreeSet<BlobId>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(artifact: BlobId, kind: FailureKind, reason: &str) -> Event {
    let message = format!("artifact {artifact}: {reason}");
    Event::ArtifactFailed { artifact, failure: Failure { kind, vertex: None, operator: None, message } }
}

async fn cached_or_fetched(artifact: BlobId, coordinators: &Coordinators, directory: &Directory) -> Result<(), Error> {
    if is_cached(artifact, &directory.artifact(artifact)).await {
        return Ok(());
    }
    let mut backoff = Backoff::new(BACKOFF_INITIAL, BACKOFF_MAX);
    let mut rounds = 0;
    loop {
        let mut answered = None;
        for address in coordinators.leader_first() {
            match fetch_from(artifact, &address, coordinators, directory).await {
                Ok(()) => {
                    info!(%artifact, %address, "artifact fetched");
                    return Ok(());
                }
                Err(error @ Error::Disk(_)) => return Err(error),
                Err(error @ Error::Unreachable { .. }) => warn!("{error}"),
                Err(error @ (Error::Absent { .. } | Error::WrongHash { .. })) => {
                    warn!("{error}");
                    answered = Some(error);
                }
            }
        }
        // While nobody answers, there is no one to report a failure to either: waiting costs nothing.
        if let Some(error) = answered {
            rounds += 1;
            if rounds == ROUNDS_WITHOUT_IT {
                return Err(error);
            }
        }
        backoff.pause().await;
    }
}

/// Whether the whole, right file lies there: a disk may have damaged what an earlier incarnation left.
async fn is_cached(artifact: BlobId, path: &Path) -> bool {
    let hash = async {
        let mut file = File::open(path).await?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).await? {
                0 => return io::Result::Ok(BlobId(hasher.finalize().into())),
                read => hasher.update(&buffer[..read]),
            }
        }
    };
    hash.await.is_ok_and(|hash| hash == artifact)
}

async fn fetch_from(
    artifact: BlobId,
    address: &str,
    coordinators: &Coordinators,
    directory: &Directory,
) -> Result<(), Error> {
    let unreachable = |reason: String| Error::Unreachable { address: address.to_owned(), reason };
    let refused = |status: tonic::Status| {
        let kind = convert::error_detail(&status).map(|detail| detail.kind());
        match kind {
            Some(pb::ErrorKind::NotFound) => Error::Absent { address: address.to_owned() },
            _ if status.code() == tonic::Code::NotFound => Error::Absent { address: address.to_owned() },
            _ => unreachable(status.to_string()),
        }
    };
    let mut client = coordinators.client(address).map_err(|error| unreachable(error.to_string()))?;
    let request = pb::BlobId::from(artifact);
    let mut chunks = client.get_blob(request).await.map_err(refused)?.into_inner();
    // One fetch of an artifact runs at a time, so the name needs to be no more unique.
    let path = directory.incoming().join(artifact.to_string());
    let mut file = File::create(&path).await?;
    let mut hasher = Sha256::new();
    while let Some(chunk) = chunks.message().await.map_err(refused)? {
        hasher.update(&chunk.data);
        file.write_all(&chunk.data).await?;
    }
    let actual = BlobId(hasher.finalize().into());
    if actual != artifact {
        fs::remove_file(&path).await?;
        return Err(Error::WrongHash { address: address.to_owned(), actual });
    }
    file.set_permissions(PermissionsExt::from_mode(0o755)).await?;
    file.sync_all().await?;
    // Closed for writing before anyone may execute it.
    drop(file.into_std().await);
    fs::rename(&path, directory.artifact(artifact)).await?;
    Ok(())
}

/// Refuses what this machine cannot execute, with the reason.
async fn check_executable(path: &Path) -> Result<(), String> {
    let read = async {
        let mut header = Vec::with_capacity(ELF_HEADER_BYTES);
        let limit = u64::try_from(ELF_HEADER_BYTES).map_err(io::Error::other)?;
        File::open(path).await?.take(limit).read_to_end(&mut header).await?;
        io::Result::Ok(header)
    };
    let header = read.await.map_err(|error| format!("read its header: {error}"))?;
    check_elf(&header)
}

fn check_elf(header: &[u8]) -> Result<(), String> {
    let here = std::env::consts::ARCH;
    if header.len() < ELF_HEADER_BYTES || header[..4] != *b"\x7fELF" {
        return Err(format!("it is no Linux executable (ELF); submit the program itself, built for {here} Linux"));
    }
    if header[4] != 2 {
        return Err(format!("it is no 64-bit executable; build it for {here} Linux"));
    }
    let machine = match header[5] {
        1 => u16::from_le_bytes([header[18], header[19]]),
        _ => u16::from_be_bytes([header[18], header[19]]),
    };
    let name = match machine {
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        _ => "another machine",
    };
    if name == here { Ok(()) } else { Err(format!("it is an executable for {name}, this machine is {here}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(class: u8, machine: u16) -> Vec<u8> {
        let mut header = vec![0; ELF_HEADER_BYTES];
        header[..4].copy_from_slice(b"\x7fELF");
        header[4] = class;
        header[5] = 1;
        header[18..].copy_from_slice(&machine.to_le_bytes());
        header
    }

    #[tokio::test]
    async fn this_very_program_is_executable_here() {
        let path = std::env::current_exe().expect("it runs");
        assert_eq!(check_executable(&path).await, Ok(()));
    }

    #[test]
    fn what_cannot_run_here_is_refused_with_the_reason() {
        let reason = |header: &[u8]| check_elf(header).expect_err("not for this machine");
        assert!(reason(b"#!/bin/sh\nexec something else\n").contains("no Linux executable"));
        assert!(reason(b"\x7fELF").contains("no Linux executable"));
        assert!(reason(&elf(1, 62)).contains("no 64-bit"));
        assert!(reason(&elf(2, 8)).contains("another machine"));
    }
}
