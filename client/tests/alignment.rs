//! Watermark alignment in an embedded cluster: how far a source gets ahead of others of its group.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::{
    Boundedness, Discovery, Environment, Error, Reading, RuntimeMode, Source, SourceOutput, SplitEnumerator,
    SplitReader, UserError, WatermarkStrategy,
};

const DRIFT: i64 = 500;
const BATCH: i64 = 100;
const SLOW_END: i64 = 2_000;
const FAST_END: i64 = 20_000;

/// What a slow split does when it has reached its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    End,
    /// Nothing, until all fast ones have ended.
    Silence,
    Error,
}

/// What all splits of a test know of each other.
#[derive(Debug)]
struct Race {
    then: Then,
    /// The last times of the slow split and of the fast one.
    slow: AtomicI64,
    fast: AtomicI64,
    /// How far the fast split was ahead at most, while the slow one had not ended.
    ahead: AtomicI64,
    slow_has_ended: AtomicBool,
}

impl Race {
    fn new(then: Then) -> Arc<Self> {
        let (slow, fast, ahead) = (AtomicI64::new(0), AtomicI64::new(0), AtomicI64::new(0));
        Arc::new(Self { then, slow, fast, ahead, slow_has_ended: AtomicBool::new(false) })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Split {
    Slow { last: i64 },
    Fast { last: i64 },
}

const SLOW: Split = Split::Slow { last: 0 };
const FAST: Split = Split::Fast { last: 0 };

#[derive(Clone)]
struct Racer {
    splits: Vec<Split>,
    boundedness: Boundedness,
    race: Arc<Race>,
}

impl Source for Racer {
    type Out = i64;
    type Split = Split;
    type Enumerator = Once;
    type Reader = RacerReader;

    fn boundedness(&self) -> Boundedness {
        self.boundedness
    }

    fn enumerator(&self, _readers: u32, _restored: Option<()>) -> Result<Once, UserError> {
        Ok(Once(self.splits.clone()))
    }

    fn reader(&self, split: Split) -> Result<RacerReader, UserError> {
        Ok(RacerReader { split, race: Arc::clone(&self.race) })
    }
}

struct Once(Vec<Split>);

impl SplitEnumerator for Once {
    type Split = Split;
    type State = ();

    fn state(&self) {}

    fn discover(&mut self) -> Result<Discovery<Split>, UserError> {
        let splits = std::mem::take(&mut self.0);
        Ok(if splits.is_empty() { Discovery::Done } else { Discovery::Splits(splits) })
    }
}

struct RacerReader {
    split: Split,
    race: Arc<Race>,
}

impl RacerReader {
    /// One record, as soon as the fast split has gone as far as it may.
    fn read_slow<O: SourceOutput<i64>>(&self, last: i64, out: &mut O) -> Result<(Split, Reading), UserError> {
        let fast = self.race.fast.load(Ordering::SeqCst);
        if last == SLOW_END {
            let reading = match self.race.then {
                Then::Silence if fast < FAST_END => Reading::Wait(Duration::from_millis(1)),
                Then::Silence | Then::End => Reading::Ended,
                Then::Error if fast <= last + DRIFT => Reading::Wait(Duration::from_millis(1)),
                Then::Error => {
                    self.race.slow_has_ended.store(true, Ordering::SeqCst);
                    return Err("no more of this".into());
                }
            };
            self.race.slow_has_ended.store(true, Ordering::SeqCst);
            return Ok((self.split, reading));
        }
        // Before its first record nobody may be ahead at all.
        if last > 0 && fast <= last + DRIFT {
            return Ok((self.split, Reading::Wait(Duration::from_millis(1))));
        }
        self.race.slow.store(last + 20, Ordering::SeqCst);
        out.emit(last + 20);
        Ok((Split::Slow { last: last + 20 }, Reading::More))
    }

    /// Many records, as fast as it is let.
    fn read_fast<O: SourceOutput<i64>>(&self, last: i64, out: &mut O) -> (Split, Reading) {
        let end = last + BATCH;
        (last..end).for_each(|last| out.emit(last + 1));
        if !self.race.slow_has_ended.load(Ordering::SeqCst) {
            self.race.ahead.fetch_max(end - self.race.slow.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        self.race.fast.store(end, Ordering::SeqCst);
        (Split::Fast { last: end }, if end == FAST_END { Reading::Ended } else { Reading::More })
    }
}

impl SplitReader for RacerReader {
    type Out = i64;
    type Split = Split;

    fn read<O: SourceOutput<i64>>(&mut self, out: &mut O) -> Result<Reading, UserError> {
        let (split, reading) = match self.split {
            Split::Slow { last } => self.read_slow(last, out)?,
            Split::Fast { last } => self.read_fast(last, out),
        };
        self.split = split;
        Ok(reading)
    }

    fn split(&self) -> Split {
        self.split
    }
}

/// Runs sources of such splits in one group, and answers how many records came.
fn run(parallelism: u32, race: &Arc<Race>, boundedness: Boundedness, sources: &[&[Split]]) -> Result<usize, Error> {
    let parallelism = parallelism.to_string();
    let arguments = ["-p", &parallelism, "-D", "restart-strategy.type=none"];
    let env = Environment::with_arguments(arguments)?;
    env.set_runtime_mode(RuntimeMode::Streaming);
    let mut strategy = WatermarkStrategy::monotonous(|time: &i64| *time)
        .with_alignment("racers", Duration::from_millis(DRIFT.unsigned_abs()));
    if race.then == Then::Silence {
        strategy = strategy.with_idleness(Duration::from_millis(5));
    }
    let source = |splits: &[Split]| {
        let racer = Racer { splits: splits.to_vec(), boundedness, race: Arc::clone(race) };
        env.from_source_with_watermarks(racer, strategy.clone())
    };
    let records = match sources {
        [one] => source(one).collect(),
        [one, other] => source(one).union(source(other)).collect(),
        _ => panic!("one source or two"),
    };
    Ok(env.execute("race")?.collected(&records)?.len())
}

fn expected() -> usize {
    usize::try_from(SLOW_END / 20 + FAST_END).unwrap()
}

#[test]
fn a_fast_source_keeps_close_to_a_slow_one_and_goes_on_when_that_has_ended() {
    for parallelism in 1..=3 {
        for sources in [[&[FAST][..], &[SLOW][..]], [&[SLOW][..], &[FAST][..]]] {
            let race = Race::new(Then::End);
            assert_eq!(run(parallelism, &race, Boundedness::Bounded, &sources).unwrap(), expected());
            let ahead = race.ahead.load(Ordering::SeqCst);
            assert!(ahead > DRIFT, "it may be ahead, but was only by {ahead}");
            assert!(ahead <= DRIFT + BATCH, "{ahead} ahead in {parallelism} sub-tasks");
        }
    }
}

#[test]
fn splits_of_one_source_wait_for_each_other_in_one_sub_task_and_in_several() {
    for parallelism in 1..=3 {
        let race = Race::new(Then::End);
        assert_eq!(run(parallelism, &race, Boundedness::Unbounded, &[&[SLOW, FAST]]).unwrap(), expected());
        let ahead = race.ahead.load(Ordering::SeqCst);
        assert!(ahead <= DRIFT + BATCH, "{ahead} ahead in {parallelism} sub-tasks");
    }
}

#[test]
fn nobody_waits_for_an_idle_split() {
    for sources in [&[&[FAST][..], &[SLOW][..]][..], &[&[SLOW, FAST][..]][..]] {
        let race = Race::new(Then::Silence);
        assert_eq!(run(1, &race, Boundedness::Unbounded, sources).unwrap(), expected());
    }
}

#[test]
fn the_failure_of_a_source_ends_the_job_while_another_one_waits_for_it() {
    for sources in [&[&[FAST][..], &[SLOW][..]][..], &[&[SLOW, FAST][..]][..]] {
        let race = Race::new(Then::Error);
        let error = run(1, &race, Boundedness::Unbounded, sources).unwrap_err();
        assert!(error.to_string().contains("no more of this"), "{error}");
        assert!(race.ahead.load(Ordering::SeqCst) <= DRIFT + BATCH);
    }
}

#[test]
fn in_batch_mode_nobody_waits() {
    let env = Environment::with_arguments(["-p", "1"]).unwrap();
    env.set_runtime_mode(RuntimeMode::Batch);
    let strategy = WatermarkStrategy::monotonous(|time: &i64| *time).with_alignment("racers", Duration::ZERO);
    let race = Race::new(Then::Silence);
    let source = |split| Racer { splits: vec![split], boundedness: Boundedness::Bounded, race: Arc::clone(&race) };
    let slow = env.from_source_with_watermarks(source(SLOW), strategy.clone());
    let records = slow.union(env.from_source_with_watermarks(source(FAST), strategy)).collect();
    assert_eq!(env.execute("batch").unwrap().collected(&records).unwrap().len(), expected());
}

#[test]
fn only_a_source_can_be_aligned() {
    let env = Environment::with_arguments(["-p", "1"]).unwrap();
    let strategy = WatermarkStrategy::monotonous(|time: &i64| *time).with_alignment("numbers", Duration::ZERO);
    env.from_collection(vec![1]).assign_timestamps_and_watermarks(strategy).discard();
    let error = env.execute("numbers").unwrap_err();
    assert_eq!(
        error.to_string(),
        "build job graph: operator \"Timestamps/Watermarks\": align watermarks in group \"numbers\": only a source can \
         wait, give the strategy to from_source_with_watermarks"
    );
}
