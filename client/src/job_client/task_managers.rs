//! Task managers as operators see them: which there are, and which are to be left.

use tidemill_model::id::{TaskManagerId, TaskManagerName};
use tidemill_proto::{convert, pb};

use super::connections::Stub;
use super::error::Error;
use super::leader_search::Audience;
use super::types::TaskManagerStatus;
use super::{ANSWER_TIMEOUT, JobClient};

/// Whether a task manager drains, as has been decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainingSet {
    /// Its incarnation: the next one at the same place drains only when it is told to.
    pub id: TaskManagerId,
    /// Its name.
    pub name: TaskManagerName,
}

impl JobClient {
    /// The task managers that the leader knows.
    ///
    /// # Errors
    ///
    /// When no leader answers.
    pub async fn task_managers(&self) -> Result<Vec<TaskManagerStatus>, Error> {
        Ok(self.leader_status().await?.task_managers)
    }

    /// Has a task manager, by id or name, get no new work, and what runs there move to others once these have room.
    /// Returns when that is committed, which is before anything has moved.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none of this id or name.
    pub async fn drain(&self, task_manager: &str) -> Result<DrainingSet, Error> {
        self.set_draining(task_manager, true).await
    }

    /// Lets a task manager be used again; what has moved stays where it is.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain).
    pub async fn undrain(&self, task_manager: &str) -> Result<DrainingSet, Error> {
        self.set_draining(task_manager, false).await
    }

    async fn set_draining(&self, task_manager: &str, draining: bool) -> Result<DrainingSet, Error> {
        let call = |mut stub: Stub| {
            let request = pb::SetDrainingRequest { task_manager: task_manager.to_owned(), draining };
            async move { stub.set_draining(request).await }
        };
        let set = self.ask(Audience::Leader, Some(ANSWER_TIMEOUT), call).await?.into_inner();
        let id = convert::task_manager_id(&set.id, "DrainingSet.id").map_err(|error| self.malformed(&error))?;
        Ok(DrainingSet { id, name: TaskManagerName(set.name) })
    }
}
