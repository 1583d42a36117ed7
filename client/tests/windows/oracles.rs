//! Random streams through windows and joins at every parallelism, against plain programs over vectors.

use std::collections::BTreeMap;

use tidemill::stream::{RegularWindows, SessionWindows};
use tidemill::{
    DataStream, Environment, Evictor, KeyedStream, OutputTag, Pipe, RuntimeMode, TimeWindow, Trigger, Windows,
};

use crate::{Event, Fired, Mean, Values, environment, event, ms, timed};

/// A small generator of numbers that look random: splitmix64.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn time(&mut self, limit: u64) -> i64 {
        i64::try_from(self.below(limit)).unwrap()
    }

    /// Records out of order; a watermark behind some of them, which makes later ones late.
    fn stream(&mut self, keys: u64) -> Vec<Event> {
        let mut now = self.time(1000) - 500;
        let mut events = Vec::new();
        for value in 0..self.below(400) {
            now += self.time(4);
            let mut event = event(self.below(keys), now - self.time(30), value);
            event.watermark = (self.below(5) == 0).then(|| now - self.time(40));
            events.push(event);
        }
        events
    }

    /// The same, but no record is late, nor does a watermark end a session that the next record would have touched.
    fn punctual_stream(&mut self, keys: u64) -> Vec<Event> {
        let mut events = self.stream(keys);
        let mut least = i64::MAX;
        for event in events.iter_mut().rev() {
            event.watermark = event.watermark.and(Some(least - 2)).filter(|_| least < i64::MAX);
            least = least.min(event.time);
        }
        events
    }
}

/// The windows of a test, in a form that the oracle reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    Regular { size: i64, slide: i64 },
    Session { gap: i64 },
}

fn length(value: i64) -> std::time::Duration {
    ms(u64::try_from(value).unwrap())
}

fn regular(size: i64, slide: i64) -> Windows<RegularWindows> {
    if size == slide { Windows::tumbling(length(size)) } else { Windows::sliding(length(size), length(slide)) }
}

fn sessions(gap: i64) -> Windows<SessionWindows> {
    Windows::session(length(gap))
}

impl Shape {
    fn random(numbers: &mut Numbers) -> Self {
        let size = 1 + numbers.time(40);
        match numbers.below(3) {
            0 => Self::Regular { size, slide: size },
            1 => Self::Regular { size, slide: 1 + numbers.time(40) },
            _ => Self::Session { gap: 1 + numbers.time(12) },
        }
    }

    /// The windows of a time, before any merge.
    fn windows(self, time: i64) -> Vec<(i64, i64)> {
        match self {
            Self::Session { gap } => vec![(time, time + gap)],
            Self::Regular { size, slide } => {
                let starts = (time - size + 1..=time).filter(|start| start.rem_euclid(slide) == 0);
                starts.map(|start| (start, start + size)).collect()
            }
        }
    }
}

/// One key's windows, kept in the plainest way.
#[derive(Default)]
struct Kept {
    windows: BTreeMap<(i64, i64), Vec<u64>>,
}

/// What windows emit, and what is late.
fn oracle(events: &[Event], shape: Shape, lateness: i64) -> (Vec<Fired>, Vec<u64>) {
    let (mut keys, mut watermark) = (BTreeMap::<u64, Kept>::new(), i64::MIN);
    let (mut fired, mut late) = (Vec::new(), Vec::new());
    for event in events {
        let kept = keys.entry(event.key).or_default();
        let (mut taken, windows) = (false, shape.windows(event.time));
        for &(mut window) in &windows {
            let mut values = Vec::new();
            if matches!(shape, Shape::Session { .. }) {
                let touching = |other: &(i64, i64)| other.0 <= window.1 && window.0 <= other.1;
                let touched: Vec<_> = kept.windows.keys().copied().filter(touching).collect();
                let end = touched.iter().map(|other| other.1).chain([window.1]).max().unwrap();
                let start = touched.iter().map(|other| other.0).chain([window.0]).min().unwrap();
                if end - 1 + lateness <= watermark {
                    continue;
                }
                window = (start, end);
                touched.iter().for_each(|other| values.append(&mut kept.windows.remove(other).unwrap()));
            } else if window.1 - 1 + lateness <= watermark {
                continue;
            }
            taken = true;
            let contents = kept.windows.entry(window).or_default();
            contents.append(&mut values);
            contents.push(event.value);
            contents.sort_unstable();
            if window.1 - 1 <= watermark {
                fired.push((event.key, window.0, window.1, contents.clone()));
            }
        }
        if !taken && !windows.is_empty() {
            late.push(event.value);
        }
        advance(&mut keys, &mut watermark, event.watermark.unwrap_or(i64::MIN), lateness, &mut fired);
    }
    advance(&mut keys, &mut watermark, i64::MAX, lateness, &mut fired);
    fired.sort();
    late.sort_unstable();
    (fired, late)
}

