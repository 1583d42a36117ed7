//! The decisions of the data flow, pure: alignment of inputs and of sources, pacing of sources, splits of files, frames, credits, windows,
//! the order of asynchronous results.

pub mod alignment;
pub mod credit;
pub mod frame;
pub mod pace;
pub mod pending;
pub mod split;
pub mod split_watermarks;
pub mod timers;
pub mod topology;
pub mod watermark_groups;
pub mod window;
