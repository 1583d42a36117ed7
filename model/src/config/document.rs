//! The table of all options for `docs/CONFIGURATION.md`.

use std::fmt::Write;

use super::option::{Declaration, Fallback};
use super::options::ALL;

const INTRODUCTION: &str = "\
# Configuration

This page is generated from the table of options in `model/src/config/options.rs` by `make golden`.

A process takes its options from the TOML file that `--config FILE` names and from `-D key=value` on its command line, which wins.
In the file a dotted key may be written as it is or as tables: `heartbeat.interval = \"500 ms\"` says the same as `[heartbeat]` with `interval = \"500 ms\"`.
One file may serve all processes: each takes what it reads and ignores the rest, but an unknown key or a bad value is refused everywhere.
Times have a unit (`ms`, `s`, `min`, `h`, `d`), and so have memory sizes (`b`, `kb`, `mb`, `gb`, `tb`; powers of 1024).
Port 0 lets the system choose; the process prints what it got.

| Key | Type | Default | Read by | Meaning |
| --- | --- | --- | --- | --- |
";

/// The documentation of all options, as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for declaration in ALL {
        let Declaration { key, kind, .. } = declaration;
        let scopes: Vec<String> = declaration.scopes.iter().map(ToString::to_string).collect();
        let line = format!(
            "| `{key}` | {} | {} | {} | {} |",
            kind.name(),
            default(declaration),
            scopes.join(", "),
            declaration.summary()
        );
        writeln!(page, "{line}").expect("writing to a string does not fail");
    }
    page
}

fn default(declaration: &Declaration) -> String {
    match declaration.fallback {
        Fallback::Value("") => "none".to_owned(),
        Fallback::Value(text) => format!("`{text}`"),
        Fallback::Unset { meaning } => meaning.to_owned(),
        Fallback::Required => "must be given".to_owned(),
    }
}
