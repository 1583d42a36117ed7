//! Partitioners: which sub-task of the next operator gets a record, when no key decides.

use tidemill_dataflow::flow::UnkeyedPartitioning;
use tidemill_dataflow::pipe::{Input, Pipe};

use super::DataStream;

/// A method for one partitioner, with an example that does the same for all.
macro_rules! partitioners {
    ($($(#[doc = $line:literal])+ $method:ident: $partitioning:ident;)*) => {
        impl<P: Pipe> DataStream<P> {
            $(
                $(#[doc = $line])+
                ///
                /// ```
                /// # fn main() -> Result<(), tidemill::Error> {
                /// # let env = tidemill::Environment::with_arguments(["-p", "2"])?;
                #[doc = concat!("let numbers = env.generate_sequence(0..100, None).", stringify!($method), "().collect();")]
                /// let numbers = env.execute("partition")?.collected(&numbers)?;
                #[doc = concat!(
                    "assert_eq!(numbers.len(), if \"", stringify!($method), "\" == \"broadcast\" { 200 } else { 100 });"
                )]
                /// # Ok(())
                /// # }
                /// ```
                pub fn $method(self) -> DataStream<Input<P::Out>> {
                    self.exchange(UnkeyedPartitioning::$partitioning)
                }
            )*
        }
    };
}

partitioners! {
    /// Hands records round robin to all sub-tasks of the next operator: an even load, whatever came before.
    rebalance: Rebalance;
    /// Hands records round robin to a share of the next operator's sub-tasks, so that fewer pairs talk to each other.
    rescale: Rescale;
    /// Hands each record to a sub-task that is chosen by chance.
    shuffle: Shuffle;
    /// Hands each record to every sub-task of the next operator.
    broadcast: Broadcast;
    /// Hands all records to the first sub-task of the next operator.
    global: Global;
    /// Hands records to the next operator's sub-task of the same number, as within a chain, but on another thread.
    forward: Forward;
}

impl<P: Pipe> DataStream<P> {
    /// Hands each record to the sub-task of the next operator that `function` chooses: it gets the record and the
    /// number of sub-tasks, and answers which one, from 0.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::with_arguments(["-p", "2"])?;
    /// let numbers = env.generate_sequence(0..100, None);
    /// let numbers = numbers.partition_custom(|number, consumers| usize::from(*number > 9) % consumers).collect();
    /// let numbers = env.execute("partition")?.collected(&numbers)?;
    /// assert!(numbers[..10].iter().all(|number| *number < 10), "the first sub-task had the small ones");
    /// # Ok(())
    /// # }
    /// ```
    pub fn partition_custom<F>(self, function: F) -> DataStream<Input<P::Out>>
    where
        F: FnMut(&P::Out, usize) -> usize + Clone + Send + Sync + 'static,
    {
        let Self { environment, pipe, vertex, operator } = self;
        let target = environment.build(|builder| {
            let target = builder.add_vertex(builder.parallelism(vertex));
            builder.exchange_custom((vertex, operator), pipe, target, function);
            target
        });
        DataStream::arriving(environment, target, operator)
    }

    /// Ends the chain; the next one has the same parallelism unless it is given another.
    pub(super) fn exchange(self, partitioning: UnkeyedPartitioning) -> DataStream<Input<P::Out>> {
        let Self { environment, pipe, vertex, operator } = self;
        let target = environment.build(|builder| {
            let target = builder.add_vertex(builder.parallelism(vertex));
            builder.exchange(vertex, pipe, target, partitioning);
            target
        });
        DataStream::arriving(environment, target, operator)
    }
}
