//! Unit tests of operators and pipelines: elements go in one by one, the clock is set by hand, everything that comes
//! out is seen, in order.
//!
//! What runs are the real operators in real tasks with the real exchanges between them, only without a cluster. Each
//! call returns when all that it caused has happened, so a test needs neither to wait nor to guess.
//!
//! ```
//! use tidemill::testing::{TestEvent, TestHarness, TestStream};
//!
//! # fn main() -> Result<(), tidemill::Error> {
//! let mut harness = TestHarness::new(|words: TestStream<String>| {
//!     words.map(|word| (word, 1u64)).key_by(|pair| pair.0.clone()).sum(|pair| &mut pair.1)
//! })?;
//! harness.push("tide".to_owned(), 10)?;
//! harness.push("mill".to_owned(), 20)?;
//! harness.push("tide".to_owned(), 30)?;
//! assert_eq!(harness.records(), [("tide".to_owned(), 1), ("mill".to_owned(), 1), ("tide".to_owned(), 2)]);
//! harness.watermark(30)?;
//! assert_eq!(harness.take_events().last(), Some(&TestEvent::Watermark(30)));
//! # Ok(())
//! # }
//! ```
//!
//! [`TestHarness`] has one input and one output, and the side outputs of its last operator. [`TestJob`] has any number
//! of both. A job under test runs in streaming mode with parallelism 1 unless it is told otherwise; its clock begins
//! at 0. It must contain no source of its own that has no end.

mod harness;
mod job;
mod output;

pub use harness::TestHarness;
pub use job::{TestInput, TestJob, TestStream};
pub use output::TestOutput;
pub use tidemill_dataflow::harness::TestEvent;
