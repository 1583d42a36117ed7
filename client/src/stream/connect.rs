//! `connect`: two streams of different types in one operator.

use tidemill_dataflow::function::{
    CoProcess, CoProcessFunction, Collector, EitherKey, KeyedCoProcessFunction, KeyedContext,
};
use tidemill_dataflow::key_selector::{ComputedKey, KeySelector};
use tidemill_dataflow::operator::{KeyedProcess, Map};
use tidemill_dataflow::pipe::{Input, Pipe};
use tidemill_dataflow::record::Data;
use tidemill_dataflow::runtime::sink::UserError;

pub use tidemill_dataflow::function::Either;
use tidemill_model::key::Key;

use super::{DataStream, KeyedStream, keyed_types, types};

/// Two streams that are read by one operator.
///
/// ```
/// # fn main() -> Result<(), tidemill::Error> {
/// # let env = tidemill::Environment::from_args()?;
/// let numbers = env.generate_sequence(0..2, None);
/// let words = env.from_collection(vec!["a".to_owned()]);
/// let texts = numbers.connect(words).map(|number| number.to_string(), |word| word).collect();
/// # let mut texts = env.execute("connect")?.collected(&texts)?;
/// # texts.sort();
/// assert_eq!(texts, ["0", "1", "a"]);
/// # Ok(())
/// # }
/// ```
#[must_use = "connected streams do nothing until they are mapped or processed"]
pub struct ConnectedStreams<P, Q> {
    left: DataStream<P>,
    right: DataStream<Q>,
}

/// Two keyed streams that are read by one operator, which sees equal keys of both in one sub-task.
///
/// ```
/// # fn main() -> Result<(), tidemill::Error> {
/// # let env = tidemill::Environment::from_args()?;
/// let orders = env.from_collection(vec![(1u32, "tea".to_owned())]).key_by(|order| order.0);
/// let payments = env.from_collection(vec![(1u32, 250u64)]).key_by(|payment| payment.0);
/// let both = orders.connect(payments).map(|order| order.1, |payment| format!("{} cents", payment.1)).collect();
/// # let mut both = env.execute("connect")?.collected(&both)?;
/// # both.sort();
/// assert_eq!(both, ["250 cents", "tea"]);
/// # Ok(())
/// # }
/// ```
#[must_use = "connected streams do nothing until they are mapped or processed"]
pub struct KeyedConnectedStreams<P, S, Q, U> {
    left: KeyedStream<P, S>,
    right: KeyedStream<Q, U>,
}

impl<P: Pipe> DataStream<P> {
    /// Reads this stream and another one in one operator; neither is repartitioned.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let connected = env.generate_sequence(0..2, None).connect(env.from_collection(vec!['a']));
    /// let texts = connected.map(|number| number.to_string(), String::from).collect();
    /// assert_eq!(env.execute("connect")?.collected(&texts)?.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect<Q: Pipe>(self, other: DataStream<Q>) -> ConnectedStreams<P, Q> {
        ConnectedStreams { left: self, right: other }
    }
}

impl<P: Pipe, S: KeySelector<P::Out>> KeyedStream<P, S> {
    /// Reads this stream and another one with keys of the same type in one operator, which may keep state for each
    /// key.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let numbers = env.generate_sequence(0..2, None).key_by(|number| *number);
    /// let connected = numbers.connect(env.from_collection(vec![7u64]).key_by(|number| *number));
    /// let all = connected.map(|number| number, |number| number).collect();
    /// assert_eq!(env.execute("connect")?.collected(&all)?.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect<Q, U>(self, other: KeyedStream<Q, U>) -> KeyedConnectedStreams<P, S, Q, U>
    where
        Q: Pipe,
        U: KeySelector<Q::Out, Key = S::Key>,
    {
        KeyedConnectedStreams { left: self, right: other }
    }
}

impl<P: Pipe, Q: Pipe> ConnectedStreams<P, Q> {
    /// Keys both streams, so that equal keys of both meet in one sub-task.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let connected = env.generate_sequence(0..2, None).connect(env.from_collection(vec!["7".to_owned()]));
    /// let keyed = connected.key_by(|number| *number, |text| text.len() as u64);
    /// let texts = keyed.map(|number| number.to_string(), |text| text).collect();
    /// assert_eq!(env.execute("connect")?.collected(&texts)?.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn key_by<K, F, G>(self, left: F, right: G) -> KeyedConnectedStreams<P, ComputedKey<F, K>, Q, ComputedKey<G, K>>
    where
        K: Key,
        F: FnMut(&P::Out) -> K + Clone + Send + Sync + 'static,
        G: FnMut(&Q::Out) -> K + Clone + Send + Sync + 'static,
    {
        KeyedConnectedStreams { left: self.left.key_by(left), right: self.right.key_by(right) }
    }

