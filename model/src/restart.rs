//! Restart strategies: whether and when what has failed is started again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The most failures that are remembered; a failure-rate strategy cannot allow more.
pub const FAILURES_REMEMBERED: usize = 128;

/// How often and how fast a failure that may pass leads to another try (`restart-strategy.*`, as Flink's).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartStrategy {
    /// Never: the first failure is the job's.
    None,
    /// So many times, each after the same pause.
    FixedDelay {
        /// How often.
        attempts: u32,
        /// The pause.
        delay: Duration,
    },
    /// As long as no more than so many failures fall into an interval.
    FailureRate {
        /// How many failures an interval may have.
        failures_max: u32,
        /// The interval.
        interval: Duration,
        /// The pause before each restart.
        delay: Duration,
    },
    /// After pauses that grow, and shrink to the first one again when all has been well for long enough.
    ExponentialDelay {
        /// The first pause.
        initial: Duration,
        /// The longest pause.
        max: Duration,
        /// The growth of the pause, in thousandths.
        multiplier_permille: u32,
        /// After so long without a failure, the next pause is the first one again.
        reset_after: Duration,
        /// Up to so many thousandths of the pause are added or taken away, so that jobs that failed together do not
        /// come back together.
        jitter_permille: u32,
        /// How often at most between two resets; none: without end.
        attempts: Option<u32>,
    },
}

impl Default for RestartStrategy {
    /// Flink's default, with a first pause of 100 ms instead of 1 s: a spare slot takes over within a second.
    fn default() -> Self {
        Self::ExponentialDelay {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(60),
            multiplier_permille: 1500,
            reset_after: Duration::from_secs(3600),
            jitter_permille: 100,
            attempts: None,
        }
    }
}

/// The failures that count for a restart strategy; replicated, so that another leader goes on counting.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FailureHistory {
    /// When, oldest first; at most [`FAILURES_REMEMBERED`].
    times: Vec<Timestamp>,
    /// How many failures there have been since the pause was last the first one.
    streak: u32,
}

/// What follows from a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestartDecision {
    /// Start again after this pause.
    After(Duration),
    /// Give up; why, in words.
    GiveUp(String),
}

impl FailureHistory {
    /// Counts a failure.
    pub fn record(&mut self, strategy: &RestartStrategy, now: Timestamp) {
        self.streak = self.streak_at(strategy, now).saturating_add(1);
        if self.times.len() == FAILURES_REMEMBERED {
            self.times.remove(0);
        }
        self.times.push(now);
    }

    /// How long the failures go on without a pause that resets them.
    fn streak_at(&self, strategy: &RestartStrategy, now: Timestamp) -> u32 {
        let RestartStrategy::ExponentialDelay { reset_after, .. } = strategy else { return self.streak };
        let well = self.times.last().is_some_and(|last| now.since(*last) >= *reset_after);
        if well { 0 } else { self.streak }
    }

    fn within(&self, interval: Duration, now: Timestamp) -> usize {
        self.times.iter().filter(|time| now.since(**time) < interval).count()
    }
}

impl RestartStrategy {
    /// What follows from a failure now, after those of the history. `seed` spreads the pauses of different jobs.
    #[must_use]
    pub fn decide(&self, history: &FailureHistory, now: Timestamp, seed: u64) -> RestartDecision {
        match *self {
            Self::None => RestartDecision::GiveUp("the job does not want restarts (restart-strategy.type)".to_owned()),
            Self::FixedDelay { attempts, .. } if history.streak >= attempts => {
                RestartDecision::GiveUp(format!("after {attempts} restarts (restart-strategy.fixed-delay.attempts)"))
            }
            Self::FixedDelay { delay, .. } => RestartDecision::After(delay),
            Self::FailureRate { failures_max, interval, delay } => {
                let allowed = usize::try_from(failures_max).unwrap_or(usize::MAX);
                if history.within(interval, now) >= allowed {
                    let text = "failures within one interval (restart-strategy.failure-rate.*)";
                    return RestartDecision::GiveUp(format!("more than {failures_max} {text}"));
                }
                RestartDecision::After(delay)
            }
            Self::ExponentialDelay { initial, max, multiplier_permille, jitter_permille, attempts, .. } => {
                let streak = history.streak_at(self, now);
                if let Some(attempts) = attempts.filter(|attempts| streak >= *attempts) {
                    let text = "restarts (restart-strategy.exponential-delay.attempts-before-reset-backoff)";
                    return RestartDecision::GiveUp(format!("after {attempts} {text}"));
                }
                let pause = grown(initial, max, multiplier_permille, streak);
                RestartDecision::After(spread(pause, jitter_permille, seed ^ u64::from(streak)).min(max))
            }
        }
    }
}

