//! What a checker says, and which of several words is the worst.

use serde::{Deserialize, Serialize};

/// A checker's word on one phase of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// It holds; with the figures that show how much was looked at.
    Valid {
        /// What was looked at.
        evidence: String,
    },
    /// It could not be looked at here; says why. Never a pass.
    Skipped {
        /// Why.
        why: String,
    },
    /// Nothing is proven.
    Unknown {
        /// Why.
        why: String,
    },
    /// It does not hold.
    Invalid {
        /// What was found.
        why: String,
        /// The calls that show it, in words.
        ops: Vec<String>,
        /// From when to when, in nanoseconds of the run's clock; equal when it is about one moment.
        between: (u64, u64),
    },
}

impl Verdict {
    /// It holds.
    pub fn valid(evidence: impl Into<String>) -> Self {
        Self::Valid { evidence: evidence.into() }
    }

    /// Nothing is proven.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown { why: why.into() }
    }

    /// It could not be looked at.
    pub fn skipped(why: impl Into<String>) -> Self {
        Self::Skipped { why: why.into() }
    }

    /// It does not hold.
    pub fn invalid(why: impl Into<String>, ops: Vec<String>, between: (u64, u64)) -> Self {
        Self::Invalid { why: why.into(), ops, between }
    }

    /// One word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Valid { .. } => "valid",
            Self::Skipped { .. } => "skipped",
            Self::Unknown { .. } => "unknown",
            Self::Invalid { .. } => "invalid",
        }
    }

    /// One sentence.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Valid { evidence } => evidence,
            Self::Skipped { why } | Self::Unknown { why } | Self::Invalid { why, .. } => why,
        }
    }

    fn severity(&self) -> u8 {
        match self {
            Self::Valid { .. } => 0,
            Self::Skipped { .. } => 1,
            Self::Unknown { .. } => 2,
            Self::Invalid { .. } => 3,
        }
    }

    /// The worse of two.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        if other.severity() > self.severity() { other } else { self }
    }
}

/// One cell of the table of verdicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The checker's name, such as `K1`.
    pub checker: String,
    /// The phase it judged; `run` for the whole.
    pub phase: String,
    /// Its word.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// How many findings passed, failed and were skipped, and the exit code that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Valid ones.
    pub passed: usize,
    /// Invalid ones, and those that prove nothing.
    pub failed: usize,
    /// Those that could not be looked at here.
    pub skipped: usize,
    /// 0 valid, 1 invalid, 2 nothing proven.
    pub exit_code: u8,
}

impl Totals {
    /// Counts the findings.
    #[must_use]
    pub fn of(findings: &[Finding]) -> Self {
        let count = |name: &str| findings.iter().filter(|finding| finding.verdict.name() == name).count();
        let (invalid, unknown) = (count("invalid"), count("unknown"));
        let passed = count("valid");
        let exit_code = match (invalid, unknown, passed) {
            (0, 0, 1..) => 0,
            (0, _, _) => 2,
            (1.., _, _) => 1,
        };
        Self { passed, failed: invalid + unknown, skipped: count("skipped"), exit_code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(verdict: Verdict) -> Finding {
        Finding { checker: "K1".to_owned(), phase: "run".to_owned(), verdict }
    }

    #[test]
    fn the_worst_word_wins() {
        let invalid = Verdict::invalid("lost", vec![], (1, 1));
        assert_eq!(Verdict::valid("x").worst(invalid.clone()), invalid);
        assert_eq!(invalid.clone().worst(Verdict::unknown("slow")), invalid);
        assert_eq!(Verdict::skipped("no root").worst(Verdict::valid("x")).name(), "skipped");
    }

    #[test]
    fn nothing_proven_is_no_success() {
        assert_eq!(Totals::of(&[]).exit_code, 2);
        assert_eq!(Totals::of(&[finding(Verdict::skipped("no root"))]).exit_code, 2);
        let valid = finding(Verdict::valid("x"));
        assert_eq!(Totals::of(&[valid.clone(), finding(Verdict::skipped("no root"))]).exit_code, 0);
        assert_eq!(Totals::of(&[valid.clone(), finding(Verdict::unknown("slow"))]).exit_code, 2);
        let totals = Totals::of(&[valid, finding(Verdict::invalid("lost", vec![], (0, 0)))]);
        assert_eq!((totals.passed, totals.failed, totals.skipped, totals.exit_code), (1, 1, 0, 1));
    }
}
