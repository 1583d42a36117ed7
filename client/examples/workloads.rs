//! The benchmark's workloads, as a user would write them; each run prints one line of JSON.
//!
//! usage: workloads w1 --input TEXT --output FOLDER
//!        workloads w2|w5 [--n EVENTS] [--keys KEYS]
//!        workloads w6 [--seconds SECONDS] [--keys KEYS]
//!
//! Tidemill's own arguments, such as `--parallelism 2` or `--coordinators host:port,...`, may stand anywhere.

use std::process::ExitCode;

use rustix::time::{ClockId, clock_gettime};
use tidemill::{Counter, Environment, Error, JobExecutionResult, RuntimeMode, SinkFunction, SmolStr, UserError};

/// The different keys of W2 and W6, unless told otherwise.
const KEYS: u64 = 1_000_000;
/// Events per second of W6, of all sub-tasks together.
const RATE: u64 = 100_000;
/// The seconds of W6 that are not measured.
const WARM_UP_SECONDS: u64 = 10;

/// The finaliser of splitmix64.
fn mix(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Takes records into the job's counters, which bring them back from wherever the sub-tasks ran.
#[derive(Clone)]
struct Digest<F> {
    hash: F,
    count: u64,
    digest: u64,
    counters: [Counter; 2],
}

impl<F> Digest<F> {
    fn new(env: &Environment, hash: F) -> Self {
        Self { hash, count: 0, digest: 0, counters: [env.counter("count"), env.counter("digest")] }
    }
}

impl<T, F: Fn(&T) -> u64 + Clone + Send + Sync + 'static> SinkFunction<T> for Digest<F> {
    #[inline]
    fn write(&mut self, record: T, _time: i64) -> Result<(), UserError> {
        self.count += 1;
        self.digest = self.digest.wrapping_add((self.hash)(&record));
        Ok(())
    }

    fn finish(&mut self) -> Result<(), UserError> {
        self.counters[0].add(self.count.cast_signed());
        self.counters[1].add(self.digest.cast_signed());
        Ok(())
    }
}

/// How long records took, in buckets that grow by an eighth of a power of two.
#[derive(Clone)]
struct Latencies {
    buckets: Vec<u64>,
    counters: Vec<Counter>,
    measured_from: u64,
}

/// The first buckets have a width of one microsecond; the last one begins after more than an hour.
const BUCKETS: usize = 256;

fn bucket(micros: u64) -> usize {
    let small = usize::try_from(micros).unwrap_or(usize::MAX);
    if small < 8 {
        return small;
    }
    let power = micros.ilog2() as usize;
    let eighth = usize::try_from((micros >> (power - 3)) & 7).expect("three bits");
    ((power - 2) * 8 + eighth).min(BUCKETS - 1)
}

/// The microseconds at which a bucket begins.
fn begin_of(bucket: usize) -> u64 {
    if bucket < 8 { bucket as u64 } else { (8 + (bucket as u64 % 8)) << (bucket / 8 - 1) }
}

fn monotonic_nanos() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

