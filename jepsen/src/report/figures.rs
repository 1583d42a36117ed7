//! What was measured, beside the verdicts.

use crate::check::{plane, recover};
use crate::clock::seconds;
use crate::record::Run;
use crate::schedule::Work;

/// Names and values, in the order of the report.
#[must_use]
pub fn of(run: &Run) -> Vec<(String, f64)> {
    let mut figures = Vec::new();
    for phase in &run.phases {
        match phase.work {
            Work::Stream => {
                if let Some((gap, _)) = plane::longest_gap(run, phase) {
                    figures.push((format!("{}: longest output gap, s", phase.name), gap));
                }
                figures.push((format!("{}: output, records/s", phase.name), plane::rate(run, phase)));
            }
            Work::Sequence(_) => {
                figures.push((format!("{}: length, s", phase.name), seconds(phase.from, phase.to)));
                let waits = run.faults_of(&phase.name).filter_map(|fault| recover::until_checkpoint(run, fault));
                if let Some(longest) = waits.max_by(f64::total_cmp) {
                    figures.push((format!("{}: fault to next checkpoint, longest, s", phase.name), longest));
                }
            }
        }
        let waits = run.faults_of(&phase.name).filter_map(|fault| recover::until_write(run, fault));
        if let Some(longest) = waits.max_by(f64::total_cmp) {
            figures.push((format!("{}: fault to first write, longest, s", phase.name), longest));
        }
    }
    let answered = run.history.iter().filter(|op| op.is_ok()).count();
    let unknown = run.history.iter().filter(|op| !op.is_ok() && op.counts()).count();
    figures.push(("operations answered".to_owned(), answered as f64));
    figures.push(("changes with an unknown outcome".to_owned(), unknown as f64));
    figures
}
