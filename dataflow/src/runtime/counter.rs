//! User counters: added to by any code of a job, taken as exact deltas when a task finishes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill_model::execution::Accumulators;

/// What was added through one handle; alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell(AtomicI64);

/// One counter's parts: each clone of the handle adds to a cell of its own, so that sub-tasks do not contend.
#[derive(Debug, Default)]
struct Parts {
    cells: Vec<Arc<Cell>>,
    /// What dropped handles had added.
    settled: i64,
}

impl Parts {
    fn take(&mut self) -> i64 {
        let open = self.cells.iter().map(|cell| cell.0.swap(0, Ordering::Relaxed));
        open.fold(std::mem::take(&mut self.settled), i64::wrapping_add)
    }
}

/// The counters of a program, by name.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    by_name: Arc<Mutex<BTreeMap<String, Parts>>>,
}

impl Counters {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Parts>> {
        // No code that can panic runs under the lock.
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handle to the counter of this name, which exists from now on.
    #[must_use]
    pub fn counter(&self, name: &str) -> Counter {
        let cell = Arc::new(Cell::default());
        self.lock().entry(name.to_owned()).or_default().cells.push(Arc::clone(&cell));
        Counter { counters: self.clone(), name: name.to_owned(), cell }
    }

    /// What was added since the last call: each addition is in the answer to exactly one call.
    #[must_use]
    pub fn take(&self) -> Accumulators {
        self.lock().iter_mut().map(|(name, parts)| (name.clone(), parts.take())).collect()
    }
}

/// A handle to a counter; clones count together.
#[derive(Debug)]
pub struct Counter {
    counters: Counters,
    name: String,
    cell: Arc<Cell>,
}

impl Counter {
    /// Adds to the counter.
    #[inline]
    pub fn add(&self, amount: i64) {
        self.cell.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The counter's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Clone for Counter {
    fn clone(&self) -> Self {
        self.counters.counter(&self.name)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Some(parts) = self.counters.lock().get_mut(&self.name) {
            parts.settled = parts.settled.wrapping_add(self.cell.0.swap(0, Ordering::Relaxed));
            parts.cells.retain(|cell| !Arc::ptr_eq(cell, &self.cell));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_addition_is_taken_exactly_once() {
        let counters = Counters::default();
        let first = counters.counter("words");
        let second = first.clone();
        first.add(3);
        second.add(4);
        drop(second);
        assert_eq!(counters.take(), Accumulators::from([("words".to_owned(), 7)]));
        first.add(1);
        drop(first);
        assert_eq!(counters.take(), Accumulators::from([("words".to_owned(), 1)]));
        assert_eq!(counters.take(), Accumulators::from([("words".to_owned(), 0)]));
    }

    #[test]
    fn dropped_handles_leave_no_cell_behind() {
        let counters = Counters::default();
        let handle = counters.counter("words");
        for _ in 0..1000 {
            handle.clone().add(1);
        }
        assert_eq!(counters.lock()["words"].cells.len(), 1);
        assert_eq!(counters.take()["words"], 1000);
    }
}