fn advance(keys: &mut BTreeMap<u64, Kept>, now: &mut i64, to: i64, lateness: i64, fired: &mut Vec<Fired>) {
    let before = *now;
    *now = before.max(to);
    for (key, kept) in keys {
        for (window, values) in &kept.windows {
            if before < window.1 - 1 && window.1 - 1 <= *now {
                fired.push((*key, window.0, window.1, values.clone()));
            }
        }
        kept.windows.retain(|window, _| window.1 - 1 + lateness > *now);
    }
}

/// What windows of a stream emit in four ways that must agree, an aggregate of each window, and what is late.
pub(crate) struct Emitted {
    pub(crate) values: [Vec<Fired>; 2],
    pub(crate) means: [Vec<Fired>; 2],
    pub(crate) late: Vec<u64>,
}

pub(crate) fn run(events: &[Event], shape: Shape, lateness: i64, env: &Environment) -> Emitted {
    let stream = timed(env, events).share();
    let late = OutputTag::new("late");
    let mean = |key: &u64, window: TimeWindow, mean: u64| (*key, window.start, window.end, vec![mean]);
    macro_rules! emitted {
        ($windows:expr) => {{
            let windowed = || {
                let keyed = stream.stream().key_by(|event| event.key);
                keyed.window($windows).allowed_lateness(length(lateness)).late_output(&late)
            };
            let values = windowed().process(Values);
            let late = values.side_output(&late).map(|event: Event| event.value).collect();
            let evicted = windowed().evictor(Evictor::count(usize::MAX)).process(Values).collect();
            let triggered = windowed().trigger(Trigger::event_time()).aggregate_with(Mean, mean).collect();
            ([values.collect(), evicted], [windowed().aggregate_with(Mean, mean).collect(), triggered], late)
        }};
    }
    let (values, means, late) = match shape {
        Shape::Regular { size, slide } => emitted!(regular(size, slide)),
        Shape::Session { gap } => emitted!(sessions(gap)),
    };
    let result = env.execute("windows").unwrap();
    let sorted = |fired| {
        let mut fired: Vec<Fired> = result.collected(&fired).unwrap();
        fired.iter_mut().for_each(|fired| fired.3.sort_unstable());
        fired.sort();
        fired
    };
    let mut late = result.collected(&late).unwrap();
    late.sort_unstable();
    Emitted { values: values.map(sorted), means: means.map(sorted), late }
}

/// An environment of a parallelism and a runtime mode that vary with the seed.
fn varied(seed: u64) -> Environment {
    let env = environment(u32::try_from(seed % 4).unwrap() + 1);
    env.set_runtime_mode(if seed.is_multiple_of(3) { RuntimeMode::Streaming } else { RuntimeMode::Batch });
    env
}

#[test]
fn windows_agree_with_a_plain_program_at_every_parallelism() {
    let (mut all, mut all_late) = (0, 0);
    for seed in 0..120 {
        let mut numbers = Numbers(seed);
        let (keys, shape) = (1 + numbers.below(6), Shape::random(&mut numbers));
        let (events, lateness) = (numbers.stream(keys), [0, numbers.time(30)][usize::from(seed % 2 == 0)]);
        let (fired, late) = oracle(&events, shape, lateness);
        let found = run(&events, shape, lateness, &varied(seed));
        let context = format!("seed {seed}, {shape:?}, lateness {lateness}");
        assert_eq!(found.late, late, "{context}");
        found.values.iter().for_each(|values| assert_eq!(*values, fired, "{context}"));
        let mean = |values: &[u64]| values.iter().sum::<u64>() / u64::try_from(values.len()).unwrap();
        let mut means: Vec<_> =
            fired.iter().map(|(key, start, end, values)| (*key, *start, *end, vec![mean(values)])).collect();
        means.sort();
        found.means.iter().for_each(|found| assert_eq!(*found, means, "{context}"));
        (all, all_late) = (all + fired.len(), all_late + late.len());
    }
    assert!(all > 1000 && all_late > 100, "{all} windows and {all_late} late records are a test");
}

type Keyed<P> = KeyedStream<P, tidemill_dataflow::key_selector::ComputedKey<fn(&Event) -> u64, u64>>;

fn keyed<P: Pipe<Out = Event>>(stream: DataStream<P>) -> Keyed<P> {
    stream.key_by((|event: &Event| event.key) as fn(&Event) -> u64)
}

/// The values of both streams in each window of each key.
fn group(left: &[Event], right: &[Event], shape: Shape) -> Vec<(Vec<u64>, Vec<u64>)> {
    let tagged = |events: &[Event], add: u64| {
        events.iter().map(|event| Event { value: event.value * 2 + add, ..*event }).collect::<Vec<_>>()
    };
    let mut both = [tagged(left, 0), tagged(right, 1)].concat();
    // Nothing is late: the windows are those of all records at once.
    both.iter_mut().for_each(|event| event.watermark = None);
    let (fired, _) = oracle(&both, shape, 0);
    let side = |values: &[u64], which: u64| {
        values.iter().filter(|value| *value % 2 == which).map(|value| value / 2).collect::<Vec<_>>()
    };
    let mut groups: Vec<_> = fired.iter().map(|fired| (side(&fired.3, 0), side(&fired.3, 1))).collect();
    groups.sort();
    groups
}

