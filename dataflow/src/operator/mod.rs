//! The operators: each a description (a [`Pipe`](crate::pipe::Pipe)) and a fused form (a [`Push`](crate::push::Push)).

mod combine;
mod filter;
mod flat_map;
mod map;
mod reduce;
mod table;

pub use filter::Filter;
pub use flat_map::FlatMap;
pub use map::Map;
pub use reduce::Reduce;

pub(crate) use combine::Combine;
