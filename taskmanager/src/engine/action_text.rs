//! Actions as one line each: the plan as it is logged and tested.

use std::fmt;

use tidemill_model::execution::{AttemptReport, ExecutionState, TerminalState};
use tidemill_model::id::ExecutionAttemptId;

use super::action::{Action, ExecutorCommand, FinalizationOutcome, Outbound};

fn list(attempts: &[ExecutionAttemptId]) -> String {
    let names: Vec<String> = attempts.iter().map(|id| format!("{}#{}", id.vertex, id.attempt)).collect();
    names.join(" ")
}

fn state(report: &AttemptReport) -> String {
    let name = report.state.name();
    let id = list(std::slice::from_ref(&report.attempt));
    match &report.state {
        ExecutionState::Terminal(TerminalState::Failed(failure)) => format!("{id} {name} ({failure})"),
        ExecutionState::Terminal(TerminalState::Finished { accumulators, collected, state: _ }) => {
            format!("{id} {name} accumulators={} collected={}", accumulators.len(), collected.len())
        }
        ExecutionState::Created
        | ExecutionState::Scheduled
        | ExecutionState::Deploying
        | ExecutionState::Initializing
        | ExecutionState::Running
        | ExecutionState::Canceling
        | ExecutionState::Reconciling
        | ExecutionState::Terminal(TerminalState::Canceled) => format!("{id} {name}"),
    }
}

impl fmt::Display for FinalizationOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            None => write!(f, "{} done", self.finalization),
            Some(failure) => write!(f, "{} failed ({failure})", self.finalization),
        }
    }
}

impl fmt::Display for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Report(report) => {
                let attempts: Vec<String> = report.attempts.iter().map(state).collect();
                let processes: Vec<u32> = report.executors.iter().map(|executor| executor.process_id).collect();
                let finalized: Vec<String> = report.finalized.iter().map(ToString::to_string).collect();
                write!(f, "report attempts={attempts:?} executors={processes:?} finalized={finalized:?}")
            }
            Self::Attempt(report) => f.write_str(&state(report)),
            Self::Executor(executor) => write!(f, "executor process {}", executor.process_id),
            Self::Finalized(outcome) => write!(f, "{outcome}"),
            Self::Checkpoint(report) => write!(f, "{report}"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FetchArtifact { artifact } => write!(f, "fetch artifact {}", &artifact.to_string()[..8]),
            Self::StartExecutor(start) => {
                write!(f, "start {} attempt={} memory={}", start.executor, start.attempt, start.memory_bytes)?;
                start.memory_limit.map_or(Ok(()), |limit| write!(f, " limit={}", limit.bytes))
            }
            Self::SendToExecutor { executor, command } => match command {
                ExecutorCommand::Deploy(deployment) => {
                    write!(f, "tell {executor}: deploy {}", list(&deployment.start))
                }
                ExecutorCommand::Cancel(attempts) => write!(f, "tell {executor}: cancel {}", list(attempts)),
                ExecutorCommand::Finalize(finalization) => write!(f, "tell {executor}: {finalization}"),
                ExecutorCommand::Checkpoint(command) => write!(f, "tell {executor}: {command}"),
            },
            Self::KillExecutor { executor } => write!(f, "kill {executor}"),
            Self::SendToCoordinator(outbound) => write!(f, "tell leader: {outbound}"),
            Self::StoreCollected { attempt, collected } => {
                write!(f, "store collected of {}: {collected:?}", list(std::slice::from_ref(attempt)))
            }
            Self::AbandonCollected { attempt } => {
                write!(f, "abandon collected of {}", list(std::slice::from_ref(attempt)))
            }
            Self::RemoveJobFiles { .. } => f.write_str("remove the job's files"),
            Self::RemoveGenerationFiles { generation } => write!(f, "remove files of attempt {}", generation.attempt),
            Self::DropSession { reason } => write!(f, "drop session: {reason}"),
            Self::Refuse { reason } => write!(f, "refuse: {reason}"),
        }
    }
}