fn values(events: &[Event]) -> Vec<u64> {
    let mut values: Vec<_> = events.iter().map(|event| event.value).collect();
    values.sort_unstable();
    values
}

#[test]
fn window_joins_and_groups_agree_with_a_plain_program_at_every_parallelism() {
    let mut all = 0;
    for seed in 0..60 {
        let mut numbers = Numbers(seed);
        let (keys, shape) = (1 + numbers.below(6), Shape::random(&mut numbers));
        let (left, right) = (numbers.punctual_stream(keys), numbers.punctual_stream(keys));
        let env = varied(seed);
        let (lefts, rights) = (timed(&env, &left).share(), timed(&env, &right).share());
        let joined = || keyed(lefts.stream()).join(keyed(rights.stream()));
        let grouped = || keyed(lefts.stream()).co_group(keyed(rights.stream()));
        let pair = |left: &Event, right: &Event| (left.value, right.value);
        let gather =
            |_: &u64, left: &[Event], right: &[Event], out: &mut Vec<_>| out.push((values(left), values(right)));
        let (pairs, groups) = match shape {
            Shape::Regular { size, slide } => {
                let pairs = joined().window(regular(size, slide)).apply(pair).collect();
                (pairs, grouped().window(regular(size, slide)).apply(gather).collect())
            }
            Shape::Session { gap } => {
                let pairs = joined().window(sessions(gap)).apply(pair).collect();
                (pairs, grouped().window(sessions(gap)).apply(gather).collect())
            }
        };
        let result = env.execute("joins").unwrap();
        let (mut pairs, mut groups) = (result.collected(&pairs).unwrap(), result.collected(&groups).unwrap());
        pairs.sort_unstable();
        groups.sort();
        let expected = group(&left, &right, shape);
        assert_eq!(groups, expected, "seed {seed}, {shape:?}");
        let products = expected
            .iter()
            .flat_map(|(left, right)| left.iter().flat_map(move |left| right.iter().map(move |right| (*left, *right))));
        let mut expected: Vec<_> = products.collect();
        expected.sort_unstable();
        assert_eq!(pairs, expected, "seed {seed}, {shape:?}");
        all += pairs.len();
    }
    assert!(all > 1000, "{all} pairs are a test");
}

/// All pairs within the bounds, of records whose values are not among these.
fn close_pairs(left: &[Event], right: &[Event], (lower, upper): (i64, i64), late: &[Vec<u64>; 2]) -> Vec<(u64, u64)> {
    let mut pairs = Vec::new();
    for left in left.iter().filter(|left| !late[0].contains(&left.value)) {
        let near = right.iter().filter(|right| {
            let distance = right.time - left.time;
            right.key == left.key && lower <= distance && distance <= upper && !late[1].contains(&right.value)
        });
        pairs.extend(near.map(|right| (left.value, right.value)));
    }
    pairs.sort_unstable();
    pairs
}

#[test]
fn interval_joins_agree_with_a_plain_program_at_every_parallelism() {
    let mut all = 0;
    for seed in 0..80 {
        let mut numbers = Numbers(seed);
        let keys = 1 + numbers.below(6);
        let punctual = seed % 3 != 0;
        let mut stream = || if punctual { numbers.punctual_stream(keys) } else { numbers.stream(keys) };
        let (left, right) = (stream(), stream());
        let lower = numbers.time(40) - 20;
        let upper = lower + 2 + numbers.time(20);
        let (exclude_lower, exclude_upper) = (numbers.below(2), numbers.below(2));
        let env = varied(seed);
        let (left_tag, right_tag) = (OutputTag::new("left"), OutputTag::new("right"));
        let mut joined = keyed(timed(&env, &left)).interval_join(keyed(timed(&env, &right)), lower, upper);
        if exclude_lower == 1 {
            joined = joined.lower_bound_exclusive();
        }
        if exclude_upper == 1 {
            joined = joined.upper_bound_exclusive();
        }
        let joined = joined.late_left_output(&left_tag).late_right_output(&right_tag);
        let pairs = joined.process(|left, right| (left.value, right.value));
        let late = [left_tag, right_tag].map(|tag| pairs.side_output(&tag).map(|event: Event| event.value).collect());
        let pairs = pairs.collect();
        let result = env.execute("interval join").unwrap();
        let late = late.map(|late| result.collected(&late).unwrap());
        assert!(!punctual || late.iter().all(Vec::is_empty), "seed {seed}: nothing is late");
        // What is late depends on how the two streams interleave; all else is joined.
        let bounds = (lower + i64::try_from(exclude_lower).unwrap(), upper - i64::try_from(exclude_upper).unwrap());
        let mut pairs = result.collected(&pairs).unwrap();
        pairs.sort_unstable();
        assert_eq!(pairs, close_pairs(&left, &right, bounds, &late), "seed {seed}, {bounds:?}");
        all += pairs.len();
    }
    assert!(all > 1000, "{all} pairs are a test");
}
