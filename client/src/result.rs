//! What an `execute` returns.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill_dataflow::record::Data;
use tidemill_dataflow::runtime::executor::CollectedRecords;
use tidemill_dataflow::runtime::sink::read_collected;
use tidemill_model::execution::Accumulators;
use tidemill_model::id::JobId;
use tidemill_model::job::JobResult;

use crate::error::Error;
use crate::stream::Collected;
use crate::submission::JobOutcome;

/// How a job ended, wherever it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) result: JobResult,
    /// None: the records are not here, since the client did not wait or the job ran for another process.
    pub(crate) collected: Option<Vec<CollectedRecords>>,
}

impl From<JobOutcome> for Outcome {
    fn from(outcome: JobOutcome) -> Self {
        match outcome {
            JobOutcome::Finished { result, collected } => {
                let records = collected.into_iter().map(|(part, records)| CollectedRecords {
                    collect_index: part.collect_index,
                    subtask: part.subtask,
                    records,
                });
                Self { result, collected: Some(records.collect()) }
            }
            JobOutcome::Detached { job } => {
                let (accumulators, collected) = (BTreeMap::new(), Vec::new());
                let result = JobResult { job, net_runtime: Duration::ZERO, accumulators, collected };
                Self { result, collected: None }
            }
        }
    }
}

/// The result of a finished job.
///
/// ```
/// # fn main() -> Result<(), tidemill::Error> {
/// let env = tidemill::Environment::from_args()?;
/// let seen = env.counter("seen");
/// let even = env.generate_sequence(0..10, None).filter(move |number| {
///     seen.add(1);
///     number % 2 == 0
/// });
/// let even = even.collect();
/// let result = env.execute("even numbers")?;
/// assert_eq!(result.counter("seen"), Some(10));
/// assert_eq!(result.collected(&even)?.len(), 5);
/// println!("job {} took {:?}", result.job_id(), result.net_runtime());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct JobExecutionResult {
    execute_index: u32,
    outcome: Outcome,
}

impl JobExecutionResult {
    pub(crate) fn new(execute_index: u32, outcome: Outcome) -> Self {
        Self { execute_index, outcome }
    }

    /// The job.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// env.from_collection(vec![1]).discard();
    /// assert_eq!(env.execute("job")?.job_id().to_string().len(), 32);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn job_id(&self) -> JobId {
        self.outcome.result.job
    }

    /// The time from the first schedule to the end, without waiting for slots.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// env.from_collection(vec![1]).discard();
    /// println!("{:?}", env.execute("job")?.net_runtime());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn net_runtime(&self) -> Duration {
        self.outcome.result.net_runtime
    }

    /// The totals of all counters, by name.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let lines = env.counter("lines");
    /// env.from_collection(vec![1, 2]).filter(move |_| { lines.add(1); true }).discard();
    /// assert_eq!(env.execute("job")?.accumulators()["lines"], 2);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn accumulators(&self) -> &Accumulators {
        &self.outcome.result.accumulators
    }

    /// The total of one counter; none when the program has no such counter.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// # env.from_collection(vec![1]).discard();
    /// assert_eq!(env.execute("job")?.counter("no such"), None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn counter(&self, name: &str) -> Option<i64> {
        self.accumulators().get(name).copied()
    }

    /// The records of a `collect()`, sub-task by sub-task.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let doubled = env.from_collection(vec![1, 2]).set_parallelism(1).map(|number| number * 2).collect();
    /// assert_eq!(env.execute("job")?.collected(&doubled)?, [2, 4]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The handle is of another `execute`; the client did not wait for the job (`--detached`); or this is an executor,
    /// which knows only the counters of earlier jobs.
    pub fn collected<T: Data>(&self, handle: &Collected<T>) -> Result<Vec<T>, Error> {
        if handle.execute_index != self.execute_index {
            return Err(Error::NotCollected("the handle belongs to another execute() of this program"));
        }
        let Some(parts) = &self.outcome.collected else {
            return Err(Error::NotCollected("this process did not follow the job to its end"));
        };
        let mut parts: Vec<_> = parts.iter().filter(|part| part.collect_index == handle.collect_index).collect();
        parts.sort_by_key(|part| part.subtask);
        let mut records = Vec::new();
        for part in parts {
            records.extend(read_collected(part.records.clone())?);
        }
        Ok(records)
    }
}
