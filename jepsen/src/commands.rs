//! What the command line can do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand, ValueEnum};

use crate::binaries::Binaries;
use crate::bug::Bug;
use crate::check::verdict::{Totals, Verdict};
use crate::clean;
use crate::cluster::Containment;
use crate::lock::{self, Lock};
use crate::mutants;
use crate::process::cgroup;
use crate::record::Run;
use crate::report::{self, figures};
use crate::run::{self, Setup};
use crate::rundir::{Environment, RunDir, Verdicts};
use crate::schedule::{self, Schedule};
use crate::topo::Net;
use crate::topo::proxy::ProxyNet;
use crate::topo::veth::VethNet;
use crate::{caps, check, clock};

/// Breaks a Tidemill cluster of real processes by a seeded schedule, and judges what clients and tasks saw.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says what this machine lets the harness do.
    Doctor,
    /// Runs a suite.
    Run(RunArguments),
    /// Runs a stored schedule again.
    Replay {
        /// A `schedule.json`.
        schedule: PathBuf,
        #[command(flatten)]
        placement: Placement,
    },
    /// Judges a stored run again.
    Check {
        /// The run's folder.
        run: PathBuf,
    },
    /// Draws a stored run's report again.
    Report {
        /// The run's folder.
        run: PathBuf,
    },
    /// Writes a stored history in the forms of other checkers: `history.edn` and `history.jsonl`.
    Export {
        /// The run's folder.
        run: PathBuf,
    },
    /// Puts known bugs back, one by one, and sees whether the checker named for each finds it; most need servers that are
    /// built with the feature `mutants`.
    Mutants {
        /// Only these.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// What chance is made from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        placement: Placement,
    },
    /// Removes what runs that died have left: processes, namespaces, cgroups, disks, lock files.
    Clean,
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// Which suite.
    #[arg(long, value_enum, default_value_t = Suite::Smoke)]
    suite: Suite,
    /// What chance is made from; the time, if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// How long the random suite breaks things, in seconds.
    #[arg(long, default_value_t = 60)]
    time: u64,
    /// A known bug to put back: `unsynced-log`, `unsynced-identity`, or one of servers that are built with the feature
    /// `mutants`.
    #[arg(long)]
    mutant: Option<Bug>,
    #[command(flatten)]
    placement: Placement,
}

