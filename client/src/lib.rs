//! Tidemill: a distributed stream processor. This crate is what programs use: streams, environments, submission.
//!
//! ```
//! use tidemill::Environment;
//!
//! # fn main() -> Result<(), tidemill::Error> {
//! let env = Environment::from_args()?;
//! let counts = env
//!     .from_collection(vec!["to be or not to be".to_owned()])
//!     .flat_map(|line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
//!     .map(|word| (word, 1u64))
//!     .key_by(|pair| pair.0.clone())
//!     .sum(|pair| &mut pair.1)
//!     .collect();
//! let result = env.execute("word count")?;
//! let mut counts = result.collected(&counts)?;
//! counts.sort();
//! assert_eq!(counts[0], ("be".to_owned(), 2));
//! # Ok(())
//! # }
//! ```
//!
//! Started plainly, the program runs in an embedded cluster in its own process; with `--coordinators host:port,...` it
//! submits itself to a cluster. See [`Environment`].

mod arguments;

#[cfg(feature = "cli")]
pub mod cli;
mod clock;
mod embedded;
mod environment;
mod error;
pub mod job_client;
mod result;
pub mod savepoint;
pub mod state;
pub mod stream;
pub mod submission;
pub mod testing;

pub use environment::Environment;
pub use error::Error;
pub use result::JobExecutionResult;
pub use smol_str::SmolStr;
pub use state::{
    AggregatingState, ListState, MapState, ReducingState, StateDescriptor, StateRegistry, TimeToLive, ValueState,
};
pub use stream::{
    BroadcastConnectedStreams, Collected, ConnectedStreams, CsvOptions, DataSink, DataStream, Either, Evictor,
    FileSink, IntervalJoinedStreams, JoinedStreams, JsonOptions, KeyedBroadcastConnectedStreams, KeyedConnectedStreams,
    KeyedStream, SequenceRange, Shared, SocketOptions, Trigger, WatermarkStrategy, WindowedJoin, WindowedStream,
    Windows,
};
pub use tidemill_dataflow::engine::window::{
    CustomState, Evictor as CustomEvictor, Stamped, TimeWindow, Trigger as CustomTrigger, TriggerContext, TriggerResult,
};
pub use tidemill_dataflow::format::BadRecord;
pub use tidemill_dataflow::function::{
    Aggregate, AsyncOptions, BroadcastProcessFunction, CoProcessFunction, Collector, KeyedBroadcastProcessFunction,
    KeyedCoProcessFunction, KeyedContext, KeyedProcessFunction, OutputTag, ProcessContext, ProcessFunction,
    ProcessWindowFunction, TimeDomain, Timer, WindowContext,
};
pub use tidemill_dataflow::operator::WatermarkGenerator;
pub use tidemill_dataflow::pipe::Pipe;
pub use tidemill_dataflow::record::Data;
pub use tidemill_dataflow::runtime::counter::Counter;
pub use tidemill_dataflow::runtime::sink::{SinkAttempt, SinkFunction, Subtask, TransactionalSink, UserError};
pub use tidemill_dataflow::runtime::source::{
    Boundedness, Discovery, Reading, Source, SourceOutput, SplitEnumerator, SplitReader,
};
pub use tidemill_model::job::{RuntimeMode, StopMode};
pub use tidemill_model::key::{Key, KeyBytes};

/// The program in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ReadMe;
