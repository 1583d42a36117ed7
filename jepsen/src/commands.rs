//! What the command line can do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand, ValueEnum};

use crate::check::verdict::{Totals, Verdict};
use crate::clean;
use crate::cluster::{Binaries, Containment};
use crate::lock::{self, Lock};
use crate::process::cgroup;
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
    /// Removes what runs that died have left: processes, namespaces, cgroups, lock files.
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
    #[command(flatten)]
    placement: Placement,
}

#[derive(Debug, clap::Args)]
struct Placement {
    /// The network between hosts.
    #[arg(long, value_enum, default_value_t = NetKind::Auto)]
    net: NetKind,
    /// The run's folder; below the temporary folder, if it is not given.
    #[arg(long)]
    out: Option<PathBuf>,
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
            run_schedule(&schedule, &arguments.placement)
        }
        Command::Replay { schedule, placement } => {
            let text = std::fs::read_to_string(schedule).with_context(|| format!("read {}", schedule.display()))?;
            let schedule = serde_json::from_str(&text).with_context(|| format!("read {}", schedule.display()))?;
            run_schedule(&schedule, placement)
        }
        Command::Check { run } => judge(&RunDir::new(run)),
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
        Command::Clean => {
            for line in clean::all()? {
                println!("{line}");
            }
            Ok(0)
        }
    }
}

fn doctor() -> u8 {
    for capability in caps::all() {
        let state = capability.missing.map_or_else(|| "yes".to_owned(), |why| format!("SKIPPED({why})"));
        println!("{:12} {state}   [{}]", capability.name, capability.for_what);
    }
    match Binaries::find() {
        Ok(binaries) => println!("{:12} {}", "binaries", binaries.coordinator.display()),
        Err(error) => println!("{:12} {error:#}", "binaries"),
    }
    0
}

fn run_schedule(schedule: &Schedule, placement: &Placement) -> anyhow::Result<u8> {
    let binaries = Binaries::find()?;
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
    let setup = Setup { run: lock.run().to_owned(), net, containment, binaries, folder: path.clone() };
    let mut recorded = run::carry_out(setup, schedule)?;
    cgroup::remove_all(lock.run())?;
    recorded.leftovers.extend(clean::left_of(lock.run()));
    folder.store(&recorded)?;
    drop(lock);
    let code = judge(&folder)?;
    if code == 0 {
        // What a success left on disk tells nothing; of a failure everything is kept.
        drop(std::fs::remove_dir_all(folder.file("data")));
    }
    Ok(code)
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
    let missing =
        caps::all().into_iter().filter_map(|capability| Some(format!("{}: {}", capability.name, capability.missing?)));
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

/// Judges a stored run, writes the result and the report, prints both; the exit code.
fn judge(folder: &RunDir) -> anyhow::Result<u8> {
    let run = folder.load()?;
    let findings = check::all(&run);
    let totals = Totals::of(&findings);
    let figures = figures::of(&run);
    folder.write("result.json", &Verdicts { totals, findings: findings.clone(), figures: figures.clone() })?;
    report::write(folder)?;
    for finding in &findings {
        let verdict = &finding.verdict;
        println!("{:8} {} {}: {}", verdict.name(), finding.checker, finding.phase, verdict.reason());
        if let Verdict::Invalid { ops, .. } = verdict {
            for op in ops {
                println!("           {op}");
            }
        }
    }
    for (name, value) in &figures {
        println!("{name}: {value:.2}");
    }
    println!("report: {}", folder.file("report.html").display());
    println!("{} passed, {} failed, {} skipped", totals.passed, totals.failed, totals.skipped);
    Ok(totals.exit_code)
}