/// Where a run takes place and what it leaves.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Placement {
    /// The network between hosts.
    #[arg(long, value_enum, default_value_t = NetKind::Auto)]
    net: NetKind,
    /// The run's folder; below the temporary folder, if it is not given.
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Placement {
    /// The same, with a folder of its own below.
    pub(crate) fn below(&self, name: &str) -> Self {
        Self { net: self.net, out: self.out.as_ref().map(|out| out.join(name)) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Each fault of the leader once: what the continuous build runs.
    Smoke,
    /// Faults that the seed chooses.
    Random,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NetKind {
    /// The best that this machine allows.
    Auto,
    /// Network namespaces of the kernel; needs root.
    Veth,
    /// Addresses of the loopback interface, and proxies between them; needs nothing.
    Proxy,
}

/// Does what the command line says; the exit code.
///
/// # Errors
///
/// When the harness itself fails.
pub fn execute(arguments: &Arguments) -> anyhow::Result<u8> {
    match &arguments.command {
        Command::Doctor => Ok(doctor()),
        Command::Run(arguments) => {
            let seed = arguments.seed.unwrap_or_else(clock::wall);
            let schedule = match arguments.suite {
                Suite::Smoke => schedule::smoke(seed),
                Suite::Random => schedule::random(seed, Duration::from_secs(arguments.time)),
            };
            let ran = run_schedule(&schedule, &arguments.placement, arguments.mutant)?;
            match arguments.suite {
                Suite::Smoke if arguments.mutant.is_none() => {
                    mutants::with_negative_control(ran.totals, seed, &arguments.placement)
                }
                Suite::Smoke | Suite::Random => Ok(ran.totals.exit_code),
            }
        }
        Command::Replay { schedule, placement } => {
            let text = std::fs::read_to_string(schedule).with_context(|| format!("read {}", schedule.display()))?;
            let schedule = serde_json::from_str(&text).with_context(|| format!("read {}", schedule.display()))?;
            code_of(run_schedule(&schedule, placement, None))
        }
        Command::Check { run } => code_of(judge(&RunDir::new(run))),
        Command::Report { run } => {
            report::write(&RunDir::new(run))?;
            println!("{}", run.join("report.html").display());
            Ok(0)
        }
        Command::Export { run } => {
            let folder = RunDir::new(run);
            folder.export_edn(&folder.load()?)?;
            println!("{}\n{}", run.join("history.edn").display(), run.join("history.jsonl").display());
            Ok(0)
        }
        Command::Mutants { only, seed, placement } => mutants::hunt(only, *seed, placement),
        Command::Clean => {
            for line in clean::all()? {
                println!("{line}");
            }
            Ok(0)
        }
    }
}

fn code_of(verdicts: anyhow::Result<Verdicts>) -> anyhow::Result<u8> {
    Ok(verdicts?.totals.exit_code)
}

fn doctor() -> u8 {
    for capability in caps::all() {
        let state = capability.missing.as_ref().map_or_else(|| "yes".to_owned(), |why| format!("SKIPPED({why})"));
        println!("{:12} {state}   [{}]", capability.name, capability.for_what);
    }
    match Binaries::find() {
        Ok(binaries) => println!("{:12} {}", "binaries", binaries.coordinator.display()),
        Err(error) => println!("{:12} {error:#}", "binaries"),
    }
    0
}

/// Carries a schedule out, stores what was recorded, and judges it: also what there is of a run that broke off.
pub(crate) fn run_schedule(schedule: &Schedule, placement: &Placement, bug: Option<Bug>) -> anyhow::Result<Verdicts> {
    let (mutant, bug) = match bug {
        None => (None, None),
        Some(Bug::Server(mutant)) => (Some(mutant), None),
        Some(Bug::Disk(bug)) => (None, Some(bug)),
    };
    let binaries = Binaries { mutant, ..Binaries::find()? };
    let lock = Lock::fresh()?;
    let path =
        placement.out.clone().unwrap_or_else(|| lock::folder().join(format!("{}-{}", schedule.suite, lock.run())));
    let path = std::path::absolute(&path).with_context(|| format!("find {}", path.display()))?;
    if path.exists() {
        bail!("write to {}: it is there already; name another folder by --out", path.display());
    }
    let folder = RunDir::new(&path);
    let containment = if caps::has("cgroup") { Containment::Cgroups } else { Containment::ProcessIds };
    let net = network(placement.net, &lock, schedule)?;
    folder.begin(schedule, &environment(schedule, &path, net.name(), containment))?;
    println!("suite {} seed {} in {}", schedule.suite, schedule.seed, path.display());
    let setup = Setup { run: lock.run().to_owned(), net, containment, binaries, bug, folder: path.clone() };
    let mut recorded = Run::default();
    let carried = run::carry_out(setup, schedule, &mut recorded);
    cgroup::remove_all(lock.run())?;
    recorded.leftovers.extend(clean::left_of(lock.run()));
    folder.store(&recorded)?;
    drop(lock);
    let verdicts = judge(&folder)?;
    carried?;
    if verdicts.totals.exit_code == 0 || mutant.is_some() || bug.is_some() {
        // What a success left on disk tells nothing, nor what a bug left that is known; of any other failure everything
        // is kept.
        drop(std::fs::remove_dir_all(folder.file("data")));
    }
    Ok(verdicts)
}

/// The network that is asked for; by itself it takes the kernel's, and proxies where that cannot be built.
fn network(kind: NetKind, lock: &Lock, schedule: &Schedule) -> anyhow::Result<Box<dyn Net>> {
    let hosts = run::hosts(schedule);
    match (kind, caps::lacks_veth()) {
        (NetKind::Veth, Some(missing)) => bail!("build the network: {missing}"),
        (NetKind::Auto | NetKind::Veth, None) => Ok(Box::new(VethNet::build(lock.run(), lock.subnet(), &hosts)?)),
        (NetKind::Auto, Some(missing)) => {
            println!("SKIPPED({missing}): proxies instead of a network of the kernel");
            Ok(Box::new(ProxyNet::build(lock.subnet(), &hosts)?))
        }
        (NetKind::Proxy, _) => Ok(Box::new(ProxyNet::build(lock.subnet(), &hosts)?)),
    }
}

fn environment(schedule: &Schedule, path: &Path, net: &str, containment: Containment) -> Environment {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let commit = crate::topo::command::run("git", &["rev-parse", "HEAD"], "").unwrap_or_default();
    let missing = caps::all().iter().filter_map(|capability| caps::lacks(capability.name));
    Environment {
        seed: schedule.seed,
        net: net.to_owned(),
        containment: format!("{containment:?}"),
        kernel: read("/proc/sys/kernel/osrelease"),
        commit: commit.trim().to_owned(),
        load: read("/proc/loadavg"),
        missing: missing.collect(),
        command: format!("tidemill-jepsen replay {}", path.join("schedule.json").display()),
    }
}

/// Judges a stored run, writes the result and the report, prints both.
fn judge(folder: &RunDir) -> anyhow::Result<Verdicts> {
    let run = folder.load()?;
    let findings = check::all(&run);
    let totals = Totals::of(&findings);
    let figures = figures::of(&run);
    let verdicts = Verdicts { totals, findings, figures };
    folder.write("result.json", &verdicts)?;
    report::write(folder)?;
    for finding in &verdicts.findings {
        let verdict = &finding.verdict;
        println!("{:8} {} {}: {}", verdict.name(), finding.checker, finding.phase, verdict.reason());
        if let Verdict::Invalid { ops, .. } = verdict {
            for op in ops {
                println!("           {op}");
            }
        }
    }
    for (name, value) in &verdicts.figures {
        println!("{name}: {value:.2}");
    }
    println!("report: {}", folder.file("report.html").display());
    println!("{} passed, {} failed, {} skipped", totals.passed, totals.failed, totals.skipped);
    Ok(verdicts)
}
