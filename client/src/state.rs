//! Keyed state: what a function remembers for each key, from one record to the next.
//!
//! A function asks for its states by name when it is opened, and keeps the handles it is given. A handle is used with
//! the context of the record or timer at hand, and means the state of that context's key.
//!
//! ```
//! # fn main() -> Result<(), tidemill::Error> {
//! use std::time::Duration;
//! use tidemill::{
//!     AggregatingState, Aggregate, Collector, KeyedContext, KeyedProcessFunction, ListState, MapState, ReducingState,
//!     StateDescriptor, StateRegistry, TimeToLive, UserError, ValueState,
//! };
//!
//! /// The mean of numbers.
//! #[derive(Clone)]
//! struct Mean;
//!
//! impl Aggregate<u64> for Mean {
//!     type Accumulator = (u64, u64);
//!     type Out = u64;
//!
//!     fn create(&mut self) -> (u64, u64) {
//!         (0, 0)
//!     }
//!
//!     fn add(&mut self, (sum, count): &mut (u64, u64), number: u64) {
//!         (*sum, *count) = (*sum + number, *count + 1);
//!     }
//!
//!     fn merge(&mut self, (sum, count): &mut (u64, u64), other: (u64, u64)) {
//!         (*sum, *count) = (*sum + other.0, *count + other.1);
//!     }
//!
//!     fn result(&mut self, (sum, count): (u64, u64)) -> u64 {
//!         sum / count
//!     }
//! }
//!
//! /// Says of each key what is known when its third number comes.
//! #[derive(Clone, Default)]
//! struct Statistics {
//!     first: ValueState<u64>,
//!     all: ListState<u64>,
//!     how_often: MapState<u64, u64>,
//!     largest: ReducingState<u64>,
//!     mean: AggregatingState<u64, Mean>,
//! }
//!
//! impl KeyedProcessFunction<char, (char, u64)> for Statistics {
//!     type Out = String;
//!
//!     fn open(&mut self, states: &mut StateRegistry<'_, char>) -> Result<(), UserError> {
//!         self.first = states.value("first")?;
//!         self.all = states.list("all")?;
//!         let one_day = TimeToLive::new(Duration::from_secs(24 * 60 * 60));
//!         self.how_often = states.map(StateDescriptor::new("how often").with_time_to_live(one_day))?;
//!         self.largest = states.reducing("largest", |largest, number: u64| *largest = number.max(*largest))?;
//!         self.mean = states.aggregating("mean", Mean)?;
//!         Ok(())
//!     }
//!
//!     fn process(
//!         &mut self, (key, number): (char, u64), context: &mut KeyedContext<'_, char>, out: &mut Collector<String>,
//!     ) -> Result<(), UserError> {
//!         let first = *self.first.get_or_insert_with(context, || number);
//!         self.all.add(context, number);
//!         let count = self.how_often.get(context, &number).copied().unwrap_or_default();
//!         self.how_often.put(context, number, count + 1);
//!         self.largest.add(context, number);
//!         self.mean.add(context, number);
//!         if self.all.get(context).len() == 3 {
//!             let largest = self.largest.get(context).copied().unwrap_or_default();
//!             let (mean, distinct) = (self.mean.get(context).unwrap_or_default(), self.how_often.iter(context).count());
//!             out.emit(format!("{key}: {first} first, {largest} at most, {mean} in the mean, {distinct} distinct"));
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # let env = tidemill::Environment::with_arguments(["-p", "1"])?;
//! let numbers = env.from_collection(vec![('a', 5), ('b', 8), ('a', 11), ('b', 1), ('a', 5)]);
//! let lines = numbers.key_by(|pair| pair.0).process(Statistics::default()).collect();
//! assert_eq!(env.execute("statistics")?.collected(&lines)?, ["a: 5 first, 11 at most, 7 in the mean, 2 distinct"]);
//! # Ok(())
//! # }
//! ```
//!
//! A state with a [`TimeToLive`] goes by the clock of the machine. What has ended is never seen again; it is taken out
//! when it is looked for, or, a few slots with each batch, while records come.

pub use tidemill_dataflow::state::{
    AggregatingState, ListState, MapState, ReducingState, StateDescriptor, StateRegistry, TimeToLive, ValueState,
};
