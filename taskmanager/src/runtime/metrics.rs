//! What the task manager counts, and how it is shown to Prometheus.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidemill_model::execution::FailureKind;

use super::agent_loop::Status;

/// Why a data connection was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalReason {
    /// What came is no handshake, or none came in time.
    NoHandshake,
    /// The dialler speaks another version.
    Version,
    /// It asks for what is not here: another cluster, task manager, job or attempt.
    Misled,
}

impl RefusalReason {
    fn label(self) -> &'static str {
        match self {
            Self::NoHandshake => "no handshake",
            Self::Version => "version",
            Self::Misled => "misled",
        }
    }
}

type LabelledCounter = Family<Vec<(String, String)>, Counter>;

type JobGauges = Family<Vec<(String, String)>, Gauge<u64, AtomicU64>>;

/// Counters; what can be derived from the agent's state is derived when it is asked for.
#[derive(Debug)]
pub(crate) struct Metrics {
    slots: u32,
    /// Heartbeats sent to leaders.
    pub(crate) heartbeats: Counter,
    /// Sessions that ended against this side's will.
    pub(crate) session_losses: Counter,
    refused_connections: LabelledCounter,
    failed_attempts: LabelledCounter,
}

impl Metrics {
    pub(crate) fn new(slots: u32) -> Self {
        let (heartbeats, session_losses) = (Counter::default(), Counter::default());
        let (refused_connections, failed_attempts) = (Family::default(), Family::default());
        Self { slots, heartbeats, session_losses, refused_connections, failed_attempts }
    }

    /// Counts a data connection that was not let in.
    pub(crate) fn refuse_connection(&self, reason: RefusalReason) {
        let labels = vec![("reason".to_owned(), reason.label().to_owned())];
        self.refused_connections.get_or_create(&labels).inc();
    }

    /// Counts an attempt that its executor says has failed.
    pub(crate) fn fail_attempt(&self, kind: FailureKind) {
        self.failed_attempts.get_or_create(&vec![("kind".to_owned(), kind.to_string())]).inc();
    }

    /// The text of `/metrics`.
    pub(crate) fn render(&self, status: &Status) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("tidemill_taskmanager");
        let executors = status.generations.iter().filter(|generation| generation.process_id.is_some()).count();
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        for (name, help, value) in [
            ("slots", "Slots that this task manager offers", u64::from(self.slots)),
            ("slots_used", "Slots with attempts that have not ended", count(status.slots_used)),
            ("executors", "Executor processes that run", count(executors)),
            ("registered", "1 while a leader knows this task manager", u64::from(status.connected)),
            ("leader_epoch", "The highest leader epoch seen", status.fence.0),
        ] {
            let gauge = Gauge::<u64, AtomicU64>::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        }
        registry.register("heartbeats", "Heartbeats sent to leaders", self.heartbeats.clone());
        registry.register("session_losses", "Sessions with leaders that were lost", self.session_losses.clone());
        let refused = self.refused_connections.clone();
        registry.register("data_connections_refused", "Connections to the data port that were not let in", refused);
        let failed = self.failed_attempts.clone();
        registry.register("attempts_failed", "Attempts that executors said have failed", failed);
        let (records_in, records_out) = (JobGauges::default(), JobGauges::default());
        for (job, progress) in status.progress() {
            let labels = vec![("job_id".to_owned(), job.to_string())];
            records_in.get_or_create(&labels).set(progress.records_in);
            records_out.get_or_create(&labels).set(progress.records_out);
        }
        registry.register("job_records_in", "Records that a job's sources emitted here", records_in);
        registry.register("job_records_out", "Records that a job's sinks took here", records_out);
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{GenerationId, GenerationOverview, Progress};
    use tidemill_model::id::{AttemptNumber, JobId};

    #[test]
    fn the_metrics_show_slots_executors_and_each_jobs_records() {
        let metrics = Metrics::new(4);
        metrics.heartbeats.inc();
        metrics.refuse_connection(RefusalReason::Version);
        metrics.fail_attempt(FailureKind::ConnectionLost);
        let progress = Progress { records_in: 7, records_out: 5 };
        let generation = |attempt| GenerationOverview {
            generation: GenerationId { job: JobId(uuid::Uuid::nil()), attempt: AttemptNumber(attempt) },
            progress,
            process_id: Some(1),
        };
        let generations = vec![generation(0), generation(3)];
        let status = Status { slots_used: 2, generations, ..Status::default() };
        let text = metrics.render(&status).expect("text can be written");
        for line in [
            "tidemill_taskmanager_slots 4",
            "tidemill_taskmanager_slots_used 2",
            "tidemill_taskmanager_executors 2",
            "tidemill_taskmanager_heartbeats_total 1",
            "tidemill_taskmanager_data_connections_refused_total{reason=\"version\"} 1",
            "tidemill_taskmanager_attempts_failed_total{kind=\"data connection lost\"} 1",
            "tidemill_taskmanager_job_records_in{job_id=\"00000000000000000000000000000000\"} 14",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
