//! What the task manager counts, and how it is shown to Prometheus.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::agent_loop::Status;

type JobGauges = Family<Vec<(String, String)>, Gauge<u64, AtomicU64>>;

/// Counters; what can be derived from the agent's state is derived when it is asked for.
#[derive(Debug)]
pub(crate) struct Metrics {
    slots: u32,
    /// Heartbeats sent to leaders.
    pub(crate) heartbeats: Counter,
    /// Sessions that ended against this side's will.
    pub(crate) session_losses: Counter,
}

impl Metrics {
    pub(crate) fn new(slots: u32) -> Self {
        Self { slots, heartbeats: Counter::default(), session_losses: Counter::default() }
    }

    /// The text of `/metrics`.
    pub(crate) fn render(&self, status: &Status) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("tidemill_taskmanager");
        let executors = status.jobs.iter().filter(|job| job.process_id.is_some()).count();
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
        let (records_in, records_out) = (JobGauges::default(), JobGauges::default());
        for job in &status.jobs {
            let labels = vec![("job_id".to_owned(), job.job.to_string())];
            records_in.get_or_create(&labels).set(job.progress.records_in);
            records_out.get_or_create(&labels).set(job.progress.records_out);
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
    use crate::engine::{JobOverview, Progress};
    use tidemill_model::id::JobId;

    #[test]
    fn the_metrics_show_slots_executors_and_each_jobs_records() {
        let metrics = Metrics::new(4);
        metrics.heartbeats.inc();
        let progress = Progress { records_in: 7, records_out: 5 };
        let job = JobOverview { job: JobId(uuid::Uuid::nil()), progress, process_id: Some(1) };
        let status = Status { slots_used: 2, jobs: vec![job], ..Status::default() };
        let text = metrics.render(&status).expect("text can be written");
        for line in [
            "tidemill_taskmanager_slots 4",
            "tidemill_taskmanager_slots_used 2",
            "tidemill_taskmanager_executors 1",
            "tidemill_taskmanager_heartbeats_total 1",
            "tidemill_taskmanager_job_records_in{job_id=\"00000000000000000000000000000000\"} 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
