//! One worker's hands: calls each coordinator once, never again, and writes down what came of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidemill::job_client::{CallError, ChaosOperation, OnceClient};
use tidemill_model::id::JobId;
use tidemill_model::job::JobSpec;

use crate::clock;
use crate::history::{Answer, CallKind, Op, Outcome};
use crate::host::Host;

/// How long one call may take: longer than an election, so that few outcomes are unknown.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// The history while it is made.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    ops: Arc<Mutex<Vec<Op>>>,
    clients: Arc<AtomicU64>,
}

impl Recorder {
    /// Takes note of a call.
    pub fn push(&self, op: Op) {
        self.ops.lock().unwrap_or_else(PoisonError::into_inner).push(op);
    }

    /// The number of a fresh logical process.
    #[must_use]
    pub fn fresh_client(&self) -> u64 {
        self.clients.fetch_add(1, Ordering::Relaxed)
    }

    /// What has been recorded, in the order of calls.
    #[must_use]
    pub fn history(&self) -> Vec<Op> {
        let mut ops = self.ops.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ops.sort_by_key(|op| (op.call, op.client));
        ops
    }
}

/// Which coordinator a worker asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    /// Whoever answered last; after a failure the next one.
    Roaming,
    /// Always this one, also when it is cut off.
    Pinned(Host),
}

/// What is asked.
#[derive(Debug, Clone)]
pub enum Request {
    /// Of the chaos API.
    Chaos(CallKind),
    /// Submits a job.
    Submit(Box<JobSpec>),
    /// Cancels one.
    Cancel(JobId),
    /// Asks for one.
    Get(JobId),
    /// Lists all.
    List,
}

/// One worker's client. Never has two calls under way.
pub struct Client {
    number: u64,
    recorder: Recorder,
    coordinators: Vec<(Host, OnceClient)>,
    preference: Preference,
    current: usize,
}

impl Client {
    /// A client of the coordinators with these client addresses.
    #[must_use]
    pub fn new(recorder: Recorder, coordinators: &BTreeMap<Host, String>, preference: Preference) -> Self {
        let coordinators: Vec<(Host, OnceClient)> = coordinators
            .iter()
            .map(|(host, address)| (*host, OnceClient::new(address.clone(), CALL_TIMEOUT)))
            .collect();
        let pinned = |(host, _): &(Host, OnceClient)| preference == Preference::Pinned(*host);
        let current = coordinators.iter().position(pinned).unwrap_or(0);
        Self { number: recorder.fresh_client(), recorder, coordinators, preference, current }
    }

    /// Asks once and writes down what came of it; whether it was answered.
    pub async fn call(&mut self, phase: &str, key: &str, request: Request) -> bool {
        let Some((host, once)) = self.coordinators.get(self.current) else { return false };
        let node = host.to_string();
        let call = clock::now();
        let (call_kind, asked) = ask(once, key, request).await;
        let returned = Some(clock::now());
        let (outcome, raft_index) = match asked {
            Ok((output, index)) => (Outcome::Ok { output }, index),
            Err(error) if error.surely_without_effect() => (Outcome::Fail { error: error.to_string() }, None),
            Err(error) => (Outcome::Info { error: error.to_string() }, None),
        };
        let answered = matches!(outcome, Outcome::Ok { .. });
        let unknown = matches!(outcome, Outcome::Info { .. });
        let (phase, key, client) = (phase.to_owned(), key.to_owned(), self.number);
        self.recorder.push(Op { client, phase, call_kind, key, call, returned, outcome, raft_index, node });
        if unknown {
            // The old call may still take effect: its process never ends.
            self.number = self.recorder.fresh_client();
        }
        if !answered && self.preference == Preference::Roaming {
            self.current = (self.current + 1) % self.coordinators.len();
        }
        answered
    }
}

type Asked = Result<(Answer, Option<u64>), CallError>;

async fn ask(once: &OnceClient, key: &str, request: Request) -> (CallKind, Asked) {
    match request {
        Request::Chaos(kind) => {
            let asked = chaos(once, key, &kind).await;
            (kind, asked)
        }
        Request::Submit(spec) => {
            let answer = once.submit_job(&spec).await;
            (CallKind::Submit, answer.map(|answer| (Answer::Created(answer.value), Some(answer.log_index))))
        }
        Request::Cancel(job) => (CallKind::Cancel, cancel(once, job).await),
        Request::Get(job) => {
            let answer = match once.get_job(job).await {
                Ok(details) => Ok((Answer::Status(details.status.name().to_owned()), None)),
                Err(CallError::NotFound(_)) => Ok((Answer::NotFound, None)),
                Err(error) => Err(error),
            };
            (CallKind::Get, answer)
        }
        Request::List => {
            let answer = once.list_jobs().await.map(|answer| {
                let statuses = answer.value.into_iter().map(|job| (job.id.to_string(), job.status.name().to_owned()));
                (Answer::Jobs(statuses.collect()), Some(answer.log_index))
            });
            (CallKind::List, answer)
        }
    }
}

async fn cancel(once: &OnceClient, job: JobId) -> Asked {
    match once.cancel_job(job).await {
        Ok(answer) => Ok((Answer::Done, Some(answer.log_index))),
        Err(CallError::NotFound(_)) => Ok((Answer::NotFound, None)),
        Err(CallError::Refused(message)) => Ok((Answer::Status(message), None)),
        Err(error) => Err(error),
    }
}

async fn chaos(once: &OnceClient, key: &str, kind: &CallKind) -> Asked {
    let operation = match kind {
        CallKind::Write { value } => ChaosOperation::Write(*value),
        CallKind::Cas { expect, value } => ChaosOperation::CompareAndSet { expect: *expect, value: *value },
        CallKind::Append { value } => ChaosOperation::Append(*value),
        CallKind::Read | CallKind::ReadList | CallKind::Submit | CallKind::Cancel | CallKind::Get | CallKind::List => {
            ChaosOperation::Read
        }
    };
    let answer = once.chaos(key, operation).await?;
    let output = match kind {
        CallKind::Cas { .. } if answer.value.done => Answer::Swapped(true),
        CallKind::Cas { .. } => Answer::Mismatch(answer.value.register),
        CallKind::Read => Answer::Value(answer.value.register),
        CallKind::ReadList => Answer::Elements(answer.value.list),
        CallKind::Write { .. }
        | CallKind::Append { .. }
        | CallKind::Submit
        | CallKind::Cancel
        | CallKind::Get
        | CallKind::List => Answer::Done,
    };
    Ok((output, Some(answer.log_index)))
}
