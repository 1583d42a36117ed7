//! A source of records that the program itself holds.

use std::sync::{Arc, Mutex, PoisonError};

use super::Source;
use crate::push::{Push, Stopped};
use crate::record::{Data, batch_capacity};
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

impl<T: Data> Source for CollectionSource<T> {
    type Out = T;

    fn run<N: Push<T>>(&mut self, next: &mut N, context: &TaskContext) -> Result<(), Stopped> {
        let share: Vec<T> = {
            let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            records.iter().skip(context.subtask().0 as usize).step_by(context.parallelism() as usize).cloned().collect()
        };
        for (number, record) in share.into_iter().enumerate() {
            if number % batch_capacity::<T>() == 0 {
                context.poll()?;
            }
            next.push(record)?;
            context.count_in(1);
        }
        Ok(())
    }
}
