//! The lanes of a report: one axis of time, shared by latencies, rates, leaders, attempts and output, over the shades of
//! what was broken.

use std::collections::BTreeMap;

use tidemill_model::event::Event;

use super::svg::Svg;
use crate::check::lead;
use crate::clock::seconds;
use crate::history::Outcome;
use crate::record::{BUCKET, Run};

const WIDTH: f64 = 1160.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 10.0;
/// The colour of each package of faults.
pub const PACKAGES: [(&str, &str); 4] =
    [("kill", "#f4b6b6"), ("pause", "#f5dfa0"), ("partition", "#b9cdf2"), ("disk", "#d3c1ea")];
const OK: &str = "#2a8f3c";
const FAIL: &str = "#b9b9b9";
const INFO: &str = "#d0021b";
const COLOURS: [&str; 6] = ["#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#76b7b2", "#9c755f"];
/// A bar this wide has room for a number.
const LABEL: f64 = 32.0;
/// The axis of latencies goes from 0.1 ms over this many powers of ten.
const LATENCY_DECADES: f64 = 5.0;

/// The axis of time of a run.
struct Axis {
    from: u64,
    to: u64,
}

impl Axis {
    fn of(run: &Run) -> Self {
        let from = run.phases.first().map_or(0, |phase| phase.from);
        let to = run.phases.last().map_or(1, |phase| phase.to);
        Self { from, to: to.max(from + 1) }
    }

    fn x(&self, time: u64) -> f64 {
        let part = seconds(self.from, time.clamp(self.from, self.to)) / seconds(self.from, self.to);
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }

    fn has(&self, time: u64) -> bool {
        (self.from..=self.to).contains(&time)
    }
}

/// A lane's frame: its name, the shades of faults, the borders of phases.
fn frame(run: &Run, axis: &Axis, name: &str, height: f64) -> Svg {
    let mut svg = Svg::new(WIDTH, height + 18.0);
    svg.rect((LEFT, 0.0), (WIDTH - LEFT - RIGHT, height), "#fafafa", name);
    for fault in &run.faults {
        let known = PACKAGES.iter().find(|(package, _)| *package == fault.fault.package());
        let colour = known.map_or("#dddddd", |(_, colour)| colour);
        let (x, to) = (axis.x(fault.from), axis.x(fault.to));
        let hosts: Vec<String> = fault.targets.iter().map(ToString::to_string).collect();
        svg.rect((x, 0.0), (to - x, height), colour, &format!("{} {}", fault.fault.name(), hosts.join(" ")));
    }
    for phase in &run.phases {
        let x = axis.x(phase.from);
        svg.line((x, 0.0), (x, height), "#888888");
        svg.text((x + 2.0, height + 13.0), &format!("{} +{:.0}s", phase.name, seconds(axis.from, phase.from)));
    }
    svg.text((2.0, 12.0), name);
    svg
}

/// All lanes, from top to bottom.
#[must_use]
pub fn all(run: &Run) -> Vec<String> {
    let axis = Axis::of(run);
    vec![
        latencies(run, &axis),
        rates(run, &axis),
        leaders(run, &axis),
        attempts(run, &axis),
        output(run, &axis),
        load(run, &axis),
    ]
}

fn latencies(run: &Run, axis: &Axis) -> String {
    let height = 180.0;
    let mut svg = frame(run, axis, "latency", height);
    let y = |milliseconds: f64| height - (milliseconds.max(0.1).log10() + 1.0) / LATENCY_DECADES * height;
    for milliseconds in [1.0, 10.0, 100.0, 1_000.0] {
        svg.line((LEFT, y(milliseconds)), (WIDTH - RIGHT, y(milliseconds)), "#e0e0e0");
        svg.text((18.0, y(milliseconds) + 4.0), &format!("{milliseconds:.0} ms"));
    }
    for op in run.history.iter().filter(|op| axis.has(op.call)) {
        let Some(returned) = op.returned else { continue };
        let colour = match op.outcome {
            Outcome::Ok { .. } => OK,
            Outcome::Fail { .. } => FAIL,
            Outcome::Info { .. } => INFO,
        };
        svg.dot((axis.x(op.call), y(seconds(op.call, returned) * 1e3)), 1.3, colour);
    }
    svg.finish()
}

fn rates(run: &Run, axis: &Axis) -> String {
    let height = 90.0;
    let mut svg = frame(run, axis, "answers/s", height);
    let mut rates: BTreeMap<u64, f64> = BTreeMap::new();
    let mut second = axis.from;
    while second < axis.to {
        rates.insert(second, 0.0);
        second += 1_000_000_000;
    }
    for op in run.history.iter().filter(|op| op.is_ok() && axis.has(op.call)) {
        if let Some((_, rate)) = rates.range_mut(..=op.call).next_back() {
            *rate += 1.0;
        }
    }
    let most = rates.values().copied().fold(1.0, f64::max);
    let y = |rate: f64| height - rate / most * (height - 14.0);
    let points: Vec<(f64, f64)> = rates.iter().map(|(second, rate)| (axis.x(second + 500_000_000), y(*rate))).collect();
    svg.text((18.0, 26.0), &format!("{most:.0}"));
    svg.path(&points, OK);
    svg.finish()
}

