//! The decisions of the data flow, pure: alignment of inputs and of sources, pacing of sources, splits of files, frames, credits, windows,
//! the order of asynchronous results, what a snapshot consists of and what it shares with its task,
//! what was in flight when it was taken, in which
//! pieces slow tasks process batches, which transactions a checkpoint commits, which checkpoints are waited for.

pub mod alignment;
pub(crate) mod awaited;
pub mod copy_on_write;
pub mod credit;
pub mod frame;
pub mod in_flight;
pub mod pace;
pub mod pending;
pub mod pieces;
pub mod snapshot;
pub mod split;
pub mod split_watermarks;
pub mod timers;
pub mod topology;
pub mod transactions;
pub mod watermark_groups;
pub mod window;
