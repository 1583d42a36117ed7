//! A file that is being written.

use bytes::Bytes;
use object_store::{MultipartUpload, WriteMultipart};

use super::Error;

/// How much is sent at a time: object stores want at least 5 MiB.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// How many parts may be under way: a bound on what is held in memory.
const PARTS_MAX: usize = 4;

/// A file that appears when it is finished; dropped before, it does not.
pub struct StateWriter {
    upload: WriteMultipart,
    position: u64,
    /// For people.
    file: String,
}

impl StateWriter {
    pub(super) fn new(upload: Box<dyn MultipartUpload>, file: String) -> Self {
        Self { upload: WriteMultipart::new_with_chunk_size(upload, PART_BYTES), position: 0, file }
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
        let waited = self.upload.wait_for_capacity(PARTS_MAX).await;
        waited.map_err(|source| Error::Store { action: "write", file: self.file.clone(), source })?;
        self.position += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.upload.put(bytes);
        Ok(())
    }

    /// Has the file appear, durably; answers its length in bytes.
    ///
    /// # Errors
    /// The store refuses: the file does not appear.
    pub async fn finish(self) -> Result<u64, Error> {
        let Self { upload, position, file } = self;
        upload.finish().await.map_err(|source| Error::Store { action: "write", file, source })?;
        Ok(position)
    }
}
