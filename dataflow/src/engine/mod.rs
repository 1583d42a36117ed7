//! The decisions of the data flow, pure: alignment of inputs, pacing of sources, splits of files, frames, credits, windows.

pub mod alignment;
pub mod credit;
pub mod frame;
pub mod pace;
pub mod split;
pub mod split_watermarks;
pub mod timers;
pub mod topology;
pub mod window;
