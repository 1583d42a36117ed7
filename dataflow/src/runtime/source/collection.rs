//! A source of records that the program itself holds.

use std::sync::{Arc, Mutex, PoisonError};

use tidemill_model::execution::Failure;

use super::{PlainReader, PlainSource, Reading};
use crate::push::{Push, Stopped};
use crate::record::{Data, NO_TIME, batch_capacity};
use crate::runtime::task::TaskContext;

/// Emits given records: sub-task p of P takes number p, p + P, p + 2P and so on.
pub struct CollectionSource<T> {
    // A lock instead of a bound: records need not be readable from two threads at once.
    records: Arc<Mutex<Vec<T>>>,
}

impl<T> CollectionSource<T> {
    /// The source of these records.
    #[must_use]
    pub fn new(records: Vec<T>) -> Self {
        Self { records: Arc::new(Mutex::new(records)) }
    }
}

impl<T> Clone for CollectionSource<T> {
    fn clone(&self) -> Self {
        Self { records: Arc::clone(&self.records) }
    }
}

/// The records of one sub-task.
pub struct CollectionReader<T> {
    records: std::vec::IntoIter<T>,
    emitted: u64,
}

impl<T: Data> PlainSource for CollectionSource<T> {
    type Out = T;
    type Reader = CollectionReader<T>;

    fn open(&self, context: &TaskContext, position: Option<u64>) -> Result<CollectionReader<T>, Failure> {
        let emitted = position.unwrap_or(0);
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let (subtask, parallelism) = (context.subtask().0 as usize, context.parallelism() as usize);
        let share: Vec<T> = records.iter().skip(subtask).step_by(parallelism).cloned().collect();
        let mut records = share.into_iter();
        if let Some(last) = usize::try_from(emitted).unwrap_or(usize::MAX).checked_sub(1) {
            records.nth(last);
        }
        Ok(CollectionReader { records, emitted })
    }
}

impl<T: Data> PlainReader<T> for CollectionReader<T> {
    type Position = u64;

    fn position(&self) -> u64 {
        self.emitted
    }

    fn read<N: Push<T>>(&mut self, next: &mut N, context: &TaskContext) -> Result<Reading, Stopped> {
        for record in self.records.by_ref().take(batch_capacity::<T>()) {
            next.push(record, NO_TIME)?;
            self.emitted += 1;
            context.count_in(1);
        }
        Ok(if self.records.len() > 0 { Reading::More } else { Reading::Ended })
    }
}