/// The pause after `streak` earlier failures.
fn grown(initial: Duration, max: Duration, multiplier_permille: u32, streak: u32) -> Duration {
    let mut micros = initial.as_micros();
    for _ in 0..streak {
        if micros >= max.as_micros() || multiplier_permille <= 1000 {
            break;
        }
        micros = (micros * u128::from(multiplier_permille) / 1000).max(micros + 1);
    }
    Duration::from_micros(u64::try_from(micros.min(max.as_micros())).unwrap_or(u64::MAX))
}

/// The pause, longer or shorter by up to its jitter. The mix is splitmix64's.
fn spread(pause: Duration, jitter_permille: u32, seed: u64) -> Duration {
    let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
    let width = micros.saturating_mul(u64::from(jitter_permille)) / 1000;
    Duration::from_micros((micros - width.min(micros)).saturating_add(mixed % (2 * width + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn after(strategy: &RestartStrategy, failures: &[u64], now: u64) -> RestartDecision {
        let mut history = FailureHistory::default();
        failures.iter().for_each(|&at| history.record(strategy, Timestamp(at)));
        strategy.decide(&history, Timestamp(now), 7)
    }

    fn gives_up(decision: &RestartDecision) -> bool {
        matches!(decision, RestartDecision::GiveUp(_))
    }

    #[test]
    fn without_restarts_the_first_failure_is_final() {
        assert!(gives_up(&after(&RestartStrategy::None, &[], 0)));
    }

    #[test]
    fn a_fixed_delay_allows_so_many_restarts_for_good() {
        let strategy = RestartStrategy::FixedDelay { attempts: 2, delay: SECOND };
        assert_eq!(after(&strategy, &[1], 1_000_000), RestartDecision::After(SECOND));
        assert!(gives_up(&after(&strategy, &[1, 2], 1_000_000_000)));
    }

    #[test]
    fn a_failure_rate_counts_the_failures_of_the_last_interval_only() {
        let strategy = RestartStrategy::FailureRate { failures_max: 2, interval: SECOND * 10, delay: SECOND };
        assert_eq!(after(&strategy, &[0, 9_000], 10_500), RestartDecision::After(SECOND));
        assert!(gives_up(&after(&strategy, &[1_000, 9_000], 10_500)));
    }

    #[test]
    fn pauses_grow_up_to_their_limit_and_start_again_after_a_quiet_time() {
        let strategy = RestartStrategy::ExponentialDelay {
            initial: SECOND,
            max: SECOND * 4,
            multiplier_permille: 2000,
            reset_after: SECOND * 100,
            jitter_permille: 0,
            attempts: Some(5),
        };
        let pauses = [&[][..], &[1], &[1, 2], &[1, 2, 3]].map(|failures| after(&strategy, failures, 10));
        assert_eq!(pauses, [1, 2, 4, 4].map(|seconds| RestartDecision::After(SECOND * seconds)));
        assert_eq!(after(&strategy, &[1, 2, 3], 100_003), RestartDecision::After(SECOND));
        assert!(gives_up(&after(&strategy, &[1, 2, 3, 4, 5], 10)));
        assert_eq!(after(&strategy, &[1, 2, 3, 4, 200_000], 200_010), RestartDecision::After(SECOND * 2));
    }

    #[test]
    fn jitter_stays_within_its_share_and_differs_between_jobs() {
        let pauses: Vec<Duration> = (0..100).map(|seed| spread(SECOND, 100, seed)).collect();
        assert!(pauses.iter().all(|pause| (Duration::from_millis(900)..=Duration::from_millis(1100)).contains(pause)));
        assert!(pauses.windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn endless_growth_does_not_overflow() {
        let failures = vec![1; 1000];
        let RestartDecision::After(pause) = after(&RestartStrategy::default(), &failures, 1) else {
            panic!("the default never gives up");
        };
        assert!(pause <= SECOND * 60);
    }
}
