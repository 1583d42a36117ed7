//! One sub-task on its thread, from its start to the report of its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tidemill_model::execution::{ExecutionState, FailureKind, TerminalState};

use super::{Reporter, panic_message};
use crate::push::{Stopped, take_blamed};
use crate::runtime::task::{RestoreSource, StopReason, Task, TaskContext, TaskEnvironment};

/// The life of a sub-task on its thread.
pub(super) fn run_subtask(environment: TaskEnvironment, restore: Option<RestoreSource>, reporter: &Reporter) {
    reporter.report(ExecutionState::Initializing, Vec::new());
    let flow = Arc::clone(&environment.flow);
    let context = TaskContext::new(environment);
    let mut task: Option<Box<dyn Task>> = None;
    let run = || {
        if let Some(source) = restore {
            context.begin_restore(source).map_err(|failure| context.fail(failure))?;
        }
        context.open_store().map_err(|failure| context.fail(failure))?;
        let built = flow.task(&context).map_err(|failure| context.fail(failure))?;
        context.end_restore();
        let task = task.insert(built);
        reporter.report(ExecutionState::Running, Vec::new());
        task.run()
    };
    let end = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => match context.last_snapshot() {
            Ok(state) => {
                let (accumulators, collected) = (flow.counters().take(), Vec::new());
                TerminalState::Finished { accumulators, collected, state }
            }
            Err(failure) => TerminalState::Failed(failure),
        },
        Ok(Err(Stopped)) => match context.take_stop_reason() {
            Some(StopReason::Failed(failure)) => TerminalState::Failed(failure),
            Some(StopReason::Canceled) | None => TerminalState::Canceled,
        },
        Err(panic) => {
            let (mut message, blamed) = (panic_message(panic.as_ref()), take_blamed());
            if let Some(record) = blamed.as_ref().and_then(|blamed| blamed.record.as_ref()) {
                message = format!("{message}; record: {record}");
            }
            let operator = blamed.as_ref().map(|blamed| blamed.operator.as_ref());
            TerminalState::Failed(context.failure(FailureKind::Panic, operator, message))
        }
    };
    if !matches!(end, TerminalState::Finished { .. }) {
        context.leave_checkpoints();
    }
    // Reported before the chain is dropped: a neighbour sees its channel end only after the cause is known.
    reporter.report(ExecutionState::Terminal(end), context.take_collected());
    drop(task);
}
