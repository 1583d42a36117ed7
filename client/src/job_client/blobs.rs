//! Blobs: artifacts and collected records, addressed by the SHA-256 of their bytes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::stream;
use sha2::{Digest, Sha256};
use tidemill_model::id::BlobId;
use tidemill_proto::{convert, pb};

use super::connections::Stub;
use super::leader_search::Audience;
use super::{ANSWER_TIMEOUT, Error, JobClient};

/// The size of a piece: well below the message limit, large enough that a piece costs little.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Where an upload's bytes come from.
#[derive(Debug, Clone)]
enum Source {
    Memory(Bytes),
    File(PathBuf),
}

impl JobClient {
    /// Uploads bytes, unless the cluster has them; they are on a majority of coordinators' disks afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the blob is larger than `blob.max-size`.
    pub async fn put_blob(&self, bytes: Bytes) -> Result<BlobId, Error> {
        self.put(BlobId(Sha256::digest(&bytes).into()), Source::Memory(bytes)).await
    }

    /// Uploads a file as [`put_blob`](Self::put_blob) does, without holding it in memory.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when it cannot be read.
    pub async fn put_blob_file(&self, path: &Path) -> Result<BlobId, Error> {
        let id = hash_file(path).map_err(|error| unreadable(path, &error))?;
        self.put(id, Source::File(path.to_owned())).await
    }

    /// Fetches a blob from any coordinator and checks its hash.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when no coordinator has it.
    pub async fn get_blob(&self, id: BlobId) -> Result<Bytes, Error> {
        let call = |stub: Stub| download(stub, id);
        self.ask(Audience::Anyone, None, call).await
    }

    async fn put(&self, id: BlobId, source: Source) -> Result<BlobId, Error> {
        let call = |mut stub: Stub| async move { stub.has_blob(pb::BlobId { id: convert::blob_bytes(id) }).await };
        if self.ask(Audience::Leader, Some(ANSWER_TIMEOUT), call).await?.into_inner().exists {
            return Ok(id);
        }
        // An unreadable file ends its stream early and would look like a fault of the transport.
        if let Source::File(path) = &source {
            File::open(path).map_err(|error| unreadable(path, &error))?;
        }
        let call = |mut stub: Stub| {
            let chunks = stream::iter(Chunks::new(id, source.clone()));
            async move { stub.put_blob(chunks).await }
        };
        self.ask(Audience::Leader, None, call).await?;
        Ok(id)
    }
}

/// The pieces of an upload, the first with the id; ends early when a file cannot be read, which the hash then shows.
struct Chunks {
    id: Option<BlobId>,
    rest: Rest,
}

enum Rest {
    Memory(Bytes),
    File(Option<File>),
}

impl Chunks {
    fn new(id: BlobId, source: Source) -> Self {
        let rest = match source {
            Source::Memory(bytes) => Rest::Memory(bytes),
            Source::File(path) => Rest::File(File::open(path).ok()),
        };
        Self { id: Some(id), rest }
    }
}

impl Iterator for Chunks {
    type Item = pb::BlobChunk;

    fn next(&mut self) -> Option<pb::BlobChunk> {
        let data = match &mut self.rest {
            Rest::Memory(bytes) => bytes.split_to(bytes.len().min(CHUNK_BYTES)),
            Rest::File(None) => Bytes::new(),
            Rest::File(Some(file)) => {
                let mut chunk = Vec::with_capacity(CHUNK_BYTES);
                let limit = u64::try_from(CHUNK_BYTES).expect("usize fits u64");
                match Read::take(file, limit).read_to_end(&mut chunk) {
                    Ok(_) => chunk.into(),
                    Err(_) => Bytes::new(),
                }
            }
        };
        let id = self.id.take();
        if data.is_empty() && id.is_none() {
            return None;
        }
        Some(pb::BlobChunk { id: id.map(convert::blob_bytes).unwrap_or_default(), data })
    }
}

async fn download(mut stub: Stub, id: BlobId) -> Result<Bytes, tonic::Status> {
    let mut chunks = stub.get_blob(pb::BlobId { id: convert::blob_bytes(id) }).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        bytes.extend_from_slice(&chunk.data);
    }
    let found = BlobId(Sha256::digest(&bytes).into());
    if found != id {
        return Err(tonic::Status::data_loss(format!("its copy of blob {id} has the hash {found}")));
    }
    Ok(bytes.into())
}

fn hash_file(path: &Path) -> std::io::Result<BlobId> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(BlobId(hasher.finalize().into())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::File { path: path.display().to_string(), reason: error.to_string() }
}
