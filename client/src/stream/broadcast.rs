//! `connect_broadcast`: a stream, and another one that every sub-task sees whole and keeps a state of.

use tidemill_dataflow::flow::UnkeyedPartitioning;
use tidemill_dataflow::function::{
    BroadcastProcess, BroadcastProcessFunction, Either, KeyedBroadcastProcessFunction, LeftKey,
};
use tidemill_dataflow::key_selector::KeySelector;
use tidemill_dataflow::operator::{KeyedBroadcastProcess, Process};
use tidemill_dataflow::pipe::{Input, Pipe};

use super::{DataStream, KeyedStream, keyed_types};

/// A stream beside a broadcast one.
///
/// ```
/// # fn main() -> Result<(), tidemill::Error> {
/// use std::collections::BTreeSet;
/// use tidemill::{BroadcastProcessFunction, Collector, ProcessContext, UserError};
///
/// /// Keeps numbers until the allowed ones are known, which is at the end.
/// #[derive(Clone, Default)]
/// struct OnlyAllowed {
///     numbers: Vec<u64>,
/// }
///
/// impl BroadcastProcessFunction<u64, u64> for OnlyAllowed {
///     type State = BTreeSet<u64>;
///     type Out = u64;
///
///     fn process(
///         &mut self, number: u64, _: &BTreeSet<u64>, _: &mut ProcessContext<'_>, _: &mut Collector<u64>,
///     ) -> Result<(), UserError> {
///         self.numbers.push(number);
///         Ok(())
///     }
///
///     fn process_broadcast(
///         &mut self, number: u64, allowed: &mut BTreeSet<u64>, _: &mut ProcessContext<'_>, _: &mut Collector<u64>,
///     ) -> Result<(), UserError> {
///         allowed.insert(number);
///         Ok(())
///     }
///
///     fn finish(
///         &mut self, allowed: &BTreeSet<u64>, _: &mut ProcessContext<'_>, out: &mut Collector<u64>,
///     ) -> Result<(), UserError> {
///         self.numbers.drain(..).filter(|number| allowed.contains(number)).for_each(|number| out.emit(number));
///         Ok(())
///     }
/// }
///
/// # let env = tidemill::Environment::from_args()?;
/// let allowed = env.from_collection(vec![7, 3]);
/// let numbers = env.generate_sequence(0..100, None).connect_broadcast(allowed).process(OnlyAllowed::default());
/// let numbers = numbers.collect();
/// # let mut numbers = env.execute("allowed")?.collected(&numbers)?;
/// # numbers.sort();
/// assert_eq!(numbers, [3, 7]);
/// # Ok(())
/// # }
/// ```
#[must_use = "connected streams do nothing until they are processed"]
pub struct BroadcastConnectedStreams<P, Q> {
    stream: DataStream<P>,
    broadcast: DataStream<Q>,
}

/// A keyed stream beside a broadcast one.
///
/// See [`process`](Self::process) for an example of use.
///
/// ```
/// # fn main() -> Result<(), tidemill::Error> {
/// # let env = tidemill::Environment::from_args()?;
/// let numbers = env.generate_sequence(0..100, None).key_by(|number| number % 10);
/// let connected = numbers.connect_broadcast(env.from_collection(vec![7u64, 3]));
/// # drop(connected);
/// # Ok(())
/// # }
/// ```
#[must_use = "connected streams do nothing until they are processed"]
pub struct KeyedBroadcastConnectedStreams<P, S, Q> {
    stream: KeyedStream<P, S>,
    broadcast: DataStream<Q>,
}

impl<P: Pipe> DataStream<P> {
    /// Reads this stream, as it is distributed, and all records of another one in every sub-task of one operator.
    ///
    /// Nothing is said of the order in which records of the two come: a rule may be seen after a record that it is
    /// meant for. Event time goes on when it does in both.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let connected = env.generate_sequence(0..100, None).connect_broadcast(env.from_collection(vec![7u64, 3]));
    /// # drop(connected);
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect_broadcast<Q: Pipe>(self, broadcast: DataStream<Q>) -> BroadcastConnectedStreams<P, Q> {
        BroadcastConnectedStreams { stream: self, broadcast }
    }
}

impl<P: Pipe, S: KeySelector<P::Out>> KeyedStream<P, S> {
    /// Reads this stream, key by key, and all records of another one in every sub-task of one operator.
    ///
    /// What [`DataStream::connect_broadcast`] says of their order holds here, too.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let numbers = env.generate_sequence(0..100, None).key_by(|number| number % 10);
    /// let connected = numbers.connect_broadcast(env.from_collection(vec![7u64, 3]));
    /// # drop(connected);
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect_broadcast<Q: Pipe>(self, broadcast: DataStream<Q>) -> KeyedBroadcastConnectedStreams<P, S, Q> {
        KeyedBroadcastConnectedStreams { stream: self, broadcast }
    }
}

