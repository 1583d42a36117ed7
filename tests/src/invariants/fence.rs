//! A task manager's fence never goes back, it is up before the report, and nothing lower and nothing that is meant for
//! another incarnation is obeyed.

use std::collections::BTreeMap;

use tidemill_model::id::{LeaderEpoch, TaskManagerId};

use crate::sim::fact::Fact;

/// How it was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The fence fell.
    #[error("the fence of task manager {task_manager} fell from {before} to {after}")]
    WentBack {
        /// Whose.
        task_manager: TaskManagerId,
        /// What it was.
        before: LeaderEpoch,
        /// What it is.
        after: LeaderEpoch,
    },
    /// A command of an older leadership was obeyed.
    #[error("task manager {task_manager} obeyed {command} of epoch {epoch} although it had heard of epoch {highest}")]
    Obeyed {
        /// Who.
        task_manager: TaskManagerId,
        /// What.
        command: String,
        /// Of which leadership.
        epoch: LeaderEpoch,
        /// The highest that it had heard of.
        highest: LeaderEpoch,
    },
    /// A command for another incarnation was obeyed.
    #[error("task manager {task_manager} obeyed {command}, which was meant for {addressee}")]
    NotAddressed {
        /// Who.
        task_manager: TaskManagerId,
        /// For whom it was meant.
        addressee: TaskManagerId,
        /// What.
        command: String,
    },
    /// It reported before it had raised its fence.
    #[error("task manager {task_manager} reported to epoch {epoch} behind a fence of {fence}")]
    ReportedFirst {
        /// Who.
        task_manager: TaskManagerId,
        /// To whom.
        epoch: LeaderEpoch,
        /// Its fence.
        fence: LeaderEpoch,
    },
}

/// Keeps the highest epoch that each incarnation has heard of.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    highest: BTreeMap<TaskManagerId, LeaderEpoch>,
}

impl Fence {
    pub(super) fn observe(&mut self, fact: &Fact<'_>) -> Result<(), Violation> {
        if let Fact::Reported { task_manager, epoch, fence } = fact
            && fence < epoch
        {
            return Err(Violation::ReportedFirst { task_manager: *task_manager, epoch: *epoch, fence: *fence });
        }
        let Fact::Directed { task_manager, addressee, epoch, before, after, directive, refused } = fact else {
            return Ok(());
        };
        let (task_manager, addressee) = (*task_manager, *addressee);
        if after < before {
            return Err(Violation::WentBack { task_manager, before: *before, after: *after });
        }
        if *refused {
            return Ok(());
        }
        let command = || directive.map_or_else(|| "Welcome".to_owned(), |directive| format!("{directive:.60?}"));
        if addressee != task_manager {
            return Err(Violation::NotAddressed { task_manager, addressee, command: command() });
        }
        let highest = self.highest.entry(task_manager).or_default();
        if epoch < highest {
            let (epoch, highest) = (*epoch, *highest);
            return Err(Violation::Obeyed { task_manager, command: command(), epoch, highest });
        }
        *highest = *epoch;
        Ok(())
    }
}
