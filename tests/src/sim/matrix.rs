//! The matrix of mutants: which known bug is found by which invariant, with which seed.
//!
//! Each mutant is put back in turn; the directed scenarios are played, then seeds simulated until one finds it. The same
//! scenario or seed must find nothing in the code as it is.

use std::fmt;

use tidemill_model::mutant::{Mutant, with};

use super::{Outcome, Scenario, Telling, play, simulate};

/// How a mutant was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// By this invariant, with this seed or scenario; the unmutated code passed it.
    Killed {
        /// The seed or scenario.
        by: String,
        /// The invariant.
        invariant: &'static str,
        /// What it said.
        evidence: String,
    },
    /// Not at all.
    Survived {
        /// With so many seeds.
        tried: u64,
    },
    /// The unmutated code fails the same seed: this proves nothing.
    Unsound {
        /// The seed or scenario.
        by: String,
        /// What the unmutated code did.
        evidence: String,
    },
}

/// One line of the matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The bug.
    pub mutant: Mutant,
    /// What became of it.
    pub verdict: Verdict,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.mutant.name();
        match &self.verdict {
            Verdict::Killed { by, invariant, evidence } => {
                let short: String = evidence.chars().take(110).collect();
                write!(f, "{name:32} {invariant:18} {by:19}  {short}")
            }
            Verdict::Survived { tried } => write!(f, "{name:32} SURVIVED {tried} seeds"),
            Verdict::Unsound { by, evidence } => {
                write!(f, "{name:32} PROVES NOTHING: {by} fails without it too: {evidence}")
            }
        }
    }
}

impl Row {
    /// Whether the mutant was found, and by its own doing.
    #[must_use]
    pub fn killed(&self) -> bool {
        matches!(self.verdict, Verdict::Killed { .. })
    }
}

/// Looks for a scenario or a seed that finds a mutant.
#[must_use]
pub fn hunt(mutant: Mutant, seeds: u64) -> Row {
    let scenarios = Scenario::ALL
        .into_iter()
        .find_map(|scenario| judge(mutant, &scenario.to_string(), || play(scenario, Telling::Silent)));
    let found = scenarios.or_else(|| {
        (0..seeds).find_map(|seed| judge(mutant, &format!("seed {seed}"), || simulate(seed, Telling::Silent)))
    });
    Row { mutant, verdict: found.unwrap_or(Verdict::Survived { tried: seeds }) }
}

/// What this shows of a mutant, if anything.
fn judge(mutant: Mutant, by: &str, run: impl Fn() -> Outcome) -> Option<Verdict> {
    let failure = with(Some(mutant), &run).failure?;
    let by = by.to_owned();
    Some(match run().failure {
        Some(own) => Verdict::Unsound { by, evidence: own.violation.to_string() },
        None => {
            Verdict::Killed { by, invariant: failure.violation.invariant(), evidence: failure.violation.to_string() }
        }
    })
}
