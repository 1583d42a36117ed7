//! The undisturbed plane: D1, nothing of a running job changes while masters die; D2, its output goes on.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fence;
use super::verdict::Verdict;
use crate::clock::{nanos, seconds};
use crate::process::procfs::ProcessKey;
use crate::record::{BUCKET, ExecutorsLook, JobLook, PhaseTimes, Run};

/// A gap that any machine may have: no bound is tighter.
const GAP_BOUND_MIN_S: f64 = 1.0;
/// A bound that would be looser than this proves nothing.
const GAP_BOUND_MAX_S: f64 = 2.0;
/// The bound, in baseline gaps.
const GAP_FACTOR: f64 = 5.0;
/// More threads than this for each processor are not the cluster's alone.
const BUSY_FACTOR: f64 = 2.5;
/// How much around a moment says how busy the machine was in it.
const BUSY_MARGIN: Duration = Duration::from_millis(300);
/// The phase whose gaps are the measure of the others.
pub const BASELINE: &str = "baseline";

/// D1: attempts, executors and task managers are the same at the end of a phase as at its beginning, and at every look
/// in between; no takeover restarted a task.
#[must_use]
pub fn undisturbed(run: &Run, phase: &PhaseTimes) -> Verdict {
    if let Some(change) = fence::task_changes(&run.events, phase.from, phase.to).into_iter().next() {
        return Verdict::invalid(format!("a task started or ended: {change}"), vec![change], (phase.from, phase.to));
    }
    let processes = processes(run, phase);
    let attempts = attempts(run, phase);
    let takeovers = takeovers(run, phase);
    [processes, attempts].into_iter().fold(takeovers, Verdict::worst)
}

/// The looks at one kind of thing that say how it stood in a phase: those in it, and the last one before.
fn during<'a, T>(looks: &'a [T], phase: &PhaseTimes, at: impl Fn(&T) -> u64) -> Vec<&'a T> {
    let before = looks.iter().rfind(|look| at(look) < phase.from);
    let within = looks.iter().filter(|look| (phase.from..=phase.to).contains(&at(look)));
    before.into_iter().chain(within).collect()
}

fn processes(run: &Run, phase: &PhaseTimes) -> Verdict {
    let mut hosts: Vec<_> = run.executors.iter().map(|look| look.host).collect();
    hosts.sort_unstable();
    hosts.dedup();
    if hosts.is_empty() {
        return Verdict::unknown("no process was looked at");
    }
    let mut count = 0;
    for host in hosts {
        let of_host: Vec<ExecutorsLook> = run.executors.iter().filter(|look| look.host == host).cloned().collect();
        let looks = during(&of_host, phase, |look| look.at);
        let Some(first) = looks.first() else { return Verdict::unknown(format!("no process of {host} was looked at")) };
        let known = |look: &ExecutorsLook| -> (Option<ProcessKey>, BTreeSet<ProcessKey>) {
            (look.task_manager, look.executors.iter().copied().collect())
        };
        count += first.executors.len();
        if let Some(other) = looks.iter().find(|look| known(look) != known(first)) {
            let ids = |look: &ExecutorsLook| -> Vec<u32> { look.executors.iter().map(|key| key.id).collect() };
            let why = format!("executors on {host} changed from processes {:?} to {:?}", ids(first), ids(other));
            return Verdict::invalid(why, Vec::new(), (other.at, other.at));
        }
    }
    if count == 0 { Verdict::unknown("no executor ran") } else { Verdict::valid("") }
}

fn attempts(run: &Run, phase: &PhaseTimes) -> Verdict {
    // Right after a takeover a leader does not know everything yet: only what it says of running attempts counts.
    let looks = during(&run.jobs, phase, |look| look.at);
    let running = |look: &JobLook| -> BTreeSet<(String, Option<u32>)> {
        let running = look.attempts.iter().filter(|(_, state, process)| state == "RUNNING" && process.is_some());
        running.map(|(name, _, process)| (name.clone(), *process)).collect()
    };
    let complete: Vec<_> = looks.iter().filter(|look| !look.attempts.is_empty()).collect();
    let Some(first) = complete.iter().find(|look| running(look).len() == look.attempts.len()) else {
        return Verdict::unknown("the job was never seen to run");
    };
    let expected = running(first);
    for look in &complete {
        if look.restarts != first.restarts {
            let why = format!("the job was restarted: {} restarts, then {}", first.restarts, look.restarts);
            return Verdict::invalid(why, Vec::new(), (look.at, look.at));
        }
        if let Some((name, process)) = running(look).iter().find(|attempt| !expected.contains(attempt)) {
            let why = format!("attempt {name} in process {process:?} was not there when the phase began");
            return Verdict::invalid(why, Vec::new(), (look.at, look.at));
        }
    }
    // That a leader has not heard of all of them again yet is no disturbance: their processes say that they go on.
    Verdict::valid("")
}

