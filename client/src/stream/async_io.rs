//! `map_async` and its kin: calls of asynchronous functions, many at a time.

use std::future::Future;

use tidemill_dataflow::function::{AsyncCall, AsyncOptions};
use tidemill_dataflow::operator::AsyncFlatMap;
use tidemill_dataflow::pipe::Pipe;
use tidemill_dataflow::record::Data;
use tidemill_dataflow::runtime::sink::UserError;

use super::{DataStream, types};

impl<P: Pipe> DataStream<P> {
    /// Makes one record of each record by an asynchronous function: a look-up in a database, a call of a service.
    ///
    /// The calls run on threads of their own, with a `tokio` runtime: many at a time, up to the capacity that
    /// `options` give, beyond which no input is taken. A call that fails, or takes too long, fails the job.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use std::time::Duration;
    /// use tidemill::{AsyncOptions, UserError};
    ///
    /// async fn look_up(id: u64) -> Result<String, UserError> {
    ///     tokio::time::sleep(Duration::from_millis(1)).await;
    ///     Ok(format!("user {id}"))
    /// }
    ///
    /// # let env = tidemill::Environment::from_args()?;
    /// let options = AsyncOptions::unordered(100).with_timeout(Duration::from_secs(60));
    /// let names = env.generate_sequence(0..3, None).map_async(options, look_up).collect();
    /// # let mut names = env.execute("names")?.collected(&names)?;
    /// # names.sort();
    /// assert_eq!(names, ["user 0", "user 1", "user 2"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_async<T, F, A>(
        self,
        options: AsyncOptions,
        function: F,
    ) -> DataStream<impl Pipe<Out = T> + use<P, T, F, A>>
    where
        T: Data,
        F: Fn(P::Out) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<T, UserError>> + Send + 'static,
    {
        let function = move |record| {
            let made = function(record);
            async move { made.await.map(Some) }
        };
        self.async_call("Async Map", AsyncCall::new(function, options))
    }

    /// The same with a function that says what is emitted for a record whose call takes too long.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use std::time::Duration;
    /// use tidemill::{AsyncOptions, UserError};
    ///
    /// async fn never(_: u64) -> Result<String, UserError> {
    ///     std::future::pending().await
    /// }
    ///
    /// # let env = tidemill::Environment::from_args()?;
    /// let options = AsyncOptions::ordered(100).with_timeout(Duration::from_millis(1));
    /// let names = env.generate_sequence(7..8, None).map_async_or_else(options, never, |id| Ok(format!("unknown {id}")));
    /// let names = names.collect();
    /// assert_eq!(env.execute("names")?.collected(&names)?, ["unknown 7"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_async_or_else<T, F, A, G>(
        self,
        options: AsyncOptions,
        function: F,
        on_timeout: G,
    ) -> DataStream<impl Pipe<Out = T> + use<P, T, F, A, G>>
    where
        T: Data,
        F: Fn(P::Out) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<T, UserError>> + Send + 'static,
        G: Fn(P::Out) -> Result<T, UserError> + Clone + Send + Sync + 'static,
    {
        let function = move |record| {
            let made = function(record);
            async move { made.await.map(Some) }
        };
        let call = AsyncCall::new(function, options).or_else(move |record| on_timeout(record).map(Some));
        self.async_call("Async Map", call)
    }

    /// Makes any number of records of each record by an asynchronous function.
    ///
    /// See [`map_async`](Self::map_async) for how calls are made.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use tidemill::{AsyncOptions, UserError};
    ///
    /// async fn divisors(number: u64) -> Result<Vec<u64>, UserError> {
    ///     Ok((1..=number).filter(|divisor| number % divisor == 0).collect())
    /// }
    ///
    /// # let env = tidemill::Environment::with_arguments(["-p", "1"])?;
    /// let divisors = env.from_collection(vec![4, 0, 3]).flat_map_async(AsyncOptions::ordered(100), divisors).collect();
    /// assert_eq!(env.execute("divisors")?.collected(&divisors)?, [1, 2, 4, 1, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn flat_map_async<T, I, F, A>(
        self,
        options: AsyncOptions,
        function: F,
    ) -> DataStream<impl Pipe<Out = T> + use<P, T, I, F, A>>
    where
        T: Data,
        I: IntoIterator<Item = T> + Send + 'static,
        F: Fn(P::Out) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<I, UserError>> + Send + 'static,
    {
        self.async_call("Async Flat Map", AsyncCall::new(function, options))
    }

    fn async_call<T, I, F, A>(self, name: &str, call: AsyncCall<P::Out, F, I>) -> DataStream<AsyncFlatMap<P, F, I>>
    where
        T: Data,
        I: IntoIterator<Item = T> + Send + 'static,
        F: Fn(P::Out) -> A + Send + Sync + 'static,
        A: Future<Output = Result<I, UserError>> + Send + 'static,
    {
        let mut details = types::<P::Out, T>();
        details.push(format!("{:?}", call.options()));
        self.then(name, details, |pipe, operator| AsyncFlatMap::new(pipe, call, operator))
    }
}
