//! What `/proc` tells about processes.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

/// A process that is not mixed up with a later one of the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessKey {
    /// Its id.
    pub id: u32,
    /// When it was started, in the kernel's ticks since boot.
    pub started: u64,
}

/// A line of `/proc/<id>/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Which.
    pub key: ProcessKey,
    /// `R`, `S`, `T`, `Z` and so on.
    pub state: char,
    /// Its parent's id.
    pub parent: u32,
}

impl Stat {
    /// Of the process with this id, if there is one.
    #[must_use]
    pub fn read(id: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name in parentheses may contain anything, parentheses included.
        let (id, rest) = text.split_once(' ')?;
        let (_, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let started = fields.get(19)?.parse().ok()?;
        let key = ProcessKey { id: id.parse().ok()?, started };
        Some(Self { key, state: fields.first()?.chars().next()?, parent: fields.get(1)?.parse().ok()? })
    }
}

/// All processes that live, by id; zombies do not.
#[must_use]
pub fn living() -> BTreeMap<u32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(|id| Some((id, Stat::read(id)?))).filter(|(_, stat)| stat.state != 'Z').collect()
}

/// How many threads of the whole machine run or want to.
#[must_use]
pub fn runnable() -> Option<u32> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("procs_running "))?.trim().parse().ok()
}

/// The living children of a process.
#[must_use]
pub fn children(parent: u32) -> Vec<ProcessKey> {
    living().into_values().filter(|stat| stat.parent == parent).map(|stat| stat.key).collect()
}

/// The living processes whose command line contains a text.
#[must_use]
pub fn mentioning(text: &str) -> Vec<ProcessKey> {
    let own = std::process::id();
    let mentions = |stat: &Stat| {
        let line = fs::read(format!("/proc/{}/cmdline", stat.key.id)).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text)
    };
    living().into_values().filter(|stat| stat.key.id != own && mentions(stat)).map(|stat| stat.key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let line = "42 (a ) S b) T 7 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0\n";
        let stat = Stat::parse(line).expect("a line");
        assert_eq!((stat.key.id, stat.state, stat.parent, stat.key.started), (42, 'T', 7, 12345));
    }

    #[test]
    fn this_process_lives() {
        let own = Stat::read(std::process::id()).expect("it is here");
        assert!(living().contains_key(&own.key.id));
        assert!(children(own.parent).contains(&own.key));
    }
}
