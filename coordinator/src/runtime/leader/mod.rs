//! One leadership: its epoch, its actors, and the handle through which services reach them.
//!
//! The tree: a `Dispatcher` with one job master per unfinished job, and beside it the
//! resource manager. A job master that panics is restarted from the replicated state; if the dispatcher or the
//! resource manager ends, the leadership ends and a new epoch begins.

mod context;
mod dispatcher;
mod handle;
mod job_master;
mod resource_manager;
mod run;
mod storage;

pub use context::LeaderSettings;
pub use handle::{Accepted, Error, JobObservation, LeaderHandle, SessionInbox};
pub use run::run_leaderships;
pub use tidemill_event_log::EventLog;
