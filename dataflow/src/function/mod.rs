//! What user functions beyond closures are given: a collector, side outputs, time, timers and state.

mod aggregate;
mod async_call;
mod broadcast;
mod co_process;
mod collector;
mod context;
mod interval_join;
mod process;
mod side_output;
mod window;

pub use crate::engine::timers::TimeDomain;
pub use aggregate::Aggregate;
pub use async_call::{AsyncCall, AsyncOptions};
pub use broadcast::{BroadcastProcess, BroadcastProcessFunction, KeyedBroadcastProcessFunction, LeftKey};
pub use co_process::{CoProcess, CoProcessFunction, Either, EitherKey, KeyedCoProcessFunction};
pub use collector::Collector;
pub use context::{KeyedContext, ProcessContext, Timer};
pub use interval_join::IntervalJoin;
pub use process::{KeyedProcessFunction, ProcessFunction};
pub use side_output::OutputTag;
pub use window::{ProcessWindowFunction, WindowContext};

pub(crate) use async_call::AsyncOutcome;
pub(crate) use context::KeyedRuntime;
pub(crate) use side_output::{SideOutputs, SidePortFactory, open_side_port};
