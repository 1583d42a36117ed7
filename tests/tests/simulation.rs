//! The control plane under seeds: every invariant after every step, and everything heals.

use tidemill_tests::sim::{Scenario, Telling, play, simulate, simulate_all};

/// What leaderships decide in simulations. (Publishing fails for good in none of them.)
const DECISIONS: [&str; 16] = [
    "CancelJob",
    "CompleteCheckpoint",
    "EndJob",
    "FailOver",
    "RecordGarbageDeleted",
    "RecordNotified",
    "RecordSchedule",
    "RecordStraggler",
    "RecordTakeover",
    "RecordTerminal",
    "RegisterBlob",
    "Relocate",
    "ReserveCheckpoints",
    "SetDraining",
    "StartCommitting",
    "SubmitJob",
];

#[test]
fn two_hundred_seeds_hold_every_invariant_and_heal() {
    let (totals, failures) = simulate_all(0, 200);
    println!("{totals}");
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert!(texts.is_empty(), "{}", texts.join("\n"));
    // A simulation in which nothing happens proves nothing.
    assert!(totals.leaderships > 600 && totals.faults > 2000, "{totals}");
    assert!(totals.adopted > 500 && totals.published > 200 && totals.comparisons > 1000, "{totals}");
    for name in
        ["FailOver", "CompleteCheckpoint", "CancelJob", "RecordTakeover", "StartCommitting", "EndJob", "Relocate"]
    {
        assert!(totals.applied(name) > 20, "{name}: {totals}");
    }
    // Whatever comes too late is refused, of every kind that there is. (The lease sees to it that next to no task manager
    // is ever welcomed by a leader that is out of office; the agent's own tests do that.)
    for kind in ["Deploy", "Cancel", "Acknowledge", "Finalize", "Release", "Checkpoint"] {
        assert!(totals.refused.get(kind).is_some_and(|count| *count > 3), "{kind}: {totals}");
    }
    for name in DECISIONS {
        assert!(totals.stale.get(name).is_some_and(|count| *count > 0), "{name}: {totals}");
    }
    assert!(totals.lingered > 0, "{totals}");
}

#[test]
fn two_runs_of_a_seed_are_equal() {
    for seed in [3, 17, 58] {
        let [first, second] = [(); 2].map(|()| simulate(seed, Telling::Silent));
        assert_eq!(first, second, "seed {seed}");
        assert_ne!(first.hash, simulate(seed + 1, Telling::Silent).hash);
    }
}

#[test]
fn directed_scenarios_hold_every_invariant_and_heal() {
    for scenario in Scenario::ALL {
        let outcome = play(scenario, Telling::Silent);
        assert_eq!(outcome.failure, None, "{scenario}");
        let faults = match scenario {
            Scenario::LeaderStopped | Scenario::JobEndedMeanwhile => 1..=1,
            Scenario::MasterPanicsOverGrant => 3..=3,
            // So often that it is given up, and tried again.
            Scenario::MasterPanicsOverCommit => 6..=u64::MAX,
        };
        let totals = outcome.totals;
        assert!(faults.contains(&totals.faults) && totals.tasks >= 8, "{scenario}: {totals}");
    }
}
