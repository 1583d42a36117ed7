//! The coordinator's process: configuration, signals, exit code.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use tidemill_coordinator::runtime::raft::Member;
use tidemill_coordinator::runtime::server::{Coordinator, CoordinatorSettings, RecoveryPlan};
use tidemill_model::config::{Configuration, Scope};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Keeps the state of a Tidemill cluster, and runs its jobs while it leads.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_precedence_over_arg = true)]
struct Arguments {
    #[command(subcommand)]
    offline: Option<Offline>,
    /// A TOML file of options.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One option, over the file's.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Listen on other addresses than loopback although there is neither encryption nor authentication.
    #[arg(long)]
    insecure: bool,
}

/// What is done to a data directory while no coordinator runs on it; `tidemill admin` is the usual door.
#[derive(Debug, Subcommand)]
enum Offline {
    /// Begin a new cluster from a backup, in an empty data directory.
    Restore {
        /// The backup.
        file: PathBuf,
        /// The data directory.
        #[arg(long)]
        dir: PathBuf,
        /// The coordinator's name.
        #[arg(long)]
        name: String,
        /// Where it will listen for other coordinators.
        #[arg(long, value_name = "HOST:PORT")]
        raft: String,
        /// Where it will listen for clients.
        #[arg(long, value_name = "HOST:PORT")]
        client: String,
        /// What would be typed at the prompt.
        #[arg(long, value_name = "TEXT")]
        confirm: Option<String>,
    },
    /// Begin a new cluster from one survivor of a quorum that is gone for good.
    Recover {
        /// The survivor's data directory.
        #[arg(long)]
        dir: PathBuf,
        /// Really do it; without it, only say what would happen.
        #[arg(long)]
        force_new_cluster: bool,
        /// What would be typed at the prompt.
        #[arg(long, value_name = "TEXT")]
        confirm: Option<String>,
    },
}

fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,openraft=warn"));
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours).init();
    let arguments = Arguments::parse();
    #[cfg(feature = "mutants")]
    if let Ok(name) = std::env::var(tidemill_model::mutant::VARIABLE) {
        tidemill_model::mutant::activate(name.parse()?);
    }
    tidemill_failpoint::set_from_environment()?;
    if let Some(offline) = arguments.offline {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start runtime")?;
        return runtime.block_on(run_offline(offline));
    }
    let configuration = configuration(&arguments)?;
    let settings = CoordinatorSettings::new(&configuration, arguments.insecure)?;
    tracing::info!("configuration: {configuration}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start runtime")?;
    runtime.block_on(run(settings))
}

async fn run_offline(offline: Offline) -> anyhow::Result<()> {
    let (plan, confirm) = match offline {
        Offline::Restore { file, dir, name, raft, client, confirm } => {
            let member = Member { name, raft_address: raft, client_address: client };
            (RecoveryPlan::restore(&file, &dir, member)?, confirm)
        }
        Offline::Recover { dir, force_new_cluster, confirm } => {
            let plan = RecoveryPlan::recover(&dir).await?;
            if !force_new_cluster {
                say(&format!("{}\nNothing was changed. To go on, give --force-new-cluster.\n", plan.report))?;
                return Ok(());
            }
            (plan, confirm)
        }
    };
    say(&plan.report)?;
    let typed = match confirm {
        Some(typed) => typed,
        None => {
            say(&format!("\nTo go on, type: {}\n> ", plan.phrase))?;
            let mut line = String::new();
            io::stdin().read_line(&mut line).context("read confirmation")?;
            line
        }
    };
    let begun = plan.carry_out(&typed).await?;
    let kept = begun.kept.map(|kept| format!("; the old log is kept in {}", kept.display())).unwrap_or_default();
    say(&format!("\nbegan cluster {} with coordinator {}{kept}\n", begun.cluster, begun.member.name))
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("write to standard output")
}

async fn run(settings: CoordinatorSettings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let coordinator = Coordinator::start(settings).await?;
    let own = coordinator.node().own();
    // Whoever started this process waits for the line.
    let mut stdout = io::stdout();
    writeln!(
        stdout,
        "tidemill-coordinator ready name={} client={} raft={} http={} pid={}",
        own.name,
        own.client_address,
        own.raft_address,
        coordinator.http_address(),
        std::process::id()
    )
    .and_then(|()| stdout.flush())
    .context("write ready line")?;
    let failure = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        reason = coordinator.failed() => Some(reason),
    };
    if let Some(reason) = failure {
        bail!("run coordinator: the replicated log has stopped: {reason}");
    }
    tracing::info!("told to stop");
    coordinator.shutdown().await;
    Ok(())
}

fn configuration(arguments: &Arguments) -> anyhow::Result<Configuration> {
    let mut pairs = Vec::new();
    if let Some(path) = &arguments.config {
        let text = std::fs::read_to_string(path).with_context(|| format!("read configuration {}", path.display()))?;
        let table: toml::Table = text.parse().with_context(|| format!("parse configuration {}", path.display()))?;
        flatten("", table, &mut pairs);
    }
    Configuration::parse(Scope::Coordinator, pairs, &arguments.overrides).context("read configuration")
}

/// Tables within tables become dotted keys.
fn flatten(prefix: &str, table: toml::Table, pairs: &mut Vec<(String, String)>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(table) => flatten(&key, table, pairs),
            toml::Value::Array(values) => {
                pairs.push((key, values.into_iter().map(text).collect::<Vec<_>>().join(",")));
            }
            toml::Value::String(_)
            | toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_) => pairs.push((key, text(value))),
        }
    }
}

fn text(value: toml::Value) -> String {
    match value {
        toml::Value::String(text) => text,
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(flag) => flag.to_string(),
        toml::Value::Datetime(time) => time.to_string(),
        // No option takes them inside a list; the option's own check refuses them by name.
        toml::Value::Array(_) => "a list".to_owned(),
        toml::Value::Table(_) => "a table".to_owned(),
    }
}