fn leaders(run: &Run, axis: &Axis) -> String {
    let height = 60.0;
    let mut svg = frame(run, axis, "leader", height);
    let leaderships = lead::leaderships(&run.events);
    let mut names: Vec<&str> = leaderships.iter().map(|leadership| leadership.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for (index, leadership) in leaderships.iter().enumerate() {
        let until = leaderships.get(index + 1).map_or(axis.to, |next| next.at);
        if until < axis.from || leadership.at > axis.to {
            continue;
        }
        let row = names.iter().position(|name| *name == leadership.name).unwrap_or(0);
        let (x, to, y) = (axis.x(leadership.at), axis.x(until), 14.0 + 15.0 * row as f64);
        let title = format!("{} leads, epoch {}, term {}", leadership.name, leadership.epoch, leadership.raft_term);
        svg.rect((x, y), (to - x, 11.0), COLOURS[row % COLOURS.len()], &title);
        if to - x > LABEL {
            svg.text((x + 3.0, y + 10.0), &leadership.epoch.to_string());
        }
    }
    for (row, name) in names.iter().enumerate() {
        svg.text((45.0, 24.0 + 15.0 * row as f64), name);
    }
    svg.finish()
}

/// One attempt's life: from, to, host.
type Life = (u64, u64, String);

fn lives(run: &Run, axis: &Axis) -> BTreeMap<(u32, u32, u32), Life> {
    let mut lives: BTreeMap<(u32, u32, u32), Life> = BTreeMap::new();
    for record in &run.events {
        if let Event::TaskStart { attempt, .. } = &record.event {
            let key = (attempt.vertex.0, attempt.subtask.0, attempt.attempt.0);
            lives.insert(key, (record.mono_ns, axis.to, record.process.name.clone()));
        }
        if let Event::TaskStop { attempt, .. } = &record.event
            && let Some(life) = lives.get_mut(&(attempt.vertex.0, attempt.subtask.0, attempt.attempt.0))
        {
            life.1 = record.mono_ns;
        }
    }
    lives
}

fn attempts(run: &Run, axis: &Axis) -> String {
    let lives = lives(run, axis);
    let height = 18.0 + 9.0 * lives.len() as f64;
    let mut svg = frame(run, axis, "attempts", height);
    for (row, ((vertex, subtask, attempt), (from, to, host))) in lives.iter().enumerate() {
        let (x, until, y) = (axis.x(*from), axis.x(*to), 14.0 + 9.0 * row as f64);
        let colour = COLOURS[usize::try_from(*attempt).unwrap_or(0) % COLOURS.len()];
        svg.rect((x, y), (until - x, 7.0), colour, &format!("{vertex}#{subtask} attempt {attempt} on {host}"));
    }
    svg.finish()
}

fn output(run: &Run, axis: &Axis) -> String {
    let height = 110.0;
    let mut svg = frame(run, axis, "output/s", height);
    let buckets = axis.from / BUCKET + 1..axis.to / BUCKET;
    let mut totals: BTreeMap<u64, u64> = buckets.map(|bucket| (bucket, 0)).collect();
    for (bucket, count) in run.output.buckets.values().flatten() {
        if let Some(total) = totals.get_mut(bucket) {
            *total += count;
        }
    }
    let most = totals.values().copied().max().unwrap_or(1).max(1) as f64;
    let y = |count: u64| height - count as f64 / most * (height - 14.0);
    let points: Vec<(f64, f64)> = totals.iter().map(|(bucket, count)| (axis.x(bucket * BUCKET), y(*count))).collect();
    svg.text((18.0, 26.0), &format!("{:.0}", most * 10.0));
    svg.path(&points, COLOURS[0]);
    for (bucket, _) in totals.iter().filter(|(_, count)| **count == 0) {
        svg.rect((axis.x(bucket * BUCKET), height - 5.0), (1.2, 5.0), INFO, "no output for 100 ms");
    }
    svg.finish()
}

fn load(run: &Run, axis: &Axis) -> String {
    let height = 60.0;
    let mut svg = frame(run, axis, "runnable", height);
    let most = run.loads.iter().map(|look| look.runnable).max().unwrap_or(1).max(1);
    let y = |runnable: u32| height - f64::from(runnable) / f64::from(most) * (height - 14.0);
    let looks = run.loads.iter().filter(|look| axis.has(look.at));
    let points: Vec<(f64, f64)> = looks.map(|look| (axis.x(look.at), y(look.runnable))).collect();
    svg.text((18.0, 26.0), &most.to_string());
    svg.path(&points, "#888888");
    svg.finish()
}
