//! What a cache knows of the entries of a hash.

/// What is known of a hash whose entries, if any, are in memory.
#[derive(Debug, Clone)]
pub(super) struct Residency {
    /// What its entries point to, about.
    pub(super) heap_bytes: u32,
    /// Whether it was used since eviction last came by, in the lowest bit; in the others the epoch of the cache in which
    /// its entries were last changed and not written back.
    marks: u32,
}

impl Residency {
    /// The epoch of what was not changed.
    pub(super) const UNCHANGED: u32 = 0;

    pub(super) fn new() -> Self {
        Self { heap_bytes: 0, marks: 1 }
    }

    pub(super) fn set_used(&mut self) {
        self.marks |= 1;
    }

    pub(super) fn take_used(&mut self) -> bool {
        let used = self.marks & 1 == 1;
        self.marks &= !1;
        used
    }

    pub(super) fn changed_in(&self) -> u32 {
        self.marks >> 1
    }

    pub(super) fn set_changed_in(&mut self, epoch: u32) {
        self.marks = epoch << 1 | self.marks & 1;
    }
}
