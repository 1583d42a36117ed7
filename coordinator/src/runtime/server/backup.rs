//! The backup file: everything that the cluster knows at one moment, and its blobs.
//!
//! `magic | length of the header (4 bytes, big-endian) | header | state | blobs, one after the other | SHA-256 of all
//! that is before`. Header and state are of `codec`, so that each carries its version.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tidemill_model::id::{BlobId, ClusterId, NodeId};
use tidemill_model::time::Timestamp;
use tidemill_proto::{convert, pb};
use tonic::Status;

use super::blob_store::{BlobStore, Error as BlobError};
use super::node::Node;
use super::reads::ReadView;
use super::refusal;
use crate::engine::replicated::ClusterState;
use crate::runtime::codec;
use crate::runtime::replicated_log::ReplicatedLog;

/// What every backup file starts with.
const MAGIC: &[u8; 16] = b"tidemill backup\n";
const MAGIC_BYTES: u64 = 16;

/// What its end is long.
const DIGEST_BYTES: u64 = 32;

/// The state is sent in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

/// And the file is read in such pieces.
const READ_BYTES: u64 = 1 << 20;

/// A header longer than this is none.
const HEADER_BYTES_MAX: u32 = 64 << 20;

/// A backup that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk says no.
    #[error("read backup {}: {source}; check the path and its permissions", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is no backup, or a part of one.
    #[error("read backup {}: {reason}; take another copy of it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It is of a newer release, or not to be understood.
    #[error("read backup {}: {source}", path.display())]
    Codec {
        /// The file.
        path: PathBuf,
        /// Why.
        source: codec::Error,
    },
    /// A blob cannot be stored.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

/// What stands in front of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Whose it is.
    pub cluster: ClusterId,
    /// Which coordinator wrote it.
    pub node: NodeId,
    /// The term and the index up to which the log is contained.
    pub term: u64,
    /// The index up to which the log is contained.
    pub index: u64,
    /// When it was written, by that coordinator's clock.
    pub written: Timestamp,
    /// How long the state is.
    pub state_bytes: u64,
    /// The blobs and their lengths, in their order.
    pub blobs: Vec<(BlobId, u64)>,
}

impl Node {
    /// The file as messages.
    pub(super) async fn backup(
        &self,
        view: &ReadView,
    ) -> Result<BoxStream<'static, Result<pb::BackupChunk, Status>>, Status> {
        let replica = &view.replica;
        let (index, state) = replica.log.state().read_with_index(|index, state| (index, state.clone()));
        let blobs: Vec<(BlobId, u64)> = state.blobs.iter().map(|(id, blob)| (*id, blob.size_bytes)).collect();
        for (blob, _) in &blobs {
            self.obtain_blob(replica, *blob).await?;
        }
        let encoded = Bytes::from(codec::encode(&state));
        let header = Header {
            cluster: replica.cluster,
            node: replica.node,
            term: replica.log.status().term,
            index,
            written: self.clock().wall(),
            state_bytes: u64::try_from(encoded.len()).unwrap_or(u64::MAX),
            blobs,
        };
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let info = pb::BackupInfo {
            cluster_id: convert::uuid_bytes(replica.cluster.0),
            log_index: index,
            jobs: count(state.jobs.len()),
            blobs: count(header.blobs.len()),
        };
        let pieces = sealed(pieces(self.blobs().clone(), header, encoded));
        let first = stream::once(std::future::ready(Ok(pb::BackupChunk { info: Some(info), data: Bytes::new() })));
        Ok(first.chain(pieces.map(|data| Ok(pb::BackupChunk { info: None, data: data? }))).boxed())
    }
}

/// All of the file but its end.
fn pieces(blobs: BlobStore, header: Header, state: Bytes) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    let mut head = MAGIC.to_vec();
    let encoded = codec::encode(&header);
    head.extend_from_slice(&u32::try_from(encoded.len()).unwrap_or(u32::MAX).to_be_bytes());
    head.extend_from_slice(&encoded);
    let state_pieces = (0..state.len()).step_by(PIECE_BYTES);
    let state_pieces = state_pieces.map(move |start| Ok(state.slice(start..state.len().min(start + PIECE_BYTES))));
    let stored = stream::iter(header.blobs).flat_map(move |(blob, _)| match blobs.read(blob) {
        Ok(Some(pieces)) => pieces.map(|piece| piece.map_err(Status::from)).boxed(),
        Ok(None) => {
            stream::iter([Err(refusal::internal(format!("back up blob {blob}: it was removed; try again")))]).boxed()
        }
        Err(error) => stream::iter([Err(Status::from(error))]).boxed(),
    });
    stream::iter(std::iter::once(Ok(Bytes::from(head))).chain(state_pieces)).chain(stored)
}

/// The same, with the digest of all of it at its end.
fn sealed(
    pieces: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    stream::unfold(Some((pieces.boxed(), Sha256::new())), async |state| {
        let (mut pieces, mut digest) = state?;
        match pieces.next().await {
            Some(Ok(piece)) => {
                digest.update(&piece);
                Some((Ok(piece), Some((pieces, digest))))
            }
            Some(Err(status)) => Some((Err(status), None)),
            None => Some((Ok(Bytes::copy_from_slice(&digest.finalize())), None)),
        }
    })
}

