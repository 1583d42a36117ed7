//! Local aggregation before a keyed exchange, for reductions whose intermediate results nobody sees.

use std::borrow::Borrow;
use std::rc::Rc;

use tidemill_model::key::Key;

use crate::key_selector::KeySelector;
use crate::push::{Push, Stopped, blame, blame_on, showing};
use crate::record::{Control, Data, NO_TIME, Timestamp};
use crate::runtime::partition::HashPartitioner;
use crate::state::{Place, Table};

/// The most keys that are held back. In one process 4, 8 and 32 Ki cost the same; between processes more means less to
/// send, and the table of 16 Ki keys takes about 2 MiB.
const KEYS_MAX: usize = 16 * 1024;

/// Combining pays when a key held back absorbs at least this many records.
const RECORDS_PER_KEY_MIN: usize = 2;

/// How many records go straight through after combining did not pay, before it is tried again.
const BYPASSED_RECORDS: usize = 64 * KEYS_MAX;

/// Folds records of equal keys together until its table is full, and sends what it has then.
///
/// What is held back does not go out when the input pauses: in batch mode nobody waits for it before the end, and no
/// event time is looked at.
pub(crate) struct Combine<T, S: KeySelector<T>, F> {
    table: Table<S::Key, T>,
    selector: S,
    function: F,
    operator: Rc<str>,
    /// Records folded since the table was last emptied.
    folded: usize,
    /// Records that still go straight through.
    bypassed: usize,
    next: HashPartitioner<T, S>,
}

impl<T: Data, S: KeySelector<T>, F: FnMut(&mut T, T)> Combine<T, S, F> {
    pub(crate) fn new(selector: S, function: F, operator: Rc<str>, next: HashPartitioner<T, S>) -> Self {
        let table = Table::with_slots(64);
        Self { table, selector, function, operator, folded: 0, bypassed: 0, next }
    }

    #[inline(always)]
    fn fold(&mut self, record: T) {
        let (table, selector, function) = (&mut self.table, &mut self.selector, &mut self.function);
        let operator = &self.operator;
        blame(operator, || {
            let found = blame_on(operator, &record, || selector.select(&record));
            let key: &S::Key = found.borrow();
            let hash = key.key_hash();
            match table.probe(hash, |other| other == key) {
                Place::Taken(slot) => {
                    drop(found);
                    showing(record, |record| function(table.entry(slot).1, record));
                }
                Place::Free(slot) => {
                    let key = S::into_key(found);
                    table.fill(slot, hash, key, record);
                }
            }
        });
    }

    #[cold]
    #[inline(never)]
    fn empty(&mut self) -> Result<(), Stopped> {
        if self.folded < RECORDS_PER_KEY_MIN * self.table.len() {
            self.bypassed = BYPASSED_RECORDS;
        }
        self.folded = 0;
        for (hash, _, record) in self.table.drain() {
            self.next.push_hashed(hash, record, NO_TIME)?;
        }
        Ok(())
    }
}

impl<T: Data, S: KeySelector<T>, F: FnMut(&mut T, T)> Push<T> for Combine<T, S, F> {
    #[inline(always)]
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        if self.bypassed > 0 {
            self.bypassed -= 1;
            return self.next.push(record, time);
        }
        self.fold(record);
        self.folded += 1;
        if self.table.len() >= KEYS_MAX { self.empty() } else { Ok(()) }
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        if matches!(control, Control::Barrier(_) | Control::EndOfInput) {
            self.empty()?;
        }
        self.next.control(control)
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        Ok(())
    }
}