impl<P: Pipe, Q: Pipe> BroadcastConnectedStreams<P, Q> {
    /// Calls a function that sees the state of the broadcast stream with each record of the other one.
    ///
    /// See [`BroadcastConnectedStreams`] for an example with records that wait for all broadcast ones.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use tidemill::{BroadcastProcessFunction, Collector, ProcessContext, UserError};
    ///
    /// /// Multiplies by the largest factor so far.
    /// #[derive(Clone)]
    /// struct Multiply;
    ///
    /// impl BroadcastProcessFunction<u64, u64> for Multiply {
    ///     type State = u64;
    ///     type Out = u64;
    ///
    ///     fn process(
    ///         &mut self, number: u64, factor: &u64, _: &mut ProcessContext<'_>, out: &mut Collector<u64>,
    ///     ) -> Result<(), UserError> {
    ///         out.emit(number * factor);
    ///         Ok(())
    ///     }
    ///
    ///     fn process_broadcast(
    ///         &mut self, new: u64, factor: &mut u64, _: &mut ProcessContext<'_>, _: &mut Collector<u64>,
    ///     ) -> Result<(), UserError> {
    ///         *factor = new.max(*factor);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # let env = tidemill::Environment::from_args()?;
    /// let factors = env.from_collection(vec![2]);
    /// let products = env.generate_sequence(0..3, None).connect_broadcast(factors).process(Multiply).collect();
    /// assert_eq!(env.execute("multiply")?.collected(&products)?.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    #[expect(clippy::type_complexity, reason = "the chain of operators is a type")]
    pub fn process<F>(
        self,
        function: F,
    ) -> DataStream<Process<Input<Either<P::Out, Q::Out>>, BroadcastProcess<F, F::State>>>
    where
        F: BroadcastProcessFunction<P::Out, Q::Out>,
    {
        let stream = self.stream.map(Either::<P::Out, Q::Out>::Left).name("Left");
        let broadcast = self.broadcast.map(Either::<P::Out, Q::Out>::Right).name("Broadcast");
        let (environment, operator) = (stream.environment, stream.operator);
        let target = environment.build(|builder| {
            let target = builder.add_vertex(builder.parallelism(stream.vertex));
            builder.exchange(stream.vertex, stream.pipe, target, UnkeyedPartitioning::Forward);
            builder.exchange(broadcast.vertex, broadcast.pipe, target, UnkeyedPartitioning::Broadcast);
            target
        });
        let stream = DataStream::arriving(environment, target, operator);
        stream.process_as("Broadcast Process", BroadcastProcess::new(function))
    }
}

impl<P: Pipe, S: KeySelector<P::Out>, Q: Pipe> KeyedBroadcastConnectedStreams<P, S, Q> {
    /// Calls a function that sees the state of the broadcast stream with each record of the keyed one, and keeps
    /// state and sets timers for each key.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use tidemill::{Collector, KeyedBroadcastProcessFunction, KeyedContext, ProcessContext, StateRegistry};
    /// use tidemill::{Timer, UserError, ValueState};
    ///
    /// /// Emits, when all have come, the keys with more records than each limit allows.
    /// #[derive(Clone, Default)]
    /// struct TooMany {
    ///     count: ValueState<u64>,
    /// }
    ///
    /// impl KeyedBroadcastProcessFunction<u64, u64, u64> for TooMany {
    ///     type State = u64;
    ///     type Out = u64;
    ///
    ///     fn open(&mut self, states: &mut StateRegistry<'_, u64>) -> Result<(), UserError> {
    ///         self.count = states.value("count")?;
    ///         Ok(())
    ///     }
    ///
    ///     fn process(
    ///         &mut self, _: u64, _: &u64, context: &mut KeyedContext<'_, u64>, _: &mut Collector<u64>,
    ///     ) -> Result<(), UserError> {
    ///         *self.count.get_or_insert_with(context, || 0) += 1;
    ///         context.set_event_timer(0);
    ///         Ok(())
    ///     }
    ///
    ///     fn process_broadcast(
    ///         &mut self, new: u64, limit: &mut u64, _: &mut ProcessContext<'_>, _: &mut Collector<u64>,
    ///     ) -> Result<(), UserError> {
    ///         *limit = new.max(*limit);
    ///         Ok(())
    ///     }
    ///
    ///     fn on_timer(
    ///         &mut self, _: Timer, limit: &u64, context: &mut KeyedContext<'_, u64>, out: &mut Collector<u64>,
    ///     ) -> Result<(), UserError> {
    ///         if self.count.clear(context).is_some_and(|count| count > *limit) {
    ///             out.emit(*context.key());
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # let env = tidemill::Environment::from_args()?;
    /// let numbers = env.from_collection(vec![1, 2, 3, 2, 1, 2]).key_by(|number| *number);
    /// let limits = env.from_collection(vec![1, 2]);
    /// let too_many = numbers.connect_broadcast(limits).process(TooMany::default()).collect();
    /// assert_eq!(env.execute("limits")?.collected(&too_many)?, [2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn process<F>(self, function: F) -> DataStream<KeyedBroadcastProcess<P::Out, Q::Out, S, F>>
    where
        F: KeyedBroadcastProcessFunction<S::Key, P::Out, Q::Out>,
    {
        let KeyedStream { stream, selector } = self.stream;
        let stream = stream.map(Either::<P::Out, Q::Out>::Left).name("Left");
        let broadcast = self.broadcast.map(Either::<P::Out, Q::Out>::Right).name("Broadcast");
        let types = keyed_types::<S::Key, Either<P::Out, Q::Out>, F::Out>();
        let environment = stream.environment;
        let parallelism = environment.parallelism();
        let (vertex, operator) = environment.build(|builder| {
            let target = builder.add_vertex(parallelism);
            builder.exchange_hashed(stream.vertex, stream.pipe, LeftKey(selector.clone()), target);
            builder.exchange(broadcast.vertex, broadcast.pipe, target, UnkeyedPartitioning::Broadcast);
            let operator = builder.add_operator(target, "Keyed Broadcast Process", types);
            builder.mark_needs_time(operator);
            builder.mark_has_side_outputs(operator);
            (target, operator)
        });
        let pipe = KeyedBroadcastProcess::new(selector, function, operator);
        DataStream { environment, pipe, vertex, operator }
    }
}
