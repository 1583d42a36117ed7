//! The micro-benchmarks of the hot path: chains, exchanges, keyed state, windows, and the codec.
//!
//! All times are CPU times, so neighbours on the machine disturb them little. Where a job is measured, it is a real one
//! that runs on while the measurements are taken: its source never ends, and its sink stops it between two of them.

mod chain;
mod codec;
mod cpu;
mod exchange;
mod job;
mod meter;
mod state;
mod window;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    // Short, as each iteration handles many records already.
    let criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    let mut criterion = criterion.configure_from_args();
    chain::benches(&mut criterion);
    exchange::benches(&mut criterion);
    state::benches(&mut criterion);
    window::benches(&mut criterion);
    codec::benches(&mut criterion);
    criterion.final_summary();
}

/// The finaliser of splitmix64: numbers that look random.
fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
