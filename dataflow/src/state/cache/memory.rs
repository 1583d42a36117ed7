//! The memory of the caches of one sub-task.

use std::cell::Cell;
use std::rc::Rc;

/// The memory that the caches of one sub-task share evenly.
#[derive(Debug)]
pub(crate) struct CacheMemory {
    bytes: usize,
    pub(super) caches: Cell<usize>,
}

impl CacheMemory {
    /// So much for all.
    #[cfg_attr(not(feature = "rocksdb"), expect(dead_code, reason = "only back-ends on disk do this"))]
    pub(crate) fn new(bytes: usize) -> Rc<Self> {
        Rc::new(Self { bytes, caches: Cell::new(0) })
    }

    pub(super) fn share(&self) -> usize {
        self.bytes / self.caches.get().max(1)
    }
}