impl SinkFunction<(u64, (u64, u64, u64))> for Latencies {
    fn write(&mut self, (_, (_, _, stamp)): (u64, (u64, u64, u64)), _time: i64) -> Result<(), UserError> {
        if stamp >= self.measured_from {
            self.buckets[bucket((monotonic_nanos() - stamp) / 1000)] += 1;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), UserError> {
        for (counter, count) in self.counters.iter().zip(&self.buckets) {
            counter.add(count.cast_signed());
        }
        Ok(())
    }
}

/// What a run is told.
struct Options {
    n: u64,
    keys: u64,
    seconds: u64,
    input: String,
    output: String,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<(String, Self), Error> {
        let usage = || {
            let usage = "usage: workloads w1 --input TEXT --output FOLDER | w2 [--n N] | w5 [--n N] | w6 [--seconds S]";
            Error::Arguments(usage.to_owned())
        };
        let mut options = Self { n: 50_000_000, keys: KEYS, seconds: 30, input: String::new(), output: String::new() };
        let (workload, mut rest) = arguments.split_first().ok_or_else(usage)?;
        while let [name, value, others @ ..] = rest {
            match name.as_str() {
                "--n" => options.n = value.parse().map_err(|_| usage())?,
                "--keys" => options.keys = value.parse().ok().filter(|keys| *keys > 0).ok_or_else(usage)?,
                "--seconds" => options.seconds = value.parse().map_err(|_| usage())?,
                "--input" => options.input.clone_from(value),
                "--output" => options.output.clone_from(value),
                _ => return Err(usage()),
            }
            rest = others;
        }
        let missing = workload == "w1" && (options.input.is_empty() || options.output.is_empty());
        if rest.is_empty() && !missing { Ok((workload.clone(), options)) } else { Err(usage()) }
    }
}

/// The lower-case words of a line: runs of ASCII letters, digits and underscores.
fn split_words(line: &str, mut take: impl FnMut(SmolStr)) {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    for word in line.as_bytes().split(|byte| !letter(byte)).filter(|word| !word.is_empty()) {
        let mut lower = [0u8; 64];
        match lower.get_mut(..word.len()) {
            Some(lower) => {
                lower.copy_from_slice(word);
                lower.make_ascii_lowercase();
                take(SmolStr::new(str::from_utf8(lower).expect("ASCII letters")));
            }
            None => take(SmolStr::new(String::from_utf8_lossy(word).to_lowercase())),
        }
    }
}

fn w1(env: &Environment, options: &Options) -> Result<JobExecutionResult, Error> {
    let count = env.counter("count");
    env.read_text_file(&options.input)
        .flat_map_into(move |line: String, words| {
            split_words(&line, |word| words.push((word, 1u64)));
            count.add(i64::try_from(words.len()).unwrap_or(i64::MAX));
        })
        .key_by_ref(|pair| &pair.0)
        .sum(|pair| &mut pair.1)
        .write_as_csv(&options.output, "\n", " ");
    env.execute("w1")
}

fn w2(env: &Environment, options: &Options) -> Result<JobExecutionResult, Error> {
    env.set_runtime_mode(RuntimeMode::Streaming);
    let (n, keys, step, total) = (options.n, options.keys, u64::from(env.parallelism()), env.counter("total"));
    let mut sum = 0i64;
    env.generate_sequence(0..n, None)
        .uid("numbers")
        .map(move |i| {
            let r = mix(i);
            let value = (r >> 32) % 1000;
            sum = sum.wrapping_add(value.cast_signed());
            if i + step >= n {
                total.add(sum);
            }
            (r % keys, value)
        })
        .uid("events")
        .key_by(|event| event.0)
        .fold((0u64, 0u64), |(count, sum), event| {
            *count += 1;
            *sum = sum.wrapping_add(event.1);
        })
        .uid("sums")
        .sink_to(Digest::new(env, |&(key, (count, _)): &(u64, (u64, u64))| mix(key ^ mix(count))))
        .uid("digest");
    env.execute("w2")
}

fn w5(env: &Environment, options: &Options) -> Result<JobExecutionResult, Error> {
    env.generate_sequence(0..options.n, None)
        .map(|i| {
            let r = mix(i);
            (r % 100_000, (r >> 20) % 10_000_000)
        })
        .map(|(auction, price)| (auction, price * 908 / 1000))
        .filter(|(auction, _)| auction % 123 == 0)
        .sink_to(Digest::new(env, |&(auction, price): &(u64, u64)| mix(auction ^ mix(price))));
    env.execute("w5")
}

fn w6(env: &Environment, options: &Options) -> Result<JobExecutionResult, Error> {
    env.set_runtime_mode(RuntimeMode::Streaming);
    let counters = (0..BUCKETS).map(|bucket| env.counter(&format!("bucket-{bucket:03}"))).collect();
    let measured_from = monotonic_nanos() + WARM_UP_SECONDS * 1_000_000_000;
    let events = (WARM_UP_SECONDS + options.seconds) * RATE;
    let keys = options.keys;
    env.generate_sequence(0..events, Some(RATE))
        .uid("numbers")
        .map(move |i| {
            let r = mix(i);
            (r % keys, (r >> 32) % 1000, monotonic_nanos())
        })
        .uid("events")
        .key_by(|event| event.0)
        .fold((0u64, 0u64, 0u64), |(count, sum, stamp), event| {
            *count += 1;
            *sum = sum.wrapping_add(event.1);
            *stamp = event.2;
        })
        .uid("sums")
        .sink_to(Latencies { buckets: vec![0; BUCKETS], counters, measured_from })
        .uid("latencies");
    env.execute("w6")
}

/// Latencies at some quantiles, in milliseconds, as JSON members.
fn quantiles(result: &JobExecutionResult) -> String {
    let count = |bucket: usize| result.counter(&format!("bucket-{bucket:03}")).unwrap_or(0);
    let total: i64 = (0..BUCKETS).map(count).sum();
    let at = |per_mille: i64| {
        let mut seen = 0;
        let bucket = (0..BUCKETS).find(|&bucket| {
            seen += count(bucket);
            seen > 0 && seen * 1000 >= total * per_mille
        });
        // The end of the bucket: nothing in it took longer.
        bucket.map_or(0.0, |bucket| f64::from(u32::try_from(begin_of(bucket + 1)).unwrap_or(u32::MAX)) / 1000.0)
    };
    let (p50, p99, p999, max) = (at(500), at(990), at(999), at(1000));
    format!(r#","measured":{total},"p50_ms":{p50},"p99_ms":{p99},"p99_9_ms":{p999},"max_ms":{max}"#)
}

/// CPU seconds of this process so far, and the most memory that it had, in megabytes.
fn process_usage() -> (f64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes: u32 = peak.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = f64::from(i32::try_from(cpu.tv_sec).unwrap_or(i32::MAX));
    (seconds + f64::from(i32::try_from(cpu.tv_nsec).unwrap_or(0)) / 1e9, f64::from(kilobytes) / 1000.0)
}

/// Whether the work is done elsewhere, so that this process's own CPU time and memory say nothing of it.
fn on_a_cluster() -> bool {
    std::env::args().any(|argument| argument.starts_with("--coordinators"))
        || std::env::var_os("TIDEMILL_COORDINATORS").is_some()
}

/// Megabytes, seconds and rates are read by people: three digits after the point are enough.
fn print(workload: &str, env: &Environment, n: u64, result: &JobExecutionResult, before: f64) {
    let (cpu, rss) = process_usage();
    let (seconds, cpu) = (result.net_runtime().as_secs_f64(), cpu - before);
    let events = f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let member = |name: &str, counter: &str| {
        result.counter(counter).map_or(String::new(), |value| format!(r#","{name}":{value}"#))
    };
    let digest = result.counter("digest").map_or(String::new(), |digest| format!(r#","digest":"{digest:016x}""#));
    let own = |figure: String| if on_a_cluster() { "null".to_owned() } else { figure };
    let (cpu_seconds, cpu_rate) = (own(format!("{cpu:.3}")), own(format!("{:.0}", events / cpu)));
    let rss = own(format!("{rss:.1}"));
    let latencies = if workload == "w6" { quantiles(result) } else { String::new() };
    println!(
        r#"{{"workload":"{workload}","engine":"tidemill","n":{n},"p":{},"seconds":{seconds:.3},"events_per_s":{:.0},"cpu_s":{cpu_seconds},"events_per_cpu_s":{cpu_rate}{}{digest}{},"rss_mb":{rss}{latencies}}}"#,
        env.parallelism(),
        events / seconds,
        member("count", "count"),
        member("total", "total"),
    );
}

fn run() -> Result<(), Error> {
    let env = Environment::from_args()?;
    let (workload, options) = Options::parse(env.args())?;
    let (before, _) = process_usage();
    let (n, result) = match workload.as_str() {
        "w1" => {
            let result = w1(&env, &options)?;
            (result.counter("count").unwrap_or(0).unsigned_abs(), result)
        }
        "w2" => (options.n, w2(&env, &options)?),
        "w5" => (options.n, w5(&env, &options)?),
        "w6" => ((WARM_UP_SECONDS + options.seconds) * RATE, w6(&env, &options)?),
        other => return Err(Error::Arguments(format!("workload {other:?} is not one of w1, w2, w5 and w6"))),
    };
    print(&workload, &env, n, &result, before);
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
