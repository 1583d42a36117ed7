//! The control plane under seeds: every invariant after every step, and everything heals.

use tidemill_tests::sim::{Telling, simulate, simulate_all};

#[test]
fn two_hundred_seeds_hold_every_invariant_and_heal() {
    let (totals, failures) = simulate_all(0, 200);
    println!("{totals}");
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert!(texts.is_empty(), "{}", texts.join("\n"));
    // A simulation in which nothing happens proves nothing.
    assert!(totals.leaderships > 600 && totals.faults > 2000, "{totals}");
    assert!(totals.adopted > 500 && totals.published > 200 && totals.comparisons > 1000, "{totals}");
    for name in ["FailOver", "CompleteCheckpoint", "CancelJob", "RecordTakeover", "StartCommitting", "EndJob"] {
        assert!(totals.applied(name) > 20, "{name}: {totals}");
    }
    for kind in ["Deploy", "Cancel", "Acknowledge", "Finalize", "Release"] {
        assert!(totals.refused.get(kind).is_some_and(|count| *count > 3), "{kind}: {totals}");
    }
    assert!(totals.stale.values().sum::<u64>() > 0 && totals.lingered > 0, "{totals}");
}

#[test]
fn two_runs_of_a_seed_are_equal() {
    for seed in [3, 17, 58] {
        let [first, second] = [(); 2].map(|()| simulate(seed, Telling::Silent));
        assert_eq!(first, second, "seed {seed}");
        assert_ne!(first.hash, simulate(seed + 1, Telling::Silent).hash);
    }
}

/// Each found a mistake, in the product or in the simulated environment: see the history of this list.
const ONCE_FAILED: [u64; 14] =
    [898, 4189, 4536, 6061, 8693, 9563, 9994, 10170, 10691, 24782, 26950, 28553, 29763, 29913];

#[test]
fn seeds_that_once_failed_hold() {
    for seed in ONCE_FAILED {
        let failure = simulate(seed, Telling::Silent).failure;
        assert!(failure.is_none(), "{}", failure.map(|failure| failure.to_string()).unwrap_or_default());
    }
}
