//! The worker process: reads its configuration, binds its ports, and serves until it is told to stop.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use tidemill_model::config::{Configuration, Scope};
use tidemill_taskmanager::runtime::{Exposure, TaskManager};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Offers task slots to a Tidemill cluster and runs the executor processes of its jobs.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// A TOML file of options.
    #[arg(long)]
    config: Option<PathBuf>,
    /// One option, over the file's.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Listen on other addresses than loopback although there is no authentication.
    #[arg(long)]
    insecure: bool,
}

fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours).init();
    let arguments = Arguments::parse();
    #[cfg(feature = "mutants")]
    if let Ok(name) = std::env::var(tidemill_model::mutant::VARIABLE) {
        tidemill_model::mutant::activate(name.parse()?);
    }
    tidemill_failpoint::set_from_environment()?;
    let configuration = configuration(&arguments)?;
    let exposure = if arguments.insecure { Exposure::Network } else { Exposure::Loopback };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start runtime")?;
    runtime.block_on(serve(&configuration, exposure))
}

async fn serve(configuration: &Configuration, exposure: Exposure) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let task_manager = TaskManager::bind(configuration, exposure).await?;
    tracing::info!("configuration: {configuration}");
    // Whoever started this process waits for the line.
    let mut stdout = io::stdout();
    writeln!(
        stdout,
        "tidemill-taskmanager ready name={} data={} http={} pid={}",
        task_manager.name(),
        task_manager.data_address(),
        task_manager.http_address(),
        std::process::id()
    )
    .and_then(|()| stdout.flush())
    .context("write ready line")?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(task_manager.run(shutdown).await?)
}

fn configuration(arguments: &Arguments) -> anyhow::Result<Configuration> {
    let mut pairs = Vec::new();
    if let Some(path) = &arguments.config {
        let text = std::fs::read_to_string(path).with_context(|| format!("read configuration {path:?}"))?;
        let table: toml::Table = text.parse().with_context(|| format!("parse configuration {path:?}"))?;
        flatten("", table, &mut pairs);
    }
    Configuration::parse(Scope::TaskManager, pairs, &arguments.overrides).context("read configuration")
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
        toml::Value::Boolean(truth) => truth.to_string(),
        toml::Value::Datetime(time) => time.to_string(),
        // No option is a list of lists: refused by its type, with its key.
        toml::Value::Array(values) => format!("{values:?}"),
        toml::Value::Table(table) => format!("{table:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_become_dotted_keys_and_lists_become_text() {
        let text = "\"heartbeat.interval\" = \"1 s\"\n[taskmanager]\nnumberOfTaskSlots = 3\n[taskmanager.data]\nport = 0\n\
                    [coordinator]\naddresses = [\"a:1\", \"b:2\"]\n";
        let mut pairs = Vec::new();
        flatten("", text.parse().expect("valid TOML"), &mut pairs);
        pairs.sort();
        let pairs: Vec<String> = pairs.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        let expected = [
            "coordinator.addresses=a:1,b:2",
            "heartbeat.interval=1 s",
            "taskmanager.data.port=0",
            "taskmanager.numberOfTaskSlots=3",
        ];
        assert_eq!(pairs, expected);
    }
}
