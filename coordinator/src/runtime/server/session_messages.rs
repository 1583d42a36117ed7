//! A task manager's session in the model's terms and on the wire.

use tidemill_model::checkpoint::CheckpointReport;
use tidemill_model::execution::AttemptReport;
use tidemill_model::id::{AttemptNumber, ClusterId, LeaderEpoch, TaskManagerName};
use tidemill_model::slot::SlotOffer;
use tidemill_proto::convert::{self, Error};
use tidemill_proto::pb;
use tidemill_proto::version::check_version;
use tonic::Status;

use crate::engine::leader::{
    AddressedCommand, ExecutorProcess, FinalizationKind, FinalizationReport, TaskManagerCommand, TaskManagerHello,
    TaskManagerMessage,
};
use crate::runtime::leader::LeaderSettings;

type Inbound = pb::task_manager_message::Message;
type Outbound = pb::coordinator_message::Message;

/// A first message: who it is, and which cluster it expects, if it does.
pub(super) fn hello(hello: pb::Hello) -> Result<(Option<ClusterId>, TaskManagerHello), Status> {
    check_version(hello.protocol_version, || format!("task manager {}", hello.name))?;
    let cluster = if hello.cluster_id.is_empty() {
        None
    } else {
        Some(convert::cluster_id(&hello.cluster_id, "Hello.cluster_id")?)
    };
    let location = tidemill_model::execution::TaskManagerLocation {
        id: convert::task_manager_id(&hello.task_manager_id, "Hello.task_manager_id")?,
        name: TaskManagerName(hello.name),
        data_address: hello.data_address,
    };
    let slots = SlotOffer { count: hello.slots, memory_bytes: hello.slot_memory_bytes };
    let (process_id, fence) = (hello.process_id, LeaderEpoch(hello.fence));
    Ok((cluster, TaskManagerHello { location, slots, process_id, fence }))
}

/// A later message. A repeated hello says nothing that may be believed.
pub(super) fn message(message: pb::TaskManagerMessage) -> Result<TaskManagerMessage, Error> {
    match message.message.ok_or(Error::Missing { field: "TaskManagerMessage.message" })? {
        Inbound::Hello(_) => Err(Error::Duplicate { field: "TaskManagerMessage.message", key: "hello".to_owned() }),
        Inbound::Report(report) => self::report(report),
        Inbound::Heartbeat(heartbeat) => {
            let progress = heartbeat
                .progress
                .into_iter()
                .map(|job| Ok((convert::job_id(&job.job, "JobProgress.job")?, job.records_in, job.records_out)));
            let progress = progress.collect::<Result<_, Error>>()?;
            Ok(TaskManagerMessage::Heartbeat { sequence: heartbeat.sequence, progress })
        }
        Inbound::Attempt(attempt) => Ok(TaskManagerMessage::Attempt(AttemptReport::try_from(attempt)?)),
        Inbound::Finalized(finalized) => Ok(TaskManagerMessage::Finalized(finalization(finalized)?)),
        Inbound::Checkpoint(report) => Ok(TaskManagerMessage::Checkpoint(report.try_into()?)),
        Inbound::Executor(executor) => Ok(TaskManagerMessage::Executor(self::executor(&executor)?)),
    }
}

fn report(report: pb::Report) -> Result<TaskManagerMessage, Error> {
    let hosted = report.hosted.iter().map(|job| convert::job_id(job, "Report.hosted"));
    Ok(TaskManagerMessage::Report {
        hosted: hosted.collect::<Result<_, Error>>()?,
        attempts: report.attempts.into_iter().map(AttemptReport::try_from).collect::<Result<_, Error>>()?,
        executors: report.executors.iter().map(executor).collect::<Result<_, Error>>()?,
        finalized: report.finalized.into_iter().map(finalization).collect::<Result<_, Error>>()?,
        checkpoints: report.checkpoints.into_iter().map(CheckpointReport::try_from).collect::<Result<_, Error>>()?,
    })
}

fn executor(report: &pb::ExecutorReport) -> Result<ExecutorProcess, Error> {
    let job = convert::job_id(&report.job, "ExecutorReport.job")?;
    Ok(ExecutorProcess { job, attempt: AttemptNumber(report.attempt), process_id: report.process_id })
}

fn finalization(finalized: pb::JobFinalized) -> Result<FinalizationReport, Error> {
    let kind = match pb::Finalization::try_from(finalized.action) {
        Ok(pb::Finalization::Commit) => FinalizationKind::Commit,
        Ok(pb::Finalization::Abort) => FinalizationKind::Abort,
        Ok(pb::Finalization::Unspecified) | Err(_) => {
            return Err(Error::UnknownEnum { field: "JobFinalized.action", value: finalized.action });
        }
    };
    let job = convert::job_id(&finalized.job, "JobFinalized.job")?;
    Ok(FinalizationReport { job, kind, failure: finalized.failure.map(TryInto::try_into).transpose()? })
}

/// A command as a task manager reads it.
pub(super) fn command(
    command: AddressedCommand,
    cluster: ClusterId,
    settings: &LeaderSettings,
) -> pb::CoordinatorMessage {
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let message = match command.command {
        TaskManagerCommand::Welcome => Outbound::Welcome(pb::Welcome {
            cluster_id: convert::uuid_bytes(cluster.0),
            heartbeat_interval_ms: millis(settings.heartbeat_interval),
            heartbeat_timeout_ms: millis(settings.heartbeat_timeout),
        }),
        TaskManagerCommand::HeartbeatAnswer { sequence } => Outbound::Heartbeat(pb::HeartbeatAnswer { sequence }),
        TaskManagerCommand::Deploy { spec, deployment } => {
            Outbound::Deploy(pb::Deploy { spec: Some((*spec).into()), deployment: Some(deployment.into()) })
        }
        TaskManagerCommand::Cancel { attempts } => {
            Outbound::Cancel(pb::CancelTasks { attempts: attempts.into_iter().map(Into::into).collect() })
        }
        TaskManagerCommand::Acknowledge { attempts } => {
            Outbound::Acknowledge(pb::AcknowledgeTerminal { attempts: attempts.into_iter().map(Into::into).collect() })
        }
        TaskManagerCommand::Finalize { spec, finalization } => {
            let (action, attempts, checkpoint) = convert::finalization_to_pb(finalization);
            Outbound::Finalize(pb::FinalizeJob {
                spec: Some((*spec).into()),
                action: action.into(),
                attempts,
                checkpoint,
            })
        }
        TaskManagerCommand::Release { job } => Outbound::Release(pb::ReleaseJob { job: convert::uuid_bytes(job.0) }),
        TaskManagerCommand::Checkpoint(command) => Outbound::Checkpoint(command.into()),
    };
    pb::CoordinatorMessage {
        epoch: command.epoch.0,
        task_manager_id: convert::uuid_bytes(command.task_manager.0),
        message: Some(message),
    }
}
