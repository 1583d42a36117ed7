//! `union`: several streams of one type become one.

use tidemill_dataflow::flow::{FlowBuilder, UnkeyedPartitioning, VertexIndex};
use tidemill_dataflow::pipe::{Input, Pipe};

use super::DataStream;

/// One to one where the parallelism is the same, else round robin.
pub(super) fn one_to_one(builder: &FlowBuilder, from: VertexIndex, to: VertexIndex) -> UnkeyedPartitioning {
    let same = builder.parallelism(from) == builder.parallelism(to);
    if same { UnkeyedPartitioning::Forward } else { UnkeyedPartitioning::Rebalance }
}

impl<P: Pipe> DataStream<P> {
    /// The records of both streams, in no particular order between them; watermarks are the lower of both.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let small = env.generate_sequence(0..3, None);
    /// let large = env.from_collection(vec![100, 200]);
    /// let numbers = small.union(large).collect();
    /// # let mut numbers = env.execute("union")?.collected(&numbers)?;
    /// # numbers.sort();
    /// assert_eq!(numbers, [0, 1, 2, 100, 200]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn union<Q: Pipe<Out = P::Out>>(self, other: DataStream<Q>) -> DataStream<Input<P::Out>> {
        let Self { environment, pipe, vertex, operator } = self;
        let target = environment.build(|builder| {
            let target = builder.add_vertex(builder.parallelism(vertex));
            let partitioning = one_to_one(builder, other.vertex, target);
            builder.exchange(vertex, pipe, target, UnkeyedPartitioning::Forward);
            builder.exchange(other.vertex, other.pipe, target, partitioning);
            target
        });
        DataStream::arriving(environment, target, operator)
    }
}
