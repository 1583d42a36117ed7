//! Where records go.

mod collect;
mod csv;
mod discard;
mod durable;
mod file;
mod function;
mod pending;
mod print;
mod rolling;
pub mod staged;
mod transactional;

use tidemill_model::execution::Failure;

use crate::push::Push;
use crate::runtime::task::TaskContext;

pub use collect::{CollectSink, Error as CollectError, read_collected};
pub use csv::CsvFormat;
pub use discard::DiscardSink;
pub(crate) use file::FILES;
pub use file::{FileOutput, FileSink, Format, TextFormat};
pub use function::{FunctionSink, SinkFunction, Subtask, UserError};
pub use pending::{PendingTransaction, pending_transactions};
pub use print::PrintSink;
pub use rolling::RollingOutput;
pub(crate) use transactional::{Committer, TRANSACTIONS};
pub use transactional::{SinkAttempt, TransactionSink, TransactionWriter, TransactionalSink};

/// Takes records at the end of a chain.
pub trait Sink<T>: Clone + Send + Sync + 'static {
    /// What one sub-task writes with.
    type Writer: Push<T> + 'static;

    /// Opens the output of one sub-task.
    ///
    /// # Errors
    /// The output is not usable.
    fn open(&self, context: &TaskContext) -> Result<Self::Writer, Failure>;
}
