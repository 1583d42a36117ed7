//! Where operators run: parallelism, chains, and who shares slots with whom.

use tidemill_dataflow::flow::UnkeyedPartitioning;
use tidemill_dataflow::pipe::{Chaining, Input, Pipe, Placement};

use super::DataStream;

impl<P: Pipe> DataStream<P> {
    /// Sets how many sub-tasks the last operator has.
    ///
    /// Where it differs from the input's, records are handed round robin from one to the other; else they stay in one
    /// chain.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let numbers = env.generate_sequence(0..10, None).set_parallelism(1);
    /// let squares = numbers.map(|number| number * number).set_parallelism(3).collect();
    /// # let mut squares = env.execute("squares")?.collected(&squares)?;
    /// # squares.sort();
    /// # assert_eq!(squares, (0..10).map(|number| number * number).collect::<Vec<u64>>());
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_parallelism(self, parallelism: u32) -> DataStream<P::Placed> {
        self.place(parallelism, Chaining::Allowed)
    }

    /// Has the last operator begin a chain of its own, on a thread of its own.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let squares = env.generate_sequence(0..3, None).map(|number| number * number).start_new_chain();
    /// let squares = squares.collect();
    /// assert_eq!(env.execute("squares")?.collected(&squares)?.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_new_chain(self) -> DataStream<P::Placed> {
        let parallelism = self.environment.build(|builder| builder.parallelism(self.vertex));
        self.place(parallelism, Chaining::Broken)
    }

    /// Has the last operator run alone: neither what precedes it nor what follows is in its chain. Call it after the
    /// operator's other settings.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let squares = env.generate_sequence(0..3, None).map(|number| number * number).disable_chaining();
    /// let squares = squares.filter(|square| *square > 0).collect();
    /// assert_eq!(env.execute("squares")?.collected(&squares)?.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn disable_chaining(self) -> DataStream<Input<P::Out>> {
        self.start_new_chain().exchange(UnkeyedPartitioning::Forward)
    }

    /// Puts the last operator, and what follows it until another group is named, into a slot sharing group: its
    /// sub-tasks share slots only with those of the same group. The operator begins a chain of its own.
    ///
    /// A job needs, for each group, as many slots as the group's largest parallelism.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let numbers = env.generate_sequence(0..3, None).map(|number| number + 1).slot_sharing_group("heavy").collect();
    /// assert_eq!(env.execute("groups")?.collected(&numbers)?.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn slot_sharing_group(self, group: &str) -> DataStream<P::Placed> {
        let stream = self.start_new_chain();
        stream.environment.build(|builder| builder.set_slot_sharing_group(stream.vertex, group));
        stream
    }

    /// Has the i-th sub-tasks of this chain and of the other one run in one slot. Both must have the same parallelism
    /// and slot sharing group; `execute` says so otherwise.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let left = env.generate_sequence(0..3, None);
    /// let right = env.generate_sequence(3..6, None).co_locate_with(&left);
    /// let both = left.union(right).collect();
    /// assert_eq!(env.execute("together")?.collected(&both)?.len(), 6);
    /// # Ok(())
    /// # }
    /// ```
    pub fn co_locate_with<Q: Pipe>(self, other: &DataStream<Q>) -> Self {
        self.environment.build(|builder| builder.co_locate(self.vertex, other.vertex));
        self
    }

    fn place(self, parallelism: u32, chaining: Chaining) -> DataStream<P::Placed> {
        let (vertex, pipe) = self.environment.build(|builder| {
            let mut placement = Placement::new(builder, self.vertex, parallelism, chaining);
            let pipe = self.pipe.place(&mut placement);
            (placement.vertex(), pipe)
        });
        DataStream { environment: self.environment, pipe, vertex, operator: self.operator }
    }
}
