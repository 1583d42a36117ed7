//! The table of a benchmark's runs, above what peers reached elsewhere.

use std::fmt::Write;

use super::run::Run;

/// What a workload must give: count and digest.
pub(super) fn expected(workload: &str, events: u64) -> Option<(u64, &'static str)> {
    match (workload, events) {
        ("w2", 50_000_000) => Some((50_000_000, "b74752d9aab3faa6")),
        ("w2", 20_000_000) => Some((20_000_000, "afb4c94c67531dcd")),
        ("w5", 50_000_000) => Some((407_191, "603876e455967b52")),
        ("w5", 12_000_000) => Some((97_817, "0691c1240e511b18")),
        _ => None,
    }
}

/// Peers' figures on a machine of this kind: workload, who, millions of events per CPU-second and per second.
const PEERS: &[(&str, &str, &str, &str)] = &[
    ("w1", "Flink 2.2.1", "0.54, 3.8 with a combiner by hand", "0.88, 6.4"),
    ("w1", "Renoir 0.6", "2.6, 4.8 pre-aggregated", "4.8, 8.5"),
    ("w1", "timely 0.32", "2.2", "3.4"),
    ("w1", "hand-written loop", "7.0", "6.9"),
    ("w2", "Flink 2.2.1", "0.49 with checkpoints, 1.0 without", "0.84, 1.8"),
    ("w2", "Renoir 0.6", "3.4", "5.6, two processes 6.4"),
    ("w2", "timely 0.32", "6.5", "10.6, two processes 9.5"),
    ("w5", "Flink 2.2.1", "13 to 21", "-"),
    ("w5", "Renoir 0.6", "294", "-"),
    ("w5", "timely 0.32", "72", "-"),
];

/// Peers' latencies: who, p50 and p99 in milliseconds.
const LATENCIES: &[(&str, &str, &str)] = &[
    ("Flink 2.2.1", "15, 0.66 with 1 ms buffers", "36, 9.4"),
    ("Renoir 0.6", "0.67", "2.5"),
    ("timely 0.32", "0.027", "0.18"),
];

/// Markdown, to be pasted into the documentation.
pub(super) fn table(runs: &[Run]) -> String {
    let mut text = String::new();
    let mut row = |cells: &[&str]| {
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    };
    row(&["workload", "run", "million events per CPU-second", "million events per second", "peak memory, MB"]);
    row(&["---"; 5]);
    for run in runs.iter().filter(|run| run.latencies.is_none()) {
        let form = format!("{}, parallelism {}", run.form, run.parallelism);
        let (cpu_rate, rate) = (format!("{:.1}", run.cpu_rate()), format!("{:.1}", run.rate()));
        row(&[&run.workload, &form, &cpu_rate, &rate, &format!("{:.0}", run.memory_mb)]);
    }
    for (workload, peer, cpu_rate, rate) in PEERS {
        if runs.iter().any(|run| run.workload == *workload) {
            row(&[workload, &format!("{peer}, as listed"), cpu_rate, rate, "-"]);
        }
    }
    if runs.iter().all(|run| run.latencies.is_none()) {
        return text;
    }
    row(&[""]);
    row(&["latency", "p50, ms", "p99, ms", "p99.9, ms", "max, ms"]);
    row(&["---"; 5]);
    for run in runs {
        if let Some(latencies) = run.latencies {
            let cells = latencies.map(|latency| format!("{latency:.3}"));
            let [p50, p99, p999, max] = &cells;
            row(&[&format!("w6, {}, parallelism {}", run.form, run.parallelism), p50, p99, p999, max]);
        }
    }
    for (peer, p50, p99) in LATENCIES {
        row(&[&format!("w6, {peer}, as listed"), p50, p99, "-", "-"]);
    }
    text
}
