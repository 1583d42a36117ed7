//! The coordinator's process: configuration, signals, exit code.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Parser;
use tidemill_coordinator::runtime::server::{Coordinator, CoordinatorSettings};
use tidemill_model::config::{Configuration, Scope};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Keeps the state of a Tidemill cluster, and runs its jobs while it leads.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
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
    let configuration = configuration(&arguments)?;
    let settings = CoordinatorSettings::new(&configuration, arguments.insecure)?;
    tracing::info!("configuration: {configuration}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start runtime")?;
    runtime.block_on(run(settings))
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
