//! The sink that measures: it says after each block of records what its thread has used, and waits until it is heard.

use std::hint::black_box;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use tidemill_dataflow::record::Timestamp;
use tidemill_dataflow::runtime::sink::{SinkFunction, UserError};

use crate::cpu;

/// The records of a block: so many that telling about them costs nothing.
pub(crate) const BLOCK: u64 = 1 << 18;

/// Takes records; a clone of it is in each sub-task of the sink.
#[derive(Clone)]
pub(crate) struct Meter {
    taken: u64,
    before: Duration,
    blocks: Sender<Duration>,
}

/// A meter, and where it tells of its blocks; when that is dropped, the job fails and so ends.
pub(crate) fn meter() -> (Meter, Receiver<Duration>) {
    let (blocks, heard) = bounded(1);
    (Meter { taken: 0, before: Duration::ZERO, blocks }, heard)
}

impl<T> SinkFunction<T> for Meter {
    #[inline]
    fn write(&mut self, record: T, _time: Timestamp) -> Result<(), UserError> {
        black_box(record);
        self.taken += 1;
        if self.taken == BLOCK { self.tell() } else { Ok(()) }
    }
}

impl Meter {
    #[cold]
    #[inline(never)]
    fn tell(&mut self) -> Result<(), UserError> {
        let now = cpu::of_thread();
        self.blocks.send(now - self.before)?;
        self.taken = 0;
        self.before = cpu::of_thread();
        Ok(())
    }
}
