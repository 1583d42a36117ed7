//! The door: engine values out to wire messages, wire messages in to engine events.

use std::path::Path;
use std::sync::Arc;

use tidemill_model::id::{AttemptNumber, ClusterId, SubtaskIndex, TaskManagerId};
use tidemill_model::job::JobSpec;
use tidemill_proto::convert::{self, Error};
use tidemill_proto::pb;
use tidemill_proto::pb::{coordinator_message, executor_command, executor_event, task_manager_message};

use crate::engine::{
    AttemptChange, Collected, Directive, Event, ExecutorCommand, ExecutorId, ExecutorReport, ExecutorStart,
    FinalizationOutcome, FinalizationStep, GenerationId, Handshake, Outbound, Progress, Report,
};

/// The version of the handshake and of what follows it on a data connection.
pub(crate) const DATA_PROTOCOL_VERSION: u32 = 1;

fn attempts(ids: Vec<pb::ExecutionAttemptId>) -> Result<Vec<tidemill_model::id::ExecutionAttemptId>, Error> {
    ids.into_iter().map(TryInto::try_into).collect()
}

fn spec(spec: Option<pb::JobSpec>, field: &'static str) -> Result<Box<JobSpec>, Error> {
    spec.ok_or(Error::Missing { field })?.try_into().map(Box::new)
}

/// The directive in a message of the leader; none for those that belong to the session itself.
pub(crate) fn directive(message: coordinator_message::Message) -> Result<Option<Directive>, Error> {
    use coordinator_message::Message;
    Ok(Some(match message {
        Message::Welcome(_) | Message::Heartbeat(_) => return Ok(None),
        Message::Deploy(deploy) => {
            let deployment = deploy.deployment.ok_or(Error::Missing { field: "Deploy.deployment" })?;
            Directive::Deploy { spec: spec(deploy.spec, "Deploy.spec")?, deployment: deployment.try_into()? }
        }
        Message::Cancel(cancel) => Directive::Cancel { attempts: attempts(cancel.attempts)? },
        Message::Acknowledge(terminal) => Directive::Acknowledge { attempts: attempts(terminal.attempts)? },
        Message::Finalize(finalize) => {
            let finalization = convert::finalization_from_pb(finalize.action, finalize.attempts, finalize.checkpoint)?;
            Directive::Finalize { spec: spec(finalize.spec, "FinalizeJob.spec")?, finalization }
        }
        Message::Release(release) => Directive::Release { job: convert::job_id(&release.job, "ReleaseJob.job")? },
        Message::Checkpoint(checkpoint) => Directive::Checkpoint(checkpoint.try_into()?),
    }))
}

fn executor_report(report: ExecutorReport) -> pb::ExecutorReport {
    let GenerationId { job, attempt } = report.generation;
    pb::ExecutorReport { job: convert::uuid_bytes(job.0), process_id: report.process_id, attempt: attempt.0 }
}

fn job_finalized(outcome: FinalizationOutcome) -> pb::JobFinalized {
    let (action, ..) = convert::finalization_to_pb(outcome.finalization);
    pb::JobFinalized {
        job: convert::uuid_bytes(outcome.job.0),
        action: action.into(),
        failure: outcome.failure.map(Into::into),
    }
}

fn report(report: Report) -> pb::Report {
    pb::Report {
        attempts: report.attempts.into_iter().map(Into::into).collect(),
        executors: report.executors.into_iter().map(executor_report).collect(),
        finalized: report.finalized.into_iter().map(job_finalized).collect(),
        hosted: report.hosted.into_iter().map(|job| convert::uuid_bytes(job.0)).collect(),
        checkpoints: report.checkpoints.into_iter().map(Into::into).collect(),
    }
}

/// What the leader is told.
pub(crate) fn outbound(outbound: Outbound) -> pb::TaskManagerMessage {
    use task_manager_message::Message;
    let message = match outbound {
        Outbound::Report(all) => Message::Report(report(all)),
        Outbound::Attempt(attempt) => Message::Attempt(attempt.into()),
        Outbound::Executor(executor) => Message::Executor(executor_report(executor)),
        Outbound::Finalized(outcome) => Message::Finalized(job_finalized(outcome)),
        Outbound::Checkpoint(report) => Message::Checkpoint(report.into()),
    };
    pb::TaskManagerMessage { message: Some(message) }
}

