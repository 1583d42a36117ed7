//! The matrix of mutants: which known bug is found by which invariant, with which seed.
//!
//! Each mutant is put back in turn, and seeds are simulated until one finds it; the same seed must find nothing in the
//! code as it is.

use std::fmt;

use tidemill_model::mutant::{Mutant, with};

use super::{Outcome, Telling, simulate};

/// How a mutant was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// By this invariant, with this seed; the unmutated code passed it.
    Killed {
        /// The seed.
        seed: u64,
        /// How many seeds were tried before.
        tried: u64,
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
        /// The seed.
        seed: u64,
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
            Verdict::Killed { seed, tried, invariant, evidence } => {
                let short: String = evidence.chars().take(110).collect();
                write!(f, "{name:32} {invariant:18} seed {seed:<6} ({tried} before it)  {short}")
            }
            Verdict::Survived { tried } => write!(f, "{name:32} SURVIVED {tried} seeds"),
            Verdict::Unsound { seed, evidence } => {
                write!(f, "{name:32} PROVES NOTHING: seed {seed} fails without it too: {evidence}")
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

/// Simulates one seed with a bug put back.
#[must_use]
pub fn simulate_mutant(mutant: Mutant, seed: u64, telling: Telling) -> Outcome {
    with(Some(mutant), || simulate(seed, telling))
}

/// Looks for a seed that finds a mutant.
#[must_use]
pub fn hunt(mutant: Mutant, seeds: u64) -> Row {
    for seed in 0..seeds {
        let Some(failure) = simulate_mutant(mutant, seed, Telling::Silent).failure else { continue };
        let verdict = match simulate(seed, Telling::Silent).failure {
            Some(own) => Verdict::Unsound { seed, evidence: own.violation.to_string() },
            None => Verdict::Killed {
                seed,
                tried: seed,
                invariant: failure.violation.invariant(),
                evidence: failure.violation.to_string(),
            },
        };
        return Row { mutant, verdict };
    }
    Row { mutant, verdict: Verdict::Survived { tried: seeds } }
}
