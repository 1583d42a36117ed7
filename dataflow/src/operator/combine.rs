//! Local aggregation before a keyed exchange, for reductions whose intermediate results nobody sees.

use std::rc::Rc;

use crate::key_selector::KeySelector;
use crate::operator::reduce::Fold;
use crate::push::{Push, Stopped};
use crate::record::{Control, Data};
use crate::runtime::partition::HashPartitioner;

/// The most keys that are held back. In one process 4, 8 and 32 Ki cost the same; between processes more means less to
/// send, and the table of 16 Ki keys takes about 2 MiB.
const KEYS_MAX: usize = 16 * 1024;

/// Combining pays when a key held back absorbs at least this many records.
const RECORDS_PER_KEY_MIN: usize = 2;

/// How many records go straight through after combining did not pay, before it is tried again.
const BYPASSED_RECORDS: usize = 64 * KEYS_MAX;

/// Folds records of equal keys together until its table is full, and sends what it has then.
///
/// What is held back does not go out when the input pauses: in batch mode nobody waits for it before the end.
pub(crate) struct Combine<T, S: KeySelector<T>, F> {
    fold: Fold<T, S, F>,
    /// Records folded since the table was last emptied.
    folded: usize,
    /// Records that still go straight through.
    bypassed: usize,
    next: HashPartitioner<T, S>,
}

impl<T: Data, S: KeySelector<T>, F: FnMut(&mut T, T)> Combine<T, S, F> {
    pub(crate) fn new(selector: S, function: F, operator: Rc<str>, next: HashPartitioner<T, S>) -> Self {
        Self { fold: Fold::new(selector, function, operator), folded: 0, bypassed: 0, next }
    }

    #[cold]
    #[inline(never)]
    fn empty(&mut self) -> Result<(), Stopped> {
        if self.folded < RECORDS_PER_KEY_MIN * self.fold.table.len() {
            self.bypassed = BYPASSED_RECORDS;
        }
        self.folded = 0;
        for (hash, _, record) in self.fold.table.drain() {
            self.next.push_hashed(hash, record)?;
        }
        Ok(())
    }
}

impl<T: Data, S: KeySelector<T>, F: FnMut(&mut T, T)> Push<T> for Combine<T, S, F> {
    #[inline(always)]
    fn push(&mut self, record: T) -> Result<(), Stopped> {
        if self.bypassed > 0 {
            self.bypassed -= 1;
            return self.next.push(record);
        }
        self.fold.fold(record);
        self.folded += 1;
        if self.fold.table.len() >= KEYS_MAX { self.empty() } else { Ok(()) }
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        self.empty()?;
        self.next.control(control)
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        Ok(())
    }
}
