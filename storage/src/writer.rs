//! A file that is being written.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};

use super::Error;
use super::local_copy::CopyWriter;

/// How much is sent at a time: object stores want at least 5 MiB.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// How many parts may be under way: a bound on what is held in memory.
const PARTS_MAX: usize = 4;

/// When a file is begun in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// At once, and it grows in a place of its own.
    AtOnce,
    /// When it is larger than a part: a smaller one is sent as a whole, in one request instead of three.
    WhenLarge,
}

/// A file that appears when it is finished; dropped before, it does not.
pub struct StateWriter {
    store: Arc<dyn ObjectStore>,
    place: Path,
    /// None: all of it is in `held`.
    upload: Option<WriteMultipart>,
    held: Vec<Bytes>,
    /// What this machine keeps besides.
    copy: Option<CopyWriter>,
    position: u64,
    /// For people.
    file: String,
}

impl StateWriter {
    pub(super) async fn create(
        store: Arc<dyn ObjectStore>,
        place: Path,
        file: String,
        begin: Begin,
        copy: Option<CopyWriter>,
    ) -> Result<Self, Error> {
        let mut writer = Self { store, place, upload: None, held: Vec::new(), copy, position: 0, file };
        if begin == Begin::AtOnce {
            writer.begin().await?;
        }
        Ok(writer)
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(object_store::Error) -> Error + use<> {
        let file = self.file.clone();
        move |source| Error::Store { action, file, source }
    }

    async fn begin(&mut self) -> Result<(), Error> {
        let upload = self.store.put_multipart(&self.place).await.map_err(self.failed("create"))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        std::mem::take(&mut self.held).into_iter().for_each(|bytes| upload.put(bytes));
        self.upload = Some(upload);
        Ok(())
    }

    /// How many bytes were written.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Appends bytes; waits while too much is under way.
    ///
    /// # Errors
    /// The store refuses: the file will not appear.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        let failed = self.failed("write");
        self.position += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if let Some(copy) = &mut self.copy {
            copy.write(&bytes);
        }
        match &mut self.upload {
            Some(upload) => {
                upload.wait_for_capacity(PARTS_MAX).await.map_err(failed)?;
                upload.put(bytes);
                Ok(())
            }
            None => {
                self.held.push(bytes);
                if usize::try_from(self.position).is_ok_and(|held| held <= PART_BYTES) {
                    Ok(())
                } else {
                    self.begin().await
                }
            }
        }
    }

    /// Has the file appear, durably; answers its length in bytes.
    ///
    /// # Errors
    /// The store refuses: the file does not appear.
    pub async fn finish(mut self) -> Result<u64, Error> {
        let failed = self.failed("write");
        match self.upload.take() {
            Some(upload) => drop(upload.finish().await.map_err(failed)?),
            None => {
                let payload: PutPayload = std::mem::take(&mut self.held).into_iter().collect();
                self.store.put(&self.place, payload).await.map_err(failed)?;
            }
        }
        self.copy.take().into_iter().for_each(CopyWriter::finish);
        Ok(self.position)
    }
}

impl Drop for StateWriter {
    /// Parts that were sent would be kept, and paid for, for ever. A file system clears up by itself.
    fn drop(&mut self) {
        #[cfg(feature = "s3")]
        if let Some(upload) = self.upload.take() {
            let file = std::mem::take(&mut self.file);
            super::s3::in_background(async move {
                if let Err(error) = upload.abort().await {
                    tracing::warn!(file, %error, "parts of an unfinished file may be left in the checkpoint storage");
                }
            });
        }
    }
}