/// A backup file that is whole.
#[derive(Debug)]
pub struct Backup {
    /// What it says of itself.
    pub header: Header,
    /// The state.
    pub state: ClusterState,
    path: PathBuf,
    reader: BufReader<File>,
}

impl Backup {
    /// Checks a whole file, then reads all but its blobs.
    ///
    /// # Errors
    ///
    /// When it is no backup, is damaged or of a newer release.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let damaged = |reason: &str| Error::Damaged { path: path.to_owned(), reason: reason.to_owned() };
        let codec = |source| Error::Codec { path: path.to_owned(), source };
        let length = std::fs::metadata(path).map_err(io)?.len();
        let body = length.checked_sub(DIGEST_BYTES).ok_or_else(|| damaged("it is too short to be a backup"))?;
        let mut reader = BufReader::new(File::open(path).map_err(io)?);
        let mut magic = [0; MAGIC.len()];
        let begun = reader.read_exact(&mut magic);
        if begun.is_err() || magic != *MAGIC {
            return Err(damaged("it does not begin as a backup does"));
        }
        let mut digest = Sha256::new_with_prefix(magic);
        let mut rest = body.checked_sub(MAGIC_BYTES).ok_or_else(|| damaged("it is too short to be a backup"))?;
        while rest > 0 {
            let part = read_part(&mut reader, rest.min(READ_BYTES)).map_err(io)?;
            digest.update(&part);
            rest -= rest.min(READ_BYTES);
        }
        let mut found = [0; 32];
        reader.read_exact(&mut found).map_err(io)?;
        if digest.finalize()[..] != found {
            return Err(damaged("its checksum does not match; it is damaged or was not written to its end"));
        }
        let mut reader = BufReader::new(File::open(path).map_err(io)?);
        let mut head = [0; MAGIC.len() + 4];
        reader.read_exact(&mut head).map_err(io)?;
        let length = u32::from_be_bytes([head[16], head[17], head[18], head[19]]);
        if length > HEADER_BYTES_MAX {
            return Err(damaged("its header is too long"));
        }
        let header = read_part(&mut reader, u64::from(length)).map_err(io)?;
        let header: Header = codec::decode("backup header", &header).map_err(codec)?;
        let state = read_part(&mut reader, header.state_bytes).map_err(io)?;
        let state = codec::decode("backed-up state", &state).map_err(codec)?;
        Ok(Self { header, state, path: path.to_owned(), reader })
    }

    /// Stores its blobs.
    ///
    /// # Errors
    ///
    /// When the disk says no, or one is not what its id says.
    pub async fn store_blobs(&mut self, store: &BlobStore) -> Result<(), Error> {
        for &(blob, size) in &self.header.blobs {
            let mut rest = size;
            let mut writer = store.begin(blob).await?;
            while rest > 0 {
                let length = rest.min(READ_BYTES);
                let piece = read_part(&mut self.reader, length);
                let piece = piece.map_err(|source| Error::Io { path: self.path.clone(), source })?;
                writer.write(Bytes::from(piece)).await?;
                rest -= length;
            }
            writer.finish().await?;
        }
        Ok(())
    }
}

fn read_part(reader: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut part = Vec::new();
    reader.take(length).read_to_end(&mut part)?;
    if u64::try_from(part.len()) == Ok(length) { Ok(part) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn header(state: &[u8]) -> Header {
        Header {
            cluster: ClusterId(Uuid::from_u128(7)),
            node: NodeId(2),
            term: 3,
            index: 40,
            written: Timestamp(5),
            state_bytes: u64::try_from(state.len()).expect("small"),
            blobs: Vec::new(),
        }
    }

    async fn written(dir: &Path) -> PathBuf {
        let state = codec::encode(&ClusterState::default());
        let store = BlobStore::open(&dir.join("blobs"), 1 << 20).expect("an empty folder");
        let pieces = sealed(pieces(store, header(&state), state.into()));
        let bytes: Vec<Bytes> = pieces.map(|piece| piece.expect("sound")).collect().await;
        let path = dir.join("backup");
        std::fs::write(&path, bytes.concat()).expect("writable");
        path
    }

    #[tokio::test]
    async fn a_backup_is_read_back_and_any_damage_is_found() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = written(dir.path()).await;
        let backup = Backup::open(&path).expect("sound");
        assert_eq!((backup.header.index, backup.state), (40, ClusterState::default()));
        let sound = std::fs::read(&path).expect("readable");
        for position in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[position] ^= 0x10;
            std::fs::write(&path, &damaged).expect("writable");
            let error = Backup::open(&path).expect_err("damaged").to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
        for length in [0, 10, sound.len() - 1] {
            std::fs::write(&path, &sound[..length]).expect("writable");
            Backup::open(&path).expect_err("cut short");
        }
    }
}
