//! The edges of every operator, in the test harness.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do fails the test")]

mod ends;
mod keyed;
mod stateless;
mod time;
mod timers;
mod two_inputs;

use tidemill::testing::TestEvent::{self, EndOfInput, Record, Watermark};

/// What comes out of an operator that has nothing to say when its input ends.
fn silent_end<T>() -> Vec<TestEvent<T>> {
    vec![Watermark(i64::MAX), EndOfInput]
}

/// Records without event times.
fn untimed<T>(records: impl IntoIterator<Item = T>) -> Vec<TestEvent<T>> {
    records.into_iter().map(|record| Record(record, None)).collect()
}
