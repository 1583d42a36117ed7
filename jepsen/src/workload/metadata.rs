//! Jobs that wait for slots which nobody has: submitted, asked for, listed, cancelled. Nothing ever runs of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidemill_model::id::{JobId, JobVertexId};
use tidemill_model::job::{JobSettings, JobSpec, Program};
use tidemill_model::job_graph::{JobGraph, JobVertex, OperatorDescriptor, SlotSharingGroup};
use uuid::Uuid;

use super::Stage;
use crate::client::{Client, Request};
use crate::seed::Stream;

/// How many operations there are on one job before it is left alone.
const OPS_PER_JOB: u32 = 24;
/// After so many of them it is cancelled now and then.
const OPS_BEFORE_CANCEL: u32 = 12;
/// More slots than any cluster here has.
const PARALLELISM: u32 = 64;

/// The job that workers share, so that their operations meet.
#[derive(Debug, Clone, Default)]
pub struct Jobs {
    current: Arc<Mutex<Option<Current>>>,
}

#[derive(Debug, Clone)]
struct Current {
    phase: String,
    job: JobId,
    used: u32,
}

impl Jobs {
    fn take(&self, phase: &str) -> Current {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |current: &&mut Current| current.phase == phase && current.used < OPS_PER_JOB;
        if let Some(current) = current.as_mut().filter(fits) {
            current.used += 1;
            return current.clone();
        }
        let fresh = Current { phase: phase.to_owned(), job: JobId(Uuid::now_v7()), used: 1 };
        current.insert(fresh).clone()
    }
}

/// One worker: an operation, a pause of about `pace`, and so on until the stage is over.
pub async fn run(mut client: Client, stage: Stage, jobs: Jobs, mut chance: Stream, pace: Duration) {
    while !stage.is_over() {
        let phase = stage.phase();
        let Current { job, used, .. } = jobs.take(&phase);
        let request = match chance.below(10) {
            _ if used == OPS_PER_JOB => Request::Cancel(job),
            0..3 => Request::Submit(Box::new(unplaceable(job))),
            3..6 => Request::Get(job),
            6..8 => Request::List,
            _ if used > OPS_BEFORE_CANCEL => Request::Cancel(job),
            _ => Request::Get(job),
        };
        let key = if matches!(request, Request::List) { String::new() } else { job.to_string() };
        client.call(&phase, &key, request).await;
        tokio::time::sleep(pace.mul_f64(0.5 + chance.unit())).await;
    }
}

/// A job that no cluster of this harness has slots for.
fn unplaceable(job: JobId) -> JobSpec {
    let vertex = JobVertex {
        id: JobVertexId(0),
        operators: vec![OperatorDescriptor { name: "Wide".to_owned(), uid: "wide".to_owned() }],
        parallelism: PARALLELISM,
        max_parallelism: 128,
        record_types: vec![],
        slot_sharing_group: SlotSharingGroup::default(),
        co_location_group: None,
    };
    JobSpec {
        id: job,
        name: "waits for slots".to_owned(),
        graph: JobGraph { vertices: vec![vertex], edges: Vec::new() },
        program: Program::InProcess,
        settings: JobSettings::default(),
    }
}
