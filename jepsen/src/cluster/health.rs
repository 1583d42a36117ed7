//! Whether a cluster that nobody breaks any more is whole: every server lives, every coordinator follows.

use std::time::Duration;

use tidemill::job_client::JobClient;

use super::{Cluster, POLL};
use crate::clock;
use crate::host::{Host, Role};

/// How long a coordinator may take to have applied what others had applied when it was left in peace.
const FOLLOW_LIMIT: Duration = Duration::from_secs(20);

impl Cluster {
    /// The servers that ended although nobody killed them, in words. Each is told once.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    pub fn ended_by_themselves(&mut self) -> anyhow::Result<Vec<String>> {
        let hosts: Vec<Host> = self.processes.keys().copied().filter(|host| host.role != Role::Client).collect();
        let mut ended = Vec::new();
        for host in hosts {
            if let Some(end) = self.exited(host)?
                && let Some(process) = self.take(host)
            {
                let log = format!("{host}-{}.err", process.incarnation);
                ended.push(format!("{log}: the server on {host} ended by itself: {end}"));
            }
        }
        Ok(ended)
    }

    /// Waits until every coordinator knows a leader and has applied what any of them has applied by now; those that do
    /// not in time, in words.
    ///
    /// # Errors
    ///
    /// When nobody can be asked.
    pub fn that_do_not_follow(&self) -> anyhow::Result<Vec<String>> {
        let reached = self.applied()?.into_iter().filter_map(|(_, _, applied)| applied).max().unwrap_or_default();
        let deadline = clock::now() + clock::nanos(FOLLOW_LIMIT);
        loop {
            let behind: Vec<_> = self
                .applied()?
                .into_iter()
                .filter(|(_, leader, applied)| leader.is_none() || applied.is_none_or(|applied| applied < reached))
                .collect();
            if behind.is_empty() || clock::now() > deadline {
                return Ok(behind.into_iter().map(|look| in_words(look, reached)).collect());
            }
            clock::pause(POLL);
        }
    }

    /// What each coordinator says: its leader, and up to where it has applied the log.
    fn applied(&self) -> anyhow::Result<Vec<Look>> {
        let mut addresses = self.addresses();
        // Of one that has ended by itself that is told already.
        addresses.retain(|host, _| self.process(*host).is_some());
        self.clients.run(async move {
            let mut looks = Vec::new();
            for (host, address) in addresses {
                let status = JobClient::new(vec![address]).cluster_status().await.into_iter().next();
                let status = status.and_then(|(_, answer)| answer.ok());
                let leader = status.as_ref().and_then(|status| status.leader()).map(|leader| leader.name.clone());
                looks.push((host, leader, status.map(|status| status.applied_index)));
            }
            looks
        })
    }
}

/// A coordinator, the leader that it knows, and up to where it has applied the log.
type Look = (Host, Option<String>, Option<u64>);

fn in_words((host, leader, applied): Look, reached: u64) -> String {
    match (leader, applied) {
        (_, None) => format!("{host} does not answer although nothing is broken any more"),
        (None, Some(_)) => format!("{host} knows no leader although nothing is broken any more"),
        (Some(leader), Some(applied)) => {
            format!("{host} has applied the log up to {applied}, and not up to {reached}, although {leader} leads")
        }
    }
}
