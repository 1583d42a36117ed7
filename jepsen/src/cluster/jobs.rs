//! Jobs of the harness's own program, which is submitted as somebody would by hand.

use anyhow::bail;
use tidemill_model::id::JobId;

use super::{Cluster, SLOTS};
use crate::host::{Host, Role};
use crate::process::Program;

impl Cluster {
    /// Starts the streaming job on every slot and waits until it is accepted.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub fn submit_stream(&mut self, rate: u64) -> anyhow::Result<JobId> {
        let slots = self.hosts(Role::TaskManager).len() * usize::from(SLOTS);
        let output = self.folders.output.display().to_string();
        self.submit(slots, &[], &["stream".to_owned(), rate.to_string(), output])
    }

    /// Starts the program with these arguments, its sub-tasks and settings, and waits until the job is accepted. The
    /// program follows its job to the end.
    ///
    /// # Errors
    ///
    /// When it is not accepted, or a former program does not end.
    pub fn submit(&mut self, parallelism: usize, settings: &[String], arguments: &[String]) -> anyhow::Result<JobId> {
        // A program hears of its job's end a little later than the executors that the job had.
        self.until("the former job's program has ended", |cluster| {
            Ok(cluster.exited(Host::client())?.map(|_| drop(cluster.take(Host::client()))))
        })?;
        let coordinators: Vec<String> = self.addresses().into_values().collect();
        let mut words =
            vec!["--coordinators".to_owned(), coordinators.join(","), "-p".to_owned(), parallelism.to_string()];
        words.extend(settings.iter().flat_map(|setting| ["-D".to_owned(), setting.clone()]));
        words.extend(arguments.iter().cloned());
        // Executors see none of the submitter's environment, but all of its arguments.
        words.extend(self.binaries.mutant.map(|mutant| format!("--mutant={mutant}")));
        let program = Program { path: self.binaries.job.clone(), arguments: words, environment: self.environment() };
        self.launch(Host::client(), &program)?;
        let incarnation = self.incarnations.get(&Host::client()).copied().unwrap_or_default();
        let log = self.folders.logs.join(format!("{}-{incarnation}.err", Host::client()));
        self.until("the job is accepted", |cluster| {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if let Some(job) = text.lines().filter(|line| line.contains("has been submitted")).find_map(job_of) {
                return Ok(Some(job));
            }
            match cluster.exited(Host::client())? {
                None => Ok(None),
                Some(end) => bail!("the job's program ended ({end}): {text}"),
            }
        })
    }
}

/// The job that a line `job ID (...) has been submitted` names.
fn job_of(line: &str) -> Option<JobId> {
    line.strip_prefix("job ")?.split_whitespace().next()?.parse().ok()
}
