//! `share`: one stream for several readers.

use tidemill_dataflow::flow::{OperatorIndex, VertexIndex};
use tidemill_dataflow::pipe::{Input, Pipe};
use tidemill_dataflow::record::Data;
use tidemill_model::job_graph::Partitioning;

use super::DataStream;
use crate::environment::Environment;

/// A stream that may be read any number of times.
///
/// ```
/// # fn main() -> Result<(), tidemill::Error> {
/// # let env = tidemill::Environment::from_args()?;
/// let numbers = env.generate_sequence(0..10, None).share();
/// let even = numbers.stream().filter(|number| number % 2 == 0).collect();
/// let odd = numbers.stream().filter(|number| number % 2 == 1).collect();
/// let result = env.execute("share")?;
/// assert_eq!((result.collected(&even)?.len(), result.collected(&odd)?.len()), (5, 5));
/// # Ok(())
/// # }
/// ```
pub struct Shared<T> {
    environment: Environment,
    vertex: VertexIndex,
    operator: OperatorIndex,
    records: std::marker::PhantomData<fn() -> T>,
}

impl<P: Pipe> DataStream<P> {
    /// Ends the chain, so that several others can read what it makes; each gets every record.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let numbers = env.generate_sequence(0..10, None).share();
    /// let counts = numbers.stream().key_by(|number| number % 2).count().collect();
    /// let all = numbers.stream().collect();
    /// let result = env.execute("share")?;
    /// assert_eq!((result.collected(&counts)?.len(), result.collected(&all)?.len()), (2, 10));
    /// # Ok(())
    /// # }
    /// ```
    pub fn share(self) -> Shared<P::Out> {
        let Self { environment, pipe, vertex, operator } = self;
        environment.build(|builder| builder.end_in_port(vertex, pipe));
        Shared { environment, vertex, operator, records: std::marker::PhantomData }
    }
}

impl<T: Data> Shared<T> {
    /// Another reader of all records.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let numbers = env.generate_sequence(0..3, None).share();
    /// let numbers = numbers.stream().collect();
    /// assert_eq!(env.execute("share")?.collected(&numbers)?.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream(&self) -> DataStream<Input<T>> {
        let target = self.environment.build(|builder| {
            let target = builder.add_vertex(builder.parallelism(self.vertex));
            builder.link(self.vertex, target, Partitioning::Forward);
            target
        });
        DataStream::arriving(self.environment.clone(), target, self.operator)
    }
}