    /// Makes one record of each record of either stream.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let connected = env.generate_sequence(0..2, None).connect(env.from_collection(vec![true]));
    /// let numbers = connected.map(|number| number, u64::from).collect();
    /// assert_eq!(env.execute("co-map")?.collected(&numbers)?.iter().sum::<u64>(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map<T, F, G>(self, mut left: F, mut right: G) -> DataStream<impl Pipe<Out = T> + use<P, Q, T, F, G>>
    where
        T: Data,
        F: FnMut(P::Out) -> T + Clone + Send + Sync + 'static,
        G: FnMut(Q::Out) -> T + Clone + Send + Sync + 'static,
    {
        let types = types::<Either<P::Out, Q::Out>, T>();
        let function = move |record| match record {
            Either::Left(record) => left(record),
            Either::Right(record) => right(record),
        };
        self.either().then("Co-Map", types, |pipe, operator| Map::new(pipe, function, operator))
    }

    /// Makes any number of records of each record of either stream.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let connected = env.generate_sequence(0..3, None).connect(env.from_collection(vec!["a b".to_owned()]));
    /// let all = connected.flat_map(
    ///     |number, out| out.extend((0..number).map(|number| number.to_string())),
    ///     |text, out| out.extend(text.split(' ').map(str::to_owned)),
    /// );
    /// let all = all.collect();
    /// assert_eq!(env.execute("co-flat-map")?.collected(&all)?.len(), 5);
    /// # Ok(())
    /// # }
    /// ```
    pub fn flat_map<T, F, G>(self, mut left: F, mut right: G) -> DataStream<impl Pipe<Out = T> + use<P, Q, T, F, G>>
    where
        T: Data,
        F: FnMut(P::Out, &mut Vec<T>) + Clone + Send + Sync + 'static,
        G: FnMut(Q::Out, &mut Vec<T>) + Clone + Send + Sync + 'static,
    {
        let function = move |record: Either<P::Out, Q::Out>, out: &mut Vec<T>| match record {
            Either::Left(record) => left(record, out),
            Either::Right(record) => right(record, out),
        };
        self.either().flat_map_into(function).name("Co-Flat Map")
    }

    /// Calls a function that sees the records of both streams, with side outputs and a view of time.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use tidemill::{Collector, ProcessContext, UserError};
    ///
    /// #[derive(Clone)]
    /// struct Texts;
    ///
    /// impl tidemill::CoProcessFunction<u64, char> for Texts {
    ///     type Out = String;
    ///
    ///     fn process_left(
    ///         &mut self, number: u64, _: &mut ProcessContext<'_>, out: &mut Collector<String>,
    ///     ) -> Result<(), UserError> {
    ///         out.emit(number.to_string());
    ///         Ok(())
    ///     }
    ///
    ///     fn process_right(
    ///         &mut self, letter: char, _: &mut ProcessContext<'_>, out: &mut Collector<String>,
    ///     ) -> Result<(), UserError> {
    ///         out.emit(letter.to_string());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # let env = tidemill::Environment::from_args()?;
    /// let texts = env.generate_sequence(0..2, None).connect(env.from_collection(vec!['a'])).process(Texts).collect();
    /// assert_eq!(env.execute("texts")?.collected(&texts)?.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn process<F>(self, function: F) -> DataStream<impl Pipe<Out = F::Out> + use<P, Q, F>>
    where
        F: CoProcessFunction<P::Out, Q::Out>,
    {
        self.either().process_as("Co-Process", CoProcess(function))
    }

    /// Both streams as one of either type, on one chain's input.
    fn either(self) -> DataStream<Input<Either<P::Out, Q::Out>>> {
        let left = self.left.map(Either::Left).name("Left");
        left.union(self.right.map(Either::Right).name("Right"))
    }
}

