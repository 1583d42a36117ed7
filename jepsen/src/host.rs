//! The hosts of a run: coordinators `c1..`, task managers `t1..`, and `k1`, where clients live.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// A coordinator.
    Coordinator,
    /// A task manager.
    TaskManager,
    /// Clients.
    Client,
}

/// One host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// What it is for.
    pub role: Role,
    /// Which of them, from 1.
    pub number: u8,
}

impl Host {
    /// The `number`-th coordinator, from 1.
    #[must_use]
    pub fn coordinator(number: u8) -> Self {
        Self { role: Role::Coordinator, number }
    }

    /// The `number`-th task manager, from 1.
    #[must_use]
    pub fn task_manager(number: u8) -> Self {
        Self { role: Role::TaskManager, number }
    }

    /// Where the clients are.
    #[must_use]
    pub fn client() -> Self {
        Self { role: Role::Client, number: 1 }
    }

    /// Its place in the run's subnet: no two hosts share one.
    #[must_use]
    pub fn octet(self) -> u8 {
        let base = match self.role {
            Role::Coordinator => 10,
            Role::TaskManager => 40,
            Role::Client => 70,
        };
        base + self.number
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.role {
            Role::Coordinator => 'c',
            Role::TaskManager => 't',
            Role::Client => 'k',
        };
        write!(f, "{letter}{}", self.number)
    }
}

impl Serialize for Host {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// No name of a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read host {0:?}: hosts are c1.., t1.. and k1")]
pub struct NoHost(String);

impl std::str::FromStr for Host {
    type Err = NoHost;

    fn from_str(text: &str) -> Result<Self, NoHost> {
        let error = || NoHost(text.to_owned());
        let mut letters = text.chars();
        let role = match letters.next() {
            Some('c') => Role::Coordinator,
            Some('t') => Role::TaskManager,
            Some('k') => Role::Client,
            _ => return Err(error()),
        };
        let number = letters.as_str().parse().ok().filter(|number| (1..=20).contains(number)).ok_or_else(error)?;
        Ok(Self { role, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_places_differ() {
        let hosts = [Host::coordinator(3), Host::task_manager(3), Host::client()];
        for host in hosts {
            assert_eq!(host.to_string().parse(), Ok(host));
        }
        assert_eq!(hosts.map(Host::octet), [13, 43, 71]);
        assert!("x1".parse::<Host>().is_err() && "c".parse::<Host>().is_err() && "c99".parse::<Host>().is_err());
    }
}