fn takeovers(run: &Run, phase: &PhaseTimes) -> Verdict {
    let looks = during(&run.statuses, phase, |look| look.at);
    let mut adopted = BTreeSet::new();
    for look in looks {
        for (epoch, tasks, restarted) in &look.takeovers {
            if *restarted > 0 {
                let why = format!("the leadership of epoch {epoch} restarted {restarted} tasks");
                return Verdict::invalid(why, Vec::new(), (look.at, look.at));
            }
            adopted.insert((*epoch, *tasks));
        }
    }
    Verdict::valid(format!(
        "executors, attempts and task managers stayed; {} takeovers so far restarted 0",
        adopted.len()
    ))
}

/// The longest time without output of any sink that wrote in the phase, in seconds, with when it began.
#[must_use]
pub fn longest_gap(run: &Run, phase: &PhaseTimes) -> Option<(f64, u64)> {
    let (first, last) = (phase.from / BUCKET + 1, phase.to / BUCKET);
    let mut longest: Option<(f64, u64)> = None;
    for buckets in run.output.buckets.values() {
        if buckets.range(..first).next_back().is_none() && buckets.range(first..last).next().is_none() {
            continue;
        }
        let mut previous = first;
        let ends = buckets.range(first..last).map(|(bucket, _)| *bucket).chain([last]);
        for bucket in ends {
            let gap = (bucket - previous).saturating_sub(1);
            let gap_s = seconds(0, gap * BUCKET);
            if longest.is_none_or(|(known, _)| gap_s > known) {
                longest = Some((gap_s, previous * BUCKET));
            }
            previous = bucket;
        }
    }
    longest
}

/// Whether so many others wanted the machine's processors that nothing timed can be told from it; says so.
#[must_use]
pub fn busy(run: &Run, from: u64, to: u64) -> Option<String> {
    let margin = nanos(BUSY_MARGIN);
    let window = from.saturating_sub(margin)..=to.saturating_add(margin);
    let looks: Vec<_> = run.loads.iter().filter(|look| window.contains(&look.at)).collect();
    let processors = f64::from(looks.first()?.processors);
    let mean = looks.iter().map(|look| f64::from(look.runnable)).sum::<f64>() / looks.len() as f64;
    let too_busy = mean > BUSY_FACTOR * processors;
    too_busy
        .then(|| format!("{mean:.1} threads wanted {processors} processors then, of which the cluster is a part only"))
}

/// D2: no sink is silent for longer than the bound that the baseline sets.
#[must_use]
pub fn output_goes_on(run: &Run, phase: &PhaseTimes) -> Verdict {
    let baseline = run.phase(BASELINE).and_then(|baseline| longest_gap(run, baseline));
    let Some((baseline, _)) = baseline else { return Verdict::unknown("there is no baseline") };
    let Some((gap, at)) = longest_gap(run, phase) else { return Verdict::unknown("no sink wrote anything") };
    let bound = GAP_BOUND_MIN_S.max(GAP_FACTOR * baseline);
    let figures = format!("longest gap {gap:.1} s, baseline {baseline:.1} s, bound {bound:.1} s");
    if bound > GAP_BOUND_MAX_S {
        let why = format!("{figures}: no bound that proves anything");
        let all = run.phases.first().zip(run.phases.last());
        let busy = all.and_then(|(first, last)| busy(run, first.from, last.to));
        return busy.map_or(Verdict::unknown(why.clone()), |busy| Verdict::skipped(format!("{why}; {busy}")));
    }
    let until = at + nanos(Duration::from_secs_f64(gap));
    match (gap < bound, busy(run, at, until)) {
        (true, _) => Verdict::valid(figures),
        (false, Some(busy)) => Verdict::skipped(format!("{figures}: {busy}")),
        (false, None) => Verdict::invalid(figures, Vec::new(), (at, until)),
    }
}

/// Records that came out of the phase, a second.
#[must_use]
pub fn rate(run: &Run, phase: &PhaseTimes) -> f64 {
    let (first, last) = (phase.from / BUCKET + 1, phase.to / BUCKET);
    let records: u64 = run.output.buckets.values().flat_map(|buckets| buckets.range(first..last)).map(|(_, n)| n).sum();
    records as f64 / seconds(first * BUCKET, last.max(first + 1) * BUCKET)
}

/// D3: at least half of the baseline's rate.
#[must_use]
pub fn rate_goes_on(run: &Run, phase: &PhaseTimes) -> Verdict {
    let Some(baseline) = run.phase(BASELINE).map(|baseline| rate(run, baseline)).filter(|rate| *rate > 0.0) else {
        return Verdict::unknown("there is no baseline");
    };
    let rate = rate(run, phase);
    let figures = format!("{rate:.0} records/s, {:.0} % of the baseline's {baseline:.0}", 100.0 * rate / baseline);
    match (rate * 2.0 >= baseline, busy(run, phase.from, phase.to)) {
        (true, _) => Verdict::valid(figures),
        (false, Some(busy)) => Verdict::skipped(format!("{figures}: {busy}")),
        (false, None) => Verdict::invalid(figures, Vec::new(), (phase.from, phase.to)),
    }
}
