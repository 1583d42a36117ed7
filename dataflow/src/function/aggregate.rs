//! Aggregates whose accumulator is of another type than their records and results.

use crate::record::Data;

/// Makes one value of a window's records, taking in each as it comes, so that the records need not be kept.
///
/// # To ensure correctness
/// Taking two groups of records into accumulators of their own and merging these gives the same as taking all records
/// into one: windows that overlap share what they have in common, and sessions may become one.
pub trait Aggregate<T>: Clone + Send + Sync + 'static {
    /// What is kept while records come.
    type Accumulator: Data;
    /// The value of a key or window.
    type Out: Data;

    /// The accumulator of no records.
    fn create(&mut self) -> Self::Accumulator;

    /// Takes a record in.
    fn add(&mut self, accumulator: &mut Self::Accumulator, record: T);

    /// Takes in what another accumulator has, whose records are the later ones as a rule.
    fn merge(&mut self, into: &mut Self::Accumulator, from: Self::Accumulator);

    /// The value of an accumulator.
    fn result(&mut self, accumulator: Self::Accumulator) -> Self::Out;
}
