//! The operators: each a description (a [`Pipe`](crate::pipe::Pipe)) and a fused form (a [`Push`](crate::push::Push)).

mod async_io;
mod broadcast_process;
mod combine;
mod filter;
mod flat_map;
mod keyed_process;
mod map;
mod process;
mod rolling;
mod watermarks;
pub mod window;

pub use async_io::AsyncFlatMap;
pub use broadcast_process::KeyedBroadcastProcess;
pub use filter::Filter;
pub use flat_map::{FlatMap, FlatMapInto};
pub use keyed_process::KeyedProcess;
pub use map::Map;
pub use process::Process;
pub use rolling::{AggregateFunction, FoldFunction, ReduceFunction, Rolling, RollingFunction};
pub use watermarks::{AssignTimestamps, BoundedOutOfOrderness, WatermarkGenerator};

pub(crate) use combine::Combine;