impl<P, S, Q, U> KeyedConnectedStreams<P, S, Q, U>
where
    P: Pipe,
    S: KeySelector<P::Out>,
    Q: Pipe,
    U: KeySelector<Q::Out, Key = S::Key>,
{
    /// Makes one record of each record of either stream, where its key is.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let connected = env.generate_sequence(0..2, None).connect(env.from_collection(vec![true]));
    /// let keyed = connected.key_by(|number| *number, |truth| u64::from(*truth));
    /// let numbers = keyed.map(|number| number, u64::from).collect();
    /// assert_eq!(env.execute("co-map")?.collected(&numbers)?.iter().sum::<u64>(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map<T, F, G>(self, left: F, right: G) -> DataStream<impl Pipe<Out = T> + use<P, S, Q, U, T, F, G>>
    where
        T: Data,
        F: FnMut(P::Out) -> T + Clone + Send + Sync + 'static,
        G: FnMut(Q::Out) -> T + Clone + Send + Sync + 'static,
    {
        self.process(CoMap { left, right }).name("Co-Map")
    }

    /// Calls a function that sees the records of both streams key by key, with state, timers and side outputs.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use tidemill::{Collector, KeyedContext, StateRegistry, UserError, ValueState};
    ///
    /// /// Pairs each order with its payment, whichever comes first.
    /// #[derive(Clone, Default)]
    /// struct Pair {
    ///     order: ValueState<String>,
    ///     payment: ValueState<u64>,
    /// }
    ///
    /// impl tidemill::KeyedCoProcessFunction<u32, (u32, String), (u32, u64)> for Pair {
    ///     type Out = (u32, String, u64);
    ///
    ///     fn open(&mut self, states: &mut StateRegistry<'_, u32>) -> Result<(), UserError> {
    ///         self.order = states.value("order")?;
    ///         self.payment = states.value("payment")?;
    ///         Ok(())
    ///     }
    ///
    ///     fn process_left(
    ///         &mut self, (id, order): (u32, String), context: &mut KeyedContext<'_, u32>, out: &mut Collector<Self::Out>,
    ///     ) -> Result<(), UserError> {
    ///         match self.payment.clear(context) {
    ///             Some(payment) => out.emit((id, order, payment)),
    ///             None => self.order.set(context, order),
    ///         }
    ///         Ok(())
    ///     }
    ///
    ///     fn process_right(
    ///         &mut self, (id, payment): (u32, u64), context: &mut KeyedContext<'_, u32>, out: &mut Collector<Self::Out>,
    ///     ) -> Result<(), UserError> {
    ///         match self.order.clear(context) {
    ///             Some(order) => out.emit((id, order, payment)),
    ///             None => self.payment.set(context, payment),
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # let env = tidemill::Environment::from_args()?;
    /// let orders = env.from_collection(vec![(1, "tea".to_owned()), (2, "rice".to_owned())]).key_by(|order| order.0);
    /// let payments = env.from_collection(vec![(2, 180), (3, 99)]).key_by(|payment| payment.0);
    /// let paid = orders.connect(payments).process(Pair::default()).collect();
    /// assert_eq!(env.execute("paid")?.collected(&paid)?, [(2, "rice".to_owned(), 180)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn process<F>(self, function: F) -> DataStream<impl Pipe<Out = F::Out> + use<P, S, Q, U, F>>
    where
        F: KeyedCoProcessFunction<S::Key, P::Out, Q::Out>,
    {
        let KeyedStream { stream: left, selector: left_selector } = self.left;
        let KeyedStream { stream: right, selector: right_selector } = self.right;
        let selector = EitherKey::new(left_selector, right_selector);
        let (left, right) = (left.map(Either::Left).name("Left"), right.map(Either::Right).name("Right"));
        let types = keyed_types::<S::Key, Either<P::Out, Q::Out>, F::Out>();
        let environment = left.environment;
        let parallelism = environment.parallelism();
        let (vertex, operator) = environment.build(|builder| {
            let target = builder.add_vertex(parallelism);
            builder.exchange_hashed(left.vertex, left.pipe, selector.clone(), target);
            builder.exchange_hashed(right.vertex, right.pipe, selector.clone(), target);
            let operator = builder.add_operator(target, "Keyed Co-Process", types);
            builder.mark_needs_time(operator);
            builder.mark_has_side_outputs(operator);
            (target, operator)
        });
        let pipe = KeyedProcess::new(selector, CoProcess(function), operator);
        DataStream { environment, pipe, vertex, operator }
    }
}

/// Two functions, as one over two streams.
#[derive(Clone)]
struct CoMap<F, G> {
    left: F,
    right: G,
}

impl<K, L, R, T, F, G> KeyedCoProcessFunction<K, L, R> for CoMap<F, G>
where
    K: Key,
    T: Data,
    F: FnMut(L) -> T + Clone + Send + Sync + 'static,
    G: FnMut(R) -> T + Clone + Send + Sync + 'static,
{
    type Out = T;

    fn process_left(
        &mut self,
        record: L,
        _context: &mut KeyedContext<'_, K>,
        out: &mut Collector<T>,
    ) -> Result<(), UserError> {
        out.emit((self.left)(record));
        Ok(())
    }

    fn process_right(
        &mut self,
        record: R,
        _context: &mut KeyedContext<'_, K>,
        out: &mut Collector<T>,
    ) -> Result<(), UserError> {
        out.emit((self.right)(record));
        Ok(())
    }
}
