//! `reduce`: one running record per key.

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::rc::Rc;

use tidemill_model::execution::Failure;
use tidemill_model::job::RuntimeMode;
use tidemill_model::key::{Key, KeyHash};

use crate::flow::OperatorIndex;
use crate::key_selector::KeySelector;
use crate::operator::table::{TOUCHED_TOGETHER, Table};
use crate::pipe::{Input, Pipe, Placement};
use crate::push::{Push, Stopped, blame};
use crate::record::{Control, Data};
use crate::runtime::task::{Task, TaskContext};

/// How many results are emitted between two looks into the mailbox.
const RESULTS_PER_POLL: usize = 4096;

/// A keyed exchange followed by an associative function that folds each record into its key's.
pub struct Reduce<T, S, F> {
    input: Input<T>,
    selector: S,
    function: F,
    operator: OperatorIndex,
}

impl<T, S, F> Reduce<T, S, F> {
    /// Keys by `selector`, folds with `function`.
    pub fn new(selector: S, function: F, operator: OperatorIndex) -> Self {
        Self { input: Input::new(), selector, function, operator }
    }
}

impl<T: Data, S: KeySelector<T>, F> Pipe for Reduce<T, S, F>
where
    F: FnMut(&mut T, T) + Clone + Send + Sync + 'static,
{
    type Out = T;
    type Placed = Self;

    fn fuse<N: Push<T> + 'static>(&self, next: N, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        let operator = ReduceOperator {
            fold: Fold::new(self.selector.clone(), self.function.clone(), context.operator_name(self.operator)),
            hashes: Vec::new(),
            updates: context.mode() == RuntimeMode::Streaming,
            next,
            context: context.clone(),
        };
        self.input.fuse(operator, context)
    }

    fn place(self, placement: &mut Placement<'_>) -> Self {
        placement.whole_vertex();
        self
    }
}

/// A table of records, and how another record is folded in.
pub(crate) struct Fold<T, S: KeySelector<T>, F> {
    pub(crate) table: Table<S::Key, T>,
    selector: S,
    function: F,
    pub(crate) operator: Rc<str>,
    records: PhantomData<fn(T)>,
}

impl<T, S: KeySelector<T>, F: FnMut(&mut T, T)> Fold<T, S, F> {
    pub(crate) fn new(selector: S, function: F, operator: Rc<str>) -> Self {
        Self { table: Table::new(), selector, function, operator, records: PhantomData }
    }

    #[inline(always)]
    fn hash(&mut self, record: &T) -> KeyHash {
        let selector = &mut self.selector;
        blame(&self.operator, || Borrow::<S::Key>::borrow(&selector.select(record)).key_hash())
    }

    /// Folds a record whose hash is known; `then` sees the key's new record when it is wanted.
    #[inline(always)]
    fn fold_hashed(&mut self, hash: KeyHash, record: T, then: impl FnOnce(&T)) {
        let (table, selector, function) = (&mut self.table, &mut self.selector, &mut self.function);
        blame(&self.operator, || {
            let found = selector.select(&record);
            let key: &S::Key = found.borrow();
            if let Some(running) = table.get_mut(hash, |other| other == key) {
                drop(found);
                function(running, record);
                then(running);
            } else {
                let key = S::into_key(found);
                then(&record);
                table.insert_new(hash, key, record);
            }
        });
    }

    /// Finds the key once, for both the hash and the table.
    #[inline(always)]
    pub(crate) fn fold(&mut self, record: T) {
        let (table, selector, function) = (&mut self.table, &mut self.selector, &mut self.function);
        blame(&self.operator, || {
            let found = selector.select(&record);
            let key: &S::Key = found.borrow();
            let hash = key.key_hash();
            if let Some(running) = table.get_mut(hash, |other| other == key) {
                drop(found);
                function(running, record);
            } else {
                let key = S::into_key(found);
                table.insert_new(hash, key, record);
            }
        });
    }
}

struct ReduceOperator<T, S: KeySelector<T>, F, N> {
    fold: Fold<T, S, F>,
    hashes: Vec<KeyHash>,
    /// Whether each record causes an update, or each key one result at the end.
    updates: bool,
    next: N,
    context: TaskContext,
}

impl<T: Data, S: KeySelector<T>, F: FnMut(&mut T, T), N: Push<T>> ReduceOperator<T, S, F, N> {
    #[inline(always)]
    fn push_hashed(&mut self, hash: KeyHash, record: T) -> Result<(), Stopped> {
        if !self.updates {
            self.fold.fold_hashed(hash, record, |_| ());
            return Ok(());
        }
        let mut update = None;
        self.fold.fold_hashed(hash, record, |running| update = Some(running.clone()));
        update.map_or(Ok(()), |update| self.next.push(update))
    }
}

impl<T: Data, S: KeySelector<T>, F: FnMut(&mut T, T), N: Push<T>> Push<T> for ReduceOperator<T, S, F, N> {
    fn push(&mut self, record: T) -> Result<(), Stopped> {
        let hash = self.fold.hash(&record);
        self.push_hashed(hash, record)
    }

    fn push_batch(&mut self, batch: &mut Vec<T>) -> Result<(), Stopped> {
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        hashes.extend(batch.iter().map(|record| self.fold.hash(record)));
        let mut records = batch.drain(..);
        for group in hashes.chunks(TOUCHED_TOGETHER) {
            self.fold.table.touch(group);
            for (&hash, record) in group.iter().zip(&mut records) {
                self.push_hashed(hash, record)?;
            }
        }
        drop(records);
        self.hashes = hashes;
        Ok(())
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        if control == Control::EndOfInput && !self.updates {
            for (number, (_, _, record)) in self.fold.table.drain().enumerate() {
                if number % RESULTS_PER_POLL == 0 {
                    self.context.poll()?;
                }
                self.next.push(record)?;
            }
        }
        self.next.control(control)
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.next.flush()
    }
}
