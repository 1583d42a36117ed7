//! What a careful programmer writes without an engine: W2 and W5 as one single-threaded loop, to compare with.
//!
//! usage: hand_written_loop w2|w5 N

use std::process::ExitCode;

use hashbrown::HashMap;
use rustix::time::{ClockId, clock_gettime};

const KEYS: u64 = 1_000_000;

/// The finaliser of splitmix64.
fn mix(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Count and digest.
fn w2(n: u64) -> (u64, u64) {
    let mut state: HashMap<u64, (u64, u64)> = HashMap::new();
    let mut digest = 0u64;
    for i in 0..n {
        let r = mix(i);
        let (key, value) = (r % KEYS, (r >> 32) % 1000);
        let (count, sum) = state.entry(key).or_default();
        *count += 1;
        *sum = sum.wrapping_add(value);
        digest = digest.wrapping_add(mix(key ^ mix(*count)));
    }
    // The sums are wanted, too: without this the compiler may leave them out.
    std::hint::black_box(&state);
    (n, digest)
}

fn w5(n: u64) -> (u64, u64) {
    let (mut count, mut digest) = (0, 0u64);
    for i in 0..n {
        let r = mix(i);
        let (auction, price) = (r % 100_000, (r >> 20) % 10_000_000);
        let price = price * 908 / 1000;
        if auction % 123 == 0 {
            count += 1;
            digest = digest.wrapping_add(mix(auction ^ mix(price)));
        }
    }
    (count, digest)
}

/// Seconds and peak megabytes, as far as they matter here.
fn usage() -> (f64, f64, f64) {
    let seconds = |clock| {
        let time = clock_gettime(clock);
        let whole = f64::from(i32::try_from(time.tv_sec).unwrap_or(i32::MAX));
        whole + f64::from(i32::try_from(time.tv_nsec).unwrap_or(0)) / 1e9
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes: u32 = peak.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    (seconds(ClockId::Monotonic), seconds(ClockId::ProcessCPUTime), f64::from(kilobytes) / 1000.0)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let parsed = match arguments.as_slice() {
        [workload, n] => n.parse::<u32>().ok().map(|n| (workload.as_str(), n)),
        _ => None,
    };
    let (start, cpu_before, _) = usage();
    let (workload, n, (count, digest)) = match parsed {
        Some(("w2", n)) => ("w2", n, w2(u64::from(n))),
        Some(("w5", n)) => ("w5", n, w5(u64::from(n))),
        Some(_) | None => {
            eprintln!("usage: hand_written_loop w2|w5 N");
            return ExitCode::FAILURE;
        }
    };
    let (end, cpu_after, rss) = usage();
    let (seconds, cpu, events) = (end - start, cpu_after - cpu_before, f64::from(n));
    println!(
        r#"{{"workload":"{workload}","engine":"loop","n":{n},"p":1,"seconds":{seconds:.3},"events_per_s":{:.0},"cpu_s":{cpu:.3},"events_per_cpu_s":{:.0},"count":{count},"digest":"{digest:016x}","checkpoints":0,"rss_mb":{rss:.1}}}"#,
        events / seconds,
        events / cpu,
    );
    ExitCode::SUCCESS
}
