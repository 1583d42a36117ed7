//! Jobs on the wire: what is submitted, how it stands, how it ended.

use std::time::Duration;

use tidemill_model::job::{ArtifactProgram, HistoryEntry, JobResult, JobSpec, JobStatus, Program};
use tidemill_model::time::Timestamp;

use super::{Error, blob_bytes, blob_id, job_id, list, millis, required, uuid_bytes};
use crate::pb;
use crate::pb::job_status::Status;

impl From<ArtifactProgram> for pb::ArtifactProgram {
    fn from(program: ArtifactProgram) -> Self {
        Self {
            artifact: blob_bytes(program.artifact),
            name: program.name,
            args: program.args,
            environment: program.environment,
            working_directory: program.working_directory,
            execute_index: program.execute_index,
            earlier_results: program.earlier_results.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::ArtifactProgram> for ArtifactProgram {
    type Error = Error;

    fn try_from(program: pb::ArtifactProgram) -> Result<Self, Error> {
        Ok(Self {
            artifact: blob_id(&program.artifact, "ArtifactProgram.artifact")?,
            name: program.name,
            args: program.args,
            environment: program.environment,
            working_directory: program.working_directory,
            execute_index: program.execute_index,
            earlier_results: list(program.earlier_results)?,
        })
    }
}

impl From<JobSpec> for pb::JobSpec {
    fn from(spec: JobSpec) -> Self {
        let program = match spec.program {
            Program::InProcess => None,
            Program::Artifact(program) => Some(program.into()),
        };
        Self {
            id: uuid_bytes(spec.id.0),
            name: spec.name,
            graph: Some(spec.graph.into()),
            program,
            settings: Some(spec.settings.into()),
        }
    }
}

impl TryFrom<pb::JobSpec> for JobSpec {
    type Error = Error;

    fn try_from(spec: pb::JobSpec) -> Result<Self, Error> {
        let program = match spec.program {
            None => Program::InProcess,
            Some(program) => Program::Artifact(program.try_into()?),
        };
        Ok(Self {
            id: job_id(&spec.id, "JobSpec.id")?,
            name: spec.name,
            graph: required(spec.graph, "JobSpec.graph")?.try_into()?,
            program,
            settings: required(spec.settings, "JobSpec.settings")?.try_into()?,
        })
    }
}

impl From<JobResult> for pb::JobResult {
    fn from(result: JobResult) -> Self {
        Self {
            job: uuid_bytes(result.job.0),
            net_runtime_ms: millis(result.net_runtime),
            accumulators: result.accumulators,
            collected: result.collected.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::JobResult> for JobResult {
    type Error = Error;

    fn try_from(result: pb::JobResult) -> Result<Self, Error> {
        Ok(Self {
            job: job_id(&result.job, "JobResult.job")?,
            net_runtime: Duration::from_millis(result.net_runtime_ms),
            accumulators: result.accumulators,
            collected: list(result.collected)?,
        })
    }
}

impl From<JobStatus> for pb::JobStatus {
    fn from(status: JobStatus) -> Self {
        let status = match status {
            JobStatus::Created => Status::Created(pb::Empty {}),
            JobStatus::Running => Status::Running(pb::Empty {}),
            JobStatus::Restarting => Status::Restarting(pb::Empty {}),
            JobStatus::Cancelling => Status::Cancelling(pb::Empty {}),
            JobStatus::Failing(failure) => Status::Failing(failure.into()),
            JobStatus::Committing => Status::Committing(pb::Empty {}),
            JobStatus::Finished(result) => Status::Finished(result.into()),
            JobStatus::Canceled => Status::Canceled(pb::Empty {}),
            JobStatus::Failed(failure) => Status::Failed(failure.into()),
        };
        Self { status: Some(status) }
    }
}

impl TryFrom<pb::JobStatus> for JobStatus {
    type Error = Error;

    fn try_from(status: pb::JobStatus) -> Result<Self, Error> {
        Ok(match required(status.status, "JobStatus.status")? {
            Status::Created(pb::Empty {}) => Self::Created,
            Status::Running(pb::Empty {}) => Self::Running,
            Status::Restarting(pb::Empty {}) => Self::Restarting,
            Status::Cancelling(pb::Empty {}) => Self::Cancelling,
            Status::Failing(failure) => Self::Failing(failure.try_into()?),
            Status::Committing(pb::Empty {}) => Self::Committing,
            Status::Finished(result) => Self::Finished(result.try_into()?),
            Status::Canceled(pb::Empty {}) => Self::Canceled,
            Status::Failed(failure) => Self::Failed(failure.try_into()?),
        })
    }
}

impl From<HistoryEntry> for pb::HistoryEntry {
    fn from(entry: HistoryEntry) -> Self {
        Self { at_ms: entry.at.0, status: entry.status, cause: entry.cause.map(Into::into) }
    }
}

impl TryFrom<pb::HistoryEntry> for HistoryEntry {
    type Error = Error;

    fn try_from(entry: pb::HistoryEntry) -> Result<Self, Error> {
        let cause = entry.cause.map(TryInto::try_into).transpose()?;
        Ok(Self { at: Timestamp(entry.at_ms), status: entry.status, cause })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use tidemill_model::job::{JobSettings, RuntimeMode, StateBackend};
    use tidemill_model::restart::RestartStrategy;

    use tidemill_model::id::{BlobId, JobId};
    use uuid::Uuid;

    use super::super::execution::tests::{collected, failure};
    use super::super::job_graph::tests::graph;
    use super::*;
    use tidemill_model::savepoint::{SavepointRestore, UnclaimedState};

    fn result() -> JobResult {
        JobResult {
            job: JobId(Uuid::from_u128(1)),
            net_runtime: Duration::from_millis(1234),
            accumulators: BTreeMap::from([("words".into(), 7), ("skipped".into(), -1)]),
            collected: vec![collected(0), collected(1)],
        }
    }

    fn spec() -> JobSpec {
        JobSpec {
            id: JobId(Uuid::from_u128(u128::MAX - 1)),
            name: "word count".into(),
            graph: graph(),
            program: Program::Artifact(ArtifactProgram {
                artifact: BlobId([9; 32]),
                name: "word_count".into(),
                args: vec!["--input".into(), "ä b".into(), String::new()],
                environment: BTreeMap::from([("TZ".into(), "UTC".into())]),
                working_directory: "/tmp".into(),
                execute_index: 2,
                earlier_results: vec![result(), result()],
            }),
            settings: JobSettings {
                runtime_mode: RuntimeMode::Streaming,
                restart: RestartStrategy::FixedDelay { attempts: 9, delay: Duration::from_millis(17) },
                checkpointing: None,
                savepoint: Some(SavepointRestore { path: "/savepoint".into(), unclaimed: UnclaimedState::Leave }),
                executor_memory_bytes: Some(1 << 40),
                state_backend: StateBackend::RocksDb { slot_memory_bytes: Some(1 << 30) },
            },
        }
    }

    fn refused(edit: impl FnOnce(&mut pb::JobSpec)) -> Error {
        let mut message = pb::JobSpec::from(spec());
        edit(&mut message);
        JobSpec::try_from(message).expect_err("a malformed message")
    }

    #[test]
    fn a_spec_round_trips() {
        assert_eq!(JobSpec::try_from(pb::JobSpec::from(spec())), Ok(spec()));
        let in_process = JobSpec { program: Program::InProcess, settings: JobSettings::default(), ..spec() };
        let message = pb::JobSpec::from(in_process.clone());
        assert_eq!(message.program, None);
        assert_eq!(JobSpec::try_from(message), Ok(in_process));
    }

    #[test]
    fn a_malformed_spec_names_the_field() {
        assert_eq!(refused(|spec| spec.graph = None), Error::Missing { field: "JobSpec.graph" });
        assert_eq!(refused(|spec| spec.settings = None), Error::Missing { field: "JobSpec.settings" });
        let id = refused(|spec| spec.id.clear());
        assert_eq!(id, Error::Length { field: "JobSpec.id", actual: 0, expected: 16 });
        let mode = refused(|spec| spec.settings.as_mut().expect("set").runtime_mode = 0);
        assert_eq!(mode, Error::UnknownEnum { field: "JobSettings.runtime_mode", value: 0 });
        let artifact = refused(|spec| spec.program.as_mut().expect("set").artifact.truncate(31));
        assert_eq!(artifact, Error::Length { field: "ArtifactProgram.artifact", actual: 31, expected: 32 });
        let earlier = refused(|spec| spec.program.as_mut().expect("set").earlier_results[1].job.clear());
        assert_eq!(earlier, Error::Length { field: "JobResult.job", actual: 0, expected: 16 });
    }

    #[test]
    fn every_status_round_trips() {
        let statuses = [
            JobStatus::Created,
            JobStatus::Running,
            JobStatus::Restarting,
            JobStatus::Cancelling,
            JobStatus::Failing(failure()),
            JobStatus::Committing,
            JobStatus::Finished(result()),
            JobStatus::Canceled,
            JobStatus::Failed(failure()),
        ];
        for status in statuses {
            assert_eq!(JobStatus::try_from(pb::JobStatus::from(status.clone())), Ok(status));
        }
        let unset = JobStatus::try_from(pb::JobStatus { status: None });
        assert_eq!(unset, Err(Error::Missing { field: "JobStatus.status" }));
    }

    #[test]
    fn history_round_trips() {
        for cause in [None, Some(failure())] {
            let entry = HistoryEntry { at: Timestamp(5), status: "RESTARTING".into(), cause };
            assert_eq!(HistoryEntry::try_from(pb::HistoryEntry::from(entry.clone())), Ok(entry));
        }
    }
}
