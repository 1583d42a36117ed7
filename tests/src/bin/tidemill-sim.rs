//! Simulates the control plane from seeds: one, told aloud, or a range of them; with the feature `mutants`, also what
//! they make of known bugs.

use clap::Parser;
use tidemill_tests::sim::{Outcome, Scenario, Telling, play, simulate, simulate_all};

/// Simulates the control plane from seeds.
#[derive(Debug, Parser)]
struct Arguments {
    /// One seed, told aloud.
    #[arg(long)]
    seed: Option<u64>,
    /// A directed scenario, told aloud.
    #[arg(long, conflicts_with = "seed", value_parser = scenario)]
    scenario: Option<Scenario>,
    /// The first seed of a range.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 200)]
    count: u64,
    /// Puts this bug back.
    #[cfg(feature = "mutants")]
    #[arg(long)]
    mutant: Option<tidemill_model::mutant::Mutant>,
    /// Hunts every mutant with up to `count` seeds, and prints the matrix.
    #[cfg(feature = "mutants")]
    #[arg(long)]
    matrix: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    #[cfg(feature = "mutants")]
    {
        if arguments.matrix {
            return matrix(arguments.count);
        }
        if let Some(mutant) = arguments.mutant {
            tidemill_model::mutant::activate(mutant);
        }
    }
    match (arguments.scenario, arguments.seed) {
        (Some(scenario), _) => one(&play(scenario, Telling::Aloud)),
        (None, Some(seed)) => one(&simulate(seed, Telling::Aloud)),
        (None, None) => many(arguments.first, arguments.count),
    }
}

fn scenario(name: &str) -> Result<Scenario, String> {
    let known = Scenario::ALL.map(|scenario| scenario.to_string());
    let found = Scenario::ALL.into_iter().find(|scenario| scenario.to_string() == name);
    found.ok_or_else(|| format!("no such scenario; there are {}", known.join(", ")))
}

fn one(outcome: &Outcome) -> anyhow::Result<()> {
    println!("{}", outcome.totals);
    println!("trace {:016x}", outcome.hash);
    outcome.failure.as_ref().map_or(Ok(()), |failure| Err(anyhow::anyhow!("{failure}")))
}

fn many(first: u64, count: u64) -> anyhow::Result<()> {
    let (totals, failures) = simulate_all(first, count);
    failures.iter().for_each(|failure| println!("{failure}"));
    println!("{totals}");
    println!("{} of {} seeds passed", totals.seeds - failures.len() as u64, totals.seeds);
    anyhow::ensure!(failures.is_empty(), "{} seeds failed", failures.len());
    Ok(())
}

#[cfg(feature = "mutants")]
fn matrix(seeds: u64) -> anyhow::Result<()> {
    use tidemill_model::mutant::Mutant;
    use tidemill_tests::sim::matrix::hunt;

    // What a mutant breaks may panic: the matrix says so, in its own words.
    std::panic::set_hook(Box::new(|_| {}));
    let mut alive = 0;
    let hunted = Mutant::ALL.iter().filter(|mutant| !mutant.is_of_the_log() && !mutant.is_of_the_tasks());
    let hunted: Vec<Mutant> = hunted.copied().collect();
    for &mutant in &hunted {
        let row = hunt(mutant, seeds);
        println!("{row}");
        alive += usize::from(!row.killed());
    }
    println!("{} of {} mutants killed", hunted.len() - alive, hunted.len());
    anyhow::ensure!(alive == 0, "{alive} mutants are not killed");
    Ok(())
}
