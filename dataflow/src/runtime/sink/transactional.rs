//! A sink of the user's that writes in transactions: two-phase commit with the checkpoint as coordinator.

use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_failpoint::FailPoint;
use tidemill_model::execution::{Failure, FailureKind};
use tidemill_model::id::JobId;

use super::{Sink, UserError};
use crate::engine::snapshot::StateId;
use crate::engine::transactions::Transactions;
use crate::flow::OperatorIndex;
use crate::push::{Push, Stopped, blame, showing};
use crate::record::{Control, Data, Timestamp};
use crate::runtime::task::TaskContext;
use crate::state::KeptValue;

/// Which try of which sub-task writes: what it opens carries this, so that what others left can be told from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkAttempt {
    /// The job.
    pub job: JobId,
    /// The number of the sub-task, from 0.
    pub subtask: u32,
    /// How many sub-tasks there are.
    pub parallelism: u32,
    /// The number of the try; a later one has a higher number.
    pub attempt: u32,
}

/// Takes records out of the job in transactions, each of which becomes visible with a checkpoint: with exactly-once
/// checkpoints, each record is visible once, through any failure.
///
/// A transaction is begun before the first record after a barrier, prepared at the next barrier, and committed when that
/// checkpoint is known to be completed, by this attempt, a later one, or at the end of the job by any executor. After a
/// failure, prepared transactions of the checkpoint that is restored are committed, and whatever else earlier attempts
/// left is aborted. In a job that takes no checkpoints there is one transaction, committed at the end of input.
///
/// # To ensure correctness
///
/// - What `prepare` has returned for can be committed by another process, after any crash.
/// - `commit` may be called again, also when the transaction was committed before, and then does nothing.
/// - `abort_abandoned` touches only what attempts of lower numbers of the same sub-task of the same job began: a later
///   attempt may be at work already without this one's knowledge.
pub trait TransactionalSink<T>: Clone + Send + Sync + 'static {
    /// By what a transaction is found again; it is kept in checkpoints.
    type Transaction: Data;

    /// Called once in each sub-task, before anything else but `commit`.
    ///
    /// # Errors
    /// The destination cannot be used.
    fn open(&mut self, _attempt: SinkAttempt) -> Result<(), UserError> {
        Ok(())
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// It cannot be begun; the task fails.
    fn begin(&mut self) -> Result<Self::Transaction, UserError>;

    /// Writes a record with its event time (`i64::MIN`: it has none).
    ///
    /// # Errors
    /// It could not be written; the task fails.
    fn write(&mut self, transaction: &mut Self::Transaction, record: T, time: Timestamp) -> Result<(), UserError>;

    /// Makes everything written in the transaction durable, so that only `commit` is missing.
    ///
    /// # Errors
    /// It could not be made so; the task fails.
    fn prepare(&mut self, transaction: &mut Self::Transaction) -> Result<(), UserError>;

    /// Makes a prepared transaction visible.
    ///
    /// # Errors
    /// It could not be; the task fails, and the commit is repeated after its restart.
    fn commit(&mut self, transaction: &Self::Transaction) -> Result<(), UserError>;

    /// By what an operator finds a prepared transaction at the destination: `tidemill sinks pending` shows it.
    fn describe(&self, _transaction: &Self::Transaction) -> String {
        String::new()
    }

    /// Called after a restart, when the transactions of the restored checkpoint have been committed: takes back all that
    /// earlier attempts of this sub-task began and did not commit.
    ///
    /// # Errors
    /// It could not be taken back; the task fails.
    fn abort_abandoned(&mut self) -> Result<(), UserError> {
        Ok(())
    }
}

/// Commits what a sub-task had prepared when it finished.
pub(crate) type Committer = Arc<dyn Fn(&KeptValue) -> Result<(), UserError> + Send + Sync>;

/// The sink that writes through a user's transactions.
#[derive(Clone)]
pub struct TransactionSink<F> {
    function: F,
    operator: OperatorIndex,
}

impl<F> TransactionSink<F> {
    /// The sink of this operator.
    pub fn new(function: F, operator: OperatorIndex) -> Self {
        Self { function, operator }
    }

    /// What commits the transactions in the last snapshot of a sub-task.
    pub(crate) fn committer<T>(function: F) -> Committer
    where
        F: TransactionalSink<T>,
    {
        Arc::new(move |state: &KeptValue| {
            let mut function = function.clone();
            let transactions: Transactions<F::Transaction> = state.decode()?;
            transactions.iter().try_for_each(|transaction| function.commit(transaction))
        })
    }
}

/// The name of the state that prepared transactions are in.
pub(crate) const TRANSACTIONS: &str = "transactions";

/// The name of the state that tells of them whoever does not know their type.
pub(super) const OPEN: &str = "open transactions";

/// Prepared transactions in words, each with the checkpoint that it waits for; none: the end of the job. No restart needs
/// them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct OpenTransactions(pub(super) Vec<(Option<u64>, String)>);

