//! Back-pressure in an embedded cluster: how far sources run ahead of a slow sink, and cancelling what is stuck.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidemill::{Environment, Error, SinkFunction, Subtask, UserError};

fn environment(parallelism: u32) -> Environment {
    let parallelism = parallelism.to_string();
    Environment::with_arguments(["-p", &parallelism, "-D", "restart-strategy.type=none"]).unwrap()
}

/// Batches that can be under way to one consumer from one producer, generously: the queue, and those being filled,
/// sent and taken.
const BATCHES_UNDER_WAY: u64 = 16 + 4;
const RECORDS_PER_BATCH: u64 = 1024;

#[test]
fn a_slow_sink_makes_the_sources_wait() {
    for parallelism in 1..=3u32 {
        let env = environment(parallelism);
        let emitted = Arc::new(AtomicU64::new(0));
        let (counted, total) = (Arc::clone(&emitted), 500_000);
        let numbers = env.generate(
            0..total,
            move |number| {
                counted.fetch_add(1, Ordering::SeqCst);
                number
            },
            None,
        );
        let (mut taken, ahead) = (0, Arc::new(AtomicU64::new(0)));
        let seen = Arc::clone(&ahead);
        let slow = move |_| {
            if taken == 0 {
                // Until the sources stand still.
                let mut before = 0;
                while emitted.load(Ordering::SeqCst) != before {
                    before = emitted.load(Ordering::SeqCst);
                    (0..1000).for_each(|_| std::thread::yield_now());
                }
            }
            taken += 1;
            seen.fetch_max(emitted.load(Ordering::SeqCst) - taken, Ordering::SeqCst);
        };
        numbers.rebalance().set_parallelism(1).map(|number| number).for_each(slow).set_parallelism(1);
        env.execute("slow").unwrap();
        let (ahead, bound) =
            (ahead.load(Ordering::SeqCst), u64::from(parallelism) * BATCHES_UNDER_WAY * RECORDS_PER_BATCH);
        assert!(ahead <= bound, "{parallelism} sources ran {ahead} records ahead, more than {bound}");
        assert!(ahead >= RECORDS_PER_BATCH, "the sources never ran ahead: {ahead}");
    }
}

/// Sub-task 0 takes nothing more until sub-task 1 has failed, which it does when nothing more comes.
#[derive(Clone)]
struct Stuck {
    subtask: u32,
    taken: u64,
    failed: Arc<AtomicBool>,
}

impl SinkFunction<u64> for Stuck {
    fn open(&mut self, subtask: Subtask) -> Result<(), UserError> {
        self.subtask = subtask.index;
        Ok(())
    }

    fn write(&mut self, _number: u64, _time: i64) -> Result<(), UserError> {
        self.taken += 1;
        while self.subtask == 0 && !self.failed.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), UserError> {
        if self.subtask == 1 && self.taken >= 16 * RECORDS_PER_BATCH {
            self.failed.store(true, Ordering::SeqCst);
            return Err("everything is stuck".into());
        }
        Ok(())
    }
}

#[test]
fn a_job_is_cancelled_while_everything_is_blocked() {
    let env = environment(1);
    let stuck = Stuck { subtask: 0, taken: 0, failed: Arc::default() };
    env.generate_sequence(0.., None).rebalance().set_parallelism(2).sink_to(stuck);
    let Err(Error::JobFailed { failure, .. }) = env.execute("stuck") else { panic!("it ended in another way") };
    assert_eq!(failure.message, "everything is stuck");
}