/// An executor's first frame.
///
/// `folder` is of the process alone; in `local_state` copies of the job's state are kept, if anywhere.
pub(crate) fn executor_start(
    start: &ExecutorStart,
    task_manager: TaskManagerId,
    (folder, local_state): (&Path, Option<&Path>),
) -> pb::ExecutorCommand {
    let command = pb::ExecutorStart {
        spec: Some(JobSpec::clone(&start.spec).into()),
        cluster_id: convert::uuid_bytes(start.cluster.0),
        task_manager_id: convert::uuid_bytes(task_manager.0),
        memory_bytes: start.memory_bytes,
        memory_limit_bytes: start.memory_limit.map(|limit| limit.bytes),
        // A folder whose name is no text is one that cannot be told.
        local_state_folder: local_state.and_then(Path::to_str).map(str::to_owned),
        folder: folder.display().to_string(),
    };
    pb::ExecutorCommand { command: Some(executor_command::Command::Start(command)) }
}

/// A later frame for an executor.
pub(crate) fn executor_command(command: ExecutorCommand) -> pb::ExecutorCommand {
    use executor_command::{CancelTasks, Command, FinalizeExecutor};
    let command = match command {
        ExecutorCommand::Deploy(deployment) => Command::Deploy(deployment.into()),
        ExecutorCommand::Cancel(attempts) => {
            Command::Cancel(CancelTasks { attempts: attempts.into_iter().map(Into::into).collect() })
        }
        ExecutorCommand::Finalize(finalization) => {
            let (action, attempts, checkpoint) = convert::finalization_to_pb(finalization);
            Command::Finalize(FinalizeExecutor { action: action.into(), attempts, checkpoint })
        }
        ExecutorCommand::Checkpoint(command) => Command::Checkpoint(command.into()),
    };
    pb::ExecutorCommand { command: Some(command) }
}

fn collected(records: pb::CollectedRecords) -> Collected {
    let subtask = SubtaskIndex(records.subtask);
    Collected { collect_index: records.collect_index, subtask, records: Arc::from(&records.records[..]) }
}

/// What an executor says.
pub(crate) fn executor_event(executor: ExecutorId, event: pb::ExecutorEvent) -> Result<Event, Error> {
    use executor_event::Event as Wire;
    Ok(match event.event.ok_or(Error::Missing { field: "ExecutorEvent.event" })? {
        Wire::Ready(ready) => {
            let fingerprint = convert::fingerprint(&ready.fingerprint, "ExecutorEvent.Ready.fingerprint")?;
            Event::ExecutorReady { executor, fingerprint }
        }
        Wire::Attempt(changed) => {
            let report = changed.report.ok_or(Error::Missing { field: "AttemptChanged.report" })?.try_into()?;
            let collected = changed.collected.into_iter().map(collected).collect();
            Event::AttemptChanged { executor, change: AttemptChange { report, collected } }
        }
        Wire::Finalized(finalized) => {
            let step = match finalized.action() {
                pb::Finalization::Commit => FinalizationStep::Commit,
                pb::Finalization::Abort => FinalizationStep::Abort,
                pb::Finalization::Unspecified => {
                    let value = finalized.action;
                    return Err(Error::UnknownEnum { field: "ExecutorEvent.Finalized.action", value });
                }
            };
            let failure = finalized.failure.map(TryInto::try_into).transpose()?;
            Event::ExecutorFinalized { executor, step, failure }
        }
        Wire::Progress(progress) => {
            let progress = Progress { records_in: progress.records_in, records_out: progress.records_out };
            Event::Progressed { executor, progress }
        }
        Wire::Checkpoint(report) => Event::CheckpointReported { executor, report: report.try_into()? },
        Wire::Refused(failure) => Event::ExecutorRefused { executor, failure: failure.try_into()? },
    })
}

/// A data connection's claim.
pub(crate) fn handshake(handshake: &pb::DataHandshake) -> Result<Handshake, Error> {
    Ok(Handshake {
        cluster: convert::cluster_id(&handshake.cluster_id, "DataHandshake.cluster_id")?,
        job: convert::job_id(&handshake.job, "DataHandshake.job")?,
        attempt: AttemptNumber(handshake.attempt),
        to: convert::task_manager_id(&handshake.to_task_manager, "DataHandshake.to_task_manager")?,
    })
}

/// What a leader's first message says of itself.
pub(crate) fn welcome_cluster(welcome: &pb::Welcome) -> Result<ClusterId, Error> {
    convert::cluster_id(&welcome.cluster_id, "Welcome.cluster_id")
}
