//! Streams: what a program says about its records, one operator a file.

mod async_io;
mod broadcast;
mod chaining;
mod collect;
mod collection;
mod connect;
mod csv;
mod discard;
mod files;
mod filter;
mod flat_map;
mod fold;
mod from_source;
mod generate;
mod interval_join;
mod json;
mod key_by;
mod map;
mod min_max;
mod partition;
mod print;
mod process;
mod reduce;
mod sequence;
mod share;
mod sink;
mod sink_to;
mod socket;
mod sum;
mod test;
mod text;
mod text_file;
mod time;
mod union;
mod window;

use tidemill_dataflow::flow::{OperatorIndex, VertexIndex};
use tidemill_dataflow::pipe::{FromSource, Input, Pipe};
use tidemill_dataflow::record::Data;
use tidemill_dataflow::runtime::source::{FromSplits, PlainSource, Source, Times, add_source};

use crate::environment::Environment;

pub use broadcast::{BroadcastConnectedStreams, KeyedBroadcastConnectedStreams};
pub use collect::Collected;
pub use connect::{ConnectedStreams, Either, KeyedConnectedStreams};
pub use files::{CsvOptions, JsonOptions};
pub use interval_join::IntervalJoinedStreams;
pub use key_by::KeyedStream;
pub use sequence::SequenceRange;
pub use share::Shared;
pub use sink::{DataSink, FileSink};
pub use socket::SocketOptions;
pub use time::WatermarkStrategy;
pub use window::{
    DynamicSessionWindows, Evictor, GlobalWindow, Groups, JoinedStreams, OneKey, Pairs, RegularWindows, SessionWindows,
    Trigger, WindowedJoin, WindowedStream, Windows,
};

pub(crate) use test::StreamEnd;

/// A stream of records of type `P::Out`.
///
/// `P` is the chain of operators so far, as a type, so that the compiler makes one loop of it. A function that takes
/// or returns streams names it by its bound:
///
/// ```
/// use tidemill::{DataStream, Environment, Pipe};
///
/// fn words(lines: DataStream<impl Pipe<Out = String>>) -> DataStream<impl Pipe<Out = String>> {
///     lines.flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
/// }
///
/// # fn main() -> Result<(), tidemill::Error> {
/// let env = Environment::from_args()?;
/// let words = words(env.from_collection(vec!["to be or".to_owned(), "not to be".to_owned()])).collect();
/// assert_eq!(env.execute("words")?.collected(&words)?.len(), 6);
/// # Ok(())
/// # }
/// ```
///
/// An operator has its input's parallelism unless it is given its own; sources and keyed operators begin with the
/// environment's. What leads to no sink is not run.
#[must_use = "a stream that leads to no sink is not run"]
pub struct DataStream<P> {
    environment: Environment,
    pipe: P,
    vertex: VertexIndex,
    /// The last operator.
    operator: OperatorIndex,
}

impl<P: Pipe> DataStream<P> {
    /// Appends an operator to the chain.
    fn then<Q: Pipe>(
        self,
        name: &str,
        details: Vec<String>,
        pipe: impl FnOnce(P, OperatorIndex) -> Q,
    ) -> DataStream<Q> {
        let vertex = self.vertex;
        let operator = self.environment.build(|builder| builder.add_operator(vertex, name, details));
        DataStream { environment: self.environment, pipe: pipe(self.pipe, operator), vertex, operator }
    }

    /// Names the last operator for people: in plans, errors and thread names.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// env.generate_sequence(0..10, None).map(|number| number + 1).name("Add one").discard();
    /// # env.execute("names")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(self, name: &str) -> Self {
        self.environment.build(|builder| match builder.check_last(self.vertex, self.operator, "name", name) {
            Ok(()) => builder.set_name(self.operator, name),
            Err(defect) => builder.add_defect(defect),
        });
        self
    }

    /// Gives the last operator a stable identity, unique in the program.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// env.generate_sequence(0..10, None).uid("numbers").discard();
    /// # env.execute("uids")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn uid(self, uid: &str) -> Self {
        self.environment.build(|builder| match builder.check_last(self.vertex, self.operator, "uid", uid) {
            Ok(()) => builder.set_uid(self.operator, uid),
            Err(defect) => builder.add_defect(defect),
        });
        self
    }
}

impl<T: Data> DataStream<Input<T>> {
    /// The stream that arrives at a vertex which has no operator yet.
    fn arriving(environment: Environment, vertex: VertexIndex, operator: OperatorIndex) -> Self {
        Self { environment, pipe: Input::new(), vertex, operator }
    }
}

/// The record types of an operator, for the graph's fingerprint.
fn types<In, Out>() -> Vec<String> {
    vec![std::any::type_name::<In>().to_owned(), std::any::type_name::<Out>().to_owned()]
}

/// The types of an operator behind a keyed exchange, for the graph's fingerprint.
fn keyed_types<K, In, Out>() -> Vec<String> {
    let mut types = types::<In, Out>();
    types.push(format!("key {}", std::any::type_name::<K>()));
    types
}

impl Environment {
    /// A stream that begins with a source without splits.
    fn source<S: PlainSource>(
        &self,
        name: &str,
        parameters: Vec<String>,
        source: impl FnOnce(OperatorIndex) -> S,
    ) -> DataStream<FromSource<S>> {
        let parallelism = self.parallelism();
        let mut details = vec![std::any::type_name::<S::Out>().to_owned()];
        details.extend(parameters);
        let (vertex, operator) = self.build(|builder| {
            let vertex = builder.add_vertex(parallelism);
            (vertex, builder.add_operator(vertex, name, details))
        });
        let pipe = FromSource::new(source(operator));
        DataStream { environment: self.clone(), pipe, vertex, operator }
    }

    /// A stream that begins with a source whose splits are found in a hidden sub-task.
    fn split_source<S: Source, W: Times<S::Out>>(
        &self,
        name: &str,
        parameters: Vec<String>,
        source: S,
        times: W,
    ) -> DataStream<FromSplits<S, W>> {
        let parallelism = self.parallelism();
        let mut details = vec![std::any::type_name::<S::Out>().to_owned()];
        details.extend(parameters);
        let (vertex, operator, pipe) =
            self.build(|builder| add_source(builder, (name, details), parallelism, source, times));
        DataStream { environment: self.clone(), pipe, vertex, operator }
    }
}
