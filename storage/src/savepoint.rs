//! Savepoints as folders: a `_metadata` file, and a file of state for each sub-task.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidemill_model::checkpoint::{StateHandle, SubtaskState};
use tidemill_model::savepoint::Savepoint;

use super::{Error, JobStorage};

/// The file that makes a folder a savepoint; it is written last.
const METADATA: &str = "_metadata";

/// What the metadata begins with, and the version of what follows.
const MAGIC: &[u8; 8] = b"tidemill";
const VERSION: u8 = 1;

impl JobStorage {
    /// Copies the state of `savepoint`, whose handles are those of `checkpoints`, into this folder, and makes it a
    /// savepoint that needs nothing else. Each byte is verified on the way.
    ///
    /// # Errors
    /// A file cannot be read, or not be written. A checkpoint that is no longer retained is [`Error::Missing`]; a folder
    /// that is a savepoint is [`Error::Occupied`].
    pub async fn write_savepoint(&self, savepoint: &Savepoint, checkpoints: &Self) -> Result<(), Error> {
        self.refuse_savepoint().await?;
        let mut copy = savepoint.clone();
        for (number, vertex) in copy.vertices.iter_mut().enumerate() {
            for (subtask, state) in vertex.subtasks.iter_mut().enumerate() {
                *state = self.copy(state, &format!("{number}-{subtask}"), checkpoints).await?;
            }
        }
        self.describe_savepoint(&copy).await
    }

    /// Refuses a folder that is a savepoint already.
    ///
    /// # Errors
    /// It is one, or the store refuses.
    pub async fn refuse_savepoint(&self) -> Result<(), Error> {
        match self.size(METADATA).await? {
            Some(_) => Err(Error::Occupied { folder: self.url().to_owned() }),
            None => Ok(()),
        }
    }

    /// Makes this folder, in which the state of `savepoint` lies, a savepoint.
    ///
    /// # Errors
    /// The file that says so cannot be written.
    pub async fn describe_savepoint(&self, savepoint: &Savepoint) -> Result<(), Error> {
        let body = postcard::to_allocvec(savepoint)
            .map_err(|error| Error::Metadata { file: self.name(METADATA), reason: error.to_string() })?;
        let mut writer = self.create(METADATA).await?;
        let checksum = crc32fast::hash(&body).to_le_bytes();
        writer.write(Bytes::from([MAGIC.as_slice(), &[VERSION], &checksum, &body].concat())).await?;
        writer.finish().await?;
        Ok(())
    }

    async fn copy(&self, state: &SubtaskState, path: &str, checkpoints: &Self) -> Result<SubtaskState, Error> {
        let mut handles = Vec::new();
        let mut writer = None;
        for handle in &state.0 {
            let StateHandle::File { length, checksum, .. } = *handle else {
                handles.push(handle.clone());
                continue;
            };
            let writer = match &mut writer {
                Some(writer) => writer,
                none => none.insert(self.create(path).await?),
            };
            let offset = writer.position();
            writer.write(checkpoints.read(handle).await?).await?;
            handles.push(StateHandle::File { path: path.to_owned(), offset, length, checksum });
        }
        if let Some(writer) = writer {
            writer.finish().await?;
        }
        Ok(SubtaskState(handles))
    }

    /// The savepoint that this folder is.
    ///
    /// # Errors
    /// It is none, it is damaged, or it is of another release.
    pub async fn read_savepoint(&self) -> Result<Savepoint, Error> {
        let file = self.name(METADATA);
        let damaged = |reason: &str| Error::Metadata { file: file.clone(), reason: reason.to_owned() };
        let bytes = self.read_whole(METADATA).await?;
        let rest = bytes.strip_prefix(MAGIC.as_slice()).ok_or_else(|| damaged("it is no savepoint's"))?;
        let (&version, rest) = rest.split_first().ok_or_else(|| damaged("it is truncated"))?;
        if version != VERSION {
            let reason = format!("format {version}, this program reads format {VERSION}; use a release that fits");
            return Err(damaged(&reason));
        }
        let (checksum, body) = rest.split_first_chunk().ok_or_else(|| damaged("it is truncated"))?;
        if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
            return Err(damaged("its checksum is wrong"));
        }
        postcard::from_bytes(body).map_err(|error| damaged(&error.to_string()))
    }

    /// The sizes of a savepoint's files, by path.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn sizes(&self) -> Result<BTreeMap<String, u64>, Error> {
        Ok(self.list().await?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CheckpointStorage;
    use tidemill_model::id::{CheckpointId, JobId};
    use tidemill_model::job_graph::OperatorDescriptor;
    use tidemill_model::savepoint::SavepointVertex;
    use tidemill_model::time::Timestamp;

    #[tokio::test]
    async fn a_savepoint_is_read_when_its_checkpoint_is_gone_and_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let job: JobId = "0190f3a1b2c37d4e8f00112233445566".parse().unwrap();
        let open = |name: &str| CheckpointStorage::open(folder.path().join(name).to_str().unwrap()).unwrap();
        let (checkpoints, target) = (open("checkpoints").job(job), open("savepoint").folder());
        let mut writer = checkpoints.create("7/p").await.unwrap();
        writer.write(Bytes::from_static(b"one two")).await.unwrap();
        writer.finish().await.unwrap();
        let file = |offset, text: &[u8]| StateHandle::File {
            path: "7/p".to_owned(),
            offset,
            length: text.len() as u64,
            checksum: crc32fast::hash(text),
        };
        let state = SubtaskState(vec![StateHandle::Inline(vec![1]), file(4, b"two"), file(0, b"one")]);
        let operators = vec![OperatorDescriptor { name: "Count".into(), uid: "count".into() }];
        let vertices = vec![SavepointVertex { operators, max_parallelism: 128, subtasks: vec![state] }];
        let (name, completed) = ("job".to_owned(), Timestamp(1));
        let savepoint = Savepoint { job, name, checkpoint: CheckpointId(7), completed, vertices };
        target.write_savepoint(&savepoint, &checkpoints).await.unwrap();
        let error = target.write_savepoint(&savepoint, &checkpoints).await.unwrap_err();
        assert!(matches!(&error, Error::Occupied { folder } if folder.ends_with("/savepoint")), "{error}");
        checkpoints.delete(&["7/p".to_owned()]).await.unwrap();
        let read = target.read_savepoint().await.unwrap();
        assert_eq!((read.checkpoint, &read.name), (CheckpointId(7), &savepoint.name));
        let mut texts = Vec::new();
        for handle in &read.vertices[0].subtasks[0].0 {
            texts.push(target.read(handle).await.unwrap());
        }
        assert_eq!(texts, [b"\x01".as_slice(), b"two", b"one"]);
        let error = open("other").folder().write_savepoint(&savepoint, &checkpoints).await.unwrap_err();
        assert!(matches!(error, Error::Missing { .. }), "{error}");
        let metadata = folder.path().join("savepoint/_metadata");
        let bytes = std::fs::read(&metadata).unwrap();
        for length in [0, 8, 9, 12, bytes.len() - 1] {
            std::fs::write(&metadata, &bytes[..length]).unwrap();
            let error = target.read_savepoint().await.unwrap_err();
            assert!(matches!(&error, Error::Metadata { file, .. } if file.ends_with("_metadata")), "{error}");
        }
        assert!(matches!(open("none").folder().read_savepoint().await, Err(Error::Missing { .. })));
    }
}
