//! Windows as one would write them down: every window by itself, looked for among all.

use std::collections::BTreeMap;

use super::{Added, Fired, Step, TimeWindow};

/// Which windows a record has.
pub(super) enum Windows {
    Aligned {
        size: i64,
        slide: i64,
        offset: i64,
    },
    /// Without a gap, each record's own counts.
    Session {
        gap: Option<i64>,
    },
}

/// What fires, and what is refused, in event time with the default trigger.
pub(super) fn play(windows: &Windows, lateness: i64, steps: &[Step]) -> (Vec<Fired>, Vec<Added<i64>>) {
    let mut kept: BTreeMap<TimeWindow, Vec<i64>> = BTreeMap::new();
    let (mut fired, mut refused, mut watermark) = (Vec::new(), Vec::new(), i64::MIN);
    for step in steps {
        match *step {
            Step::Record { value, time, gap } => {
                let candidates = match windows {
                    Windows::Aligned { size, slide, offset } => aligned(*size, *slide, *offset, time),
                    Windows::Session { gap: fixed } => {
                        vec![session(&mut kept, time, fixed.unwrap_or(gap), lateness, watermark)]
                    }
                };
                let late = |window: &&TimeWindow| forgotten(**window, lateness) <= watermark;
                if candidates.is_empty() {
                    refused.push(Added::NoWindow(value));
                } else if candidates.iter().all(|window| late(&window)) {
                    refused.push(Added::Late(value));
                }
                for window in candidates.iter().filter(|window| !late(window)) {
                    let values = kept.entry(*window).or_default();
                    values.push(value);
                    if window.max_timestamp() <= watermark {
                        fired.push((*window, values.clone()));
                    }
                }
            }
            Step::Watermark(time) => {
                let mut due: Vec<_> = kept.iter().map(|(window, values)| (*window, values.clone())).collect();
                due.retain(|(window, _)| watermark < window.max_timestamp() && window.max_timestamp() <= time);
                due.sort_by_key(|(window, _)| (window.max_timestamp(), window.start));
                fired.extend(due);
                watermark = time;
                kept.retain(|window, _| forgotten(*window, lateness) > watermark);
            }
        }
    }
    (fired, refused)
}

fn forgotten(window: TimeWindow, lateness: i64) -> i64 {
    window.max_timestamp().saturating_add(lateness)
}

fn aligned(size: i64, slide: i64, offset: i64, time: i64) -> Vec<TimeWindow> {
    let (size, slide, offset, time) = (i128::from(size), i128::from(slide), i128::from(offset), i128::from(time));
    let around = (time - offset) / slide;
    let reach = size / slide + 2;
    let starts = (around - reach..=around + reach).map(|index| index * slide + offset);
    let covering = starts.filter(|start| *start <= time && time < start + size);
    covering.map(|start| TimeWindow::clamped(start, start + size)).collect()
}

/// The session of a new record, with all that it touches taken into it, unless it is late.
fn session(
    kept: &mut BTreeMap<TimeWindow, Vec<i64>>,
    time: i64,
    gap: i64,
    lateness: i64,
    watermark: i64,
) -> TimeWindow {
    let start = time.min(i64::MAX - 1);
    let mut merged = TimeWindow::new(start, start.saturating_add(gap));
    let mut values = Vec::new();
    while let Some(other) = kept.keys().find(|other| other.touches(merged)).copied() {
        values.extend(kept.remove(&other).expect("it was found"));
        merged = merged.cover(other);
    }
    if forgotten(merged, lateness) > watermark {
        kept.insert(merged, values);
    }
    merged
}