/// The transactions of one sub-task.
pub struct TransactionWriter<T, F: TransactionalSink<T>> {
    function: F,
    open: Option<F::Transaction>,
    prepared: Transactions<F::Transaction>,
    taken: u64,
    state: StateId,
    operator: Rc<str>,
    context: TaskContext,
}

impl<T: Data, F: TransactionalSink<T>> Sink<T> for TransactionSink<F> {
    type Writer = TransactionWriter<T, F>;

    fn open(&self, context: &TaskContext) -> Result<Self::Writer, Failure> {
        let (mut function, operator) = (self.function.clone(), context.operator_name(self.operator));
        let state = context.operator_uid(self.operator).state(TRANSACTIONS);
        let restored = context.restored_values::<Transactions<F::Transaction>>(&state)?;
        let attempt = SinkAttempt {
            job: context.attempt().job,
            subtask: context.subtask().0,
            parallelism: context.parallelism(),
            attempt: context.attempt().attempt.0,
        };
        let opened = blame(&operator, || {
            function.open(attempt)?;
            // The checkpoint is committed, and with it all that it has.
            let committed = restored.into_iter().flat_map(Transactions::into_committed);
            committed.into_iter().try_for_each(|transaction| function.commit(&transaction))?;
            if attempt.attempt > 0 { function.abort_abandoned() } else { Ok(()) }
        });
        opened.map_err(|error| failure(context, &operator, &error))?;
        let (open, prepared, taken, context) = (None, Transactions::default(), 0, context.clone());
        Ok(TransactionWriter { function, open, prepared, taken, state, operator, context })
    }
}

#[cold]
fn failure(context: &TaskContext, operator: &str, error: &UserError) -> Failure {
    context.failure(FailureKind::Io, Some(operator), error.to_string())
}

impl<T: Data, F: TransactionalSink<T>> TransactionWriter<T, F> {
    #[cold]
    fn fail(&self, error: &UserError) -> Stopped {
        self.context.fail(failure(&self.context, &self.operator, error))
    }

    fn count(&mut self) {
        self.context.count_out(std::mem::take(&mut self.taken));
    }

    /// Prepares the open transaction, for a checkpoint or for the end of the job, and leaves all that are prepared.
    fn prepare(&mut self, checkpoint: Option<u64>) -> Result<(), Stopped> {
        if let Some(mut transaction) = self.open.take() {
            let function = &mut self.function;
            FailPoint::SinkPrecommitPre.hit();
            blame(&self.operator, || function.prepare(&mut transaction)).map_err(|error| self.fail(&error))?;
            FailPoint::SinkPrecommitPost.hit();
            match checkpoint {
                Some(checkpoint) => self.prepared.prepared(checkpoint, transaction),
                None => self.prepared.prepared_last(transaction),
            }
        }
        self.context.keep_value(self.state.clone(), self.prepared.clone());
        let (function, prepared) = (&self.function, &self.prepared);
        let described = blame(&self.operator, || {
            let describe = |(waits_for, transaction)| (waits_for, function.describe(transaction));
            Ok(OpenTransactions(prepared.waiting().map(describe).collect()))
        });
        let open = StateId { name: OPEN.to_owned(), ..self.state.clone() };
        self.context.keep_value(open, described.map_err(|error| self.fail(&error))?);
        Ok(())
    }

    fn commit(&mut self, transactions: Vec<F::Transaction>) -> Result<(), Stopped> {
        for transaction in transactions {
            let function = &mut self.function;
            FailPoint::SinkCommitPre.hit();
            blame(&self.operator, || function.commit(&transaction)).map_err(|error| self.fail(&error))?;
            FailPoint::SinkCommitPost.hit();
        }
        Ok(())
    }
}

impl<T: Data, F: TransactionalSink<T>> Push<T> for TransactionWriter<T, F> {
    #[inline]
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        let (function, open) = (&mut self.function, &mut self.open);
        let written = blame(&self.operator, || {
            let transaction = match open {
                Some(transaction) => transaction,
                none => none.insert(function.begin()?),
            };
            showing(record, |record| function.write(transaction, record, time))
        });
        written.map_err(|error| self.fail(&error))?;
        self.taken += 1;
        if self.taken.is_multiple_of(1024) {
            self.count();
        }
        Ok(())
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        self.count();
        match control {
            Control::Barrier(checkpoint) if self.context.takes_checkpoints() => self.prepare(Some(checkpoint)),
            Control::EndOfInput | Control::FinishedBefore => {
                self.prepare(None)?;
                if self.context.takes_checkpoints() {
                    return Ok(());
                }
                let all = std::mem::take(&mut self.prepared).into_committed();
                self.commit(all)
            }
            Control::Completed(checkpoint) => {
                let committed = self.prepared.take_committed(checkpoint);
                self.commit(committed)
            }
            Control::Barrier(_)
            | Control::Watermark(_)
            | Control::Idle
            | Control::Active
            | Control::ProcessingTime(_) => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.count();
        Ok(())
    }
}
