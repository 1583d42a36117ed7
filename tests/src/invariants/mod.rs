//! What must hold in every simulated step, one invariant a file.
//!
//! Each sees the facts of a simulation and keeps what it needs to judge them, apart from the product's own bookkeeping:
//! a fence that forgets to rise does not take its invariant along. What is broken is said with its evidence.

pub mod acknowledged;
pub mod checkpoint_ids;
pub mod converged;
pub mod decided_first;
pub mod fence;
pub mod in_office;
mod milestone;
pub mod no_zombie;
pub mod nothing_left;
pub mod one_execution;
pub mod one_leader;
pub mod output;
pub mod replicas_agree;
pub mod restores;
pub mod result_delivered;
pub mod terminal;
pub mod transactions;
mod truth;
pub mod undisturbed;

use crate::sim::fact::Fact;

pub(crate) use truth::Truth;

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// See [`acknowledged`].
    #[error("acknowledged: {0}")]
    Acknowledged(#[from] acknowledged::Violation),
    /// See [`checkpoint_ids`].
    #[error("checkpoint-ids: {0}")]
    CheckpointIds(#[from] checkpoint_ids::Violation),
    /// See [`converged`].
    #[error("converged: {0}")]
    Converged(#[from] converged::Violation),
    /// See [`decided_first`].
    #[error("decided-first: {0}")]
    DecidedFirst(#[from] decided_first::Violation),
    /// See [`fence`].
    #[error("fence: {0}")]
    Fence(#[from] fence::Violation),
    /// See [`in_office`].
    #[error("in-office: {0}")]
    InOffice(#[from] in_office::Violation),
    /// See [`no_zombie`].
    #[error("no-zombie: {0}")]
    NoZombie(#[from] no_zombie::Violation),
    /// See [`nothing_left`].
    #[error("nothing-left: {0}")]
    NothingLeft(#[from] nothing_left::Violation),
    /// See [`one_execution`].
    #[error("one-execution: {0}")]
    OneExecution(#[from] one_execution::Violation),
    /// See [`one_leader`].
    #[error("one-leader: {0}")]
    OneLeader(#[from] one_leader::Violation),
    /// See [`output`].
    #[error("output: {0}")]
    Output(#[from] output::Violation),
    /// See [`replicas_agree`].
    #[error("replicas-agree: {0}")]
    ReplicasAgree(#[from] replicas_agree::Violation),
    /// See [`restores`].
    #[error("restores: {0}")]
    Restores(#[from] restores::Violation),
    /// See [`result_delivered`].
    #[error("result-delivered: {0}")]
    ResultDelivered(#[from] result_delivered::Violation),
    /// See [`transactions`].
    #[error("transactions: {0}")]
    Transactions(#[from] transactions::Violation),
    /// See [`terminal`].
    #[error("terminal: {0}")]
    Terminal(#[from] terminal::Violation),
    /// See [`undisturbed`].
    #[error("undisturbed: {0}")]
    Undisturbed(#[from] undisturbed::Violation),
    /// An answer that no client should get.
    #[error("answer: {0}")]
    Answer(String),
    /// An engine panicked: one of its own invariants is broken.
    #[error("panic: {0}")]
    Panic(String),
}

impl Violation {
    /// The broken invariant's name.
    #[must_use]
    pub fn invariant(&self) -> &'static str {
        match self {
            Self::Acknowledged(_) => "acknowledged",
            Self::CheckpointIds(_) => "checkpoint-ids",
            Self::Converged(_) => "converged",
            Self::DecidedFirst(_) => "decided-first",
            Self::Fence(_) => "fence",
            Self::InOffice(_) => "in-office",
            Self::NoZombie(_) => "no-zombie",
            Self::NothingLeft(_) => "nothing-left",
            Self::OneExecution(_) => "one-execution",
            Self::OneLeader(_) => "one-leader",
            Self::Output(_) => "output",
            Self::ReplicasAgree(_) => "replicas-agree",
            Self::Restores(_) => "restores",
            Self::Transactions(_) => "transactions",
            Self::ResultDelivered(_) => "result-delivered",
            Self::Terminal(_) => "terminal",
            Self::Undisturbed(_) => "undisturbed",
            Self::Answer(_) => "answer",
            Self::Panic(_) => "panic",
        }
    }
}

/// All of them, and what they judge by.
#[derive(Debug, Default)]
pub(crate) struct Invariants {
    /// What has been decided, as the first replica that applied it has it.
    pub(crate) truth: Truth,
    acknowledged: acknowledged::Acknowledged,
    checkpoint_ids: checkpoint_ids::CheckpointIds,
    decided_first: decided_first::DecidedFirst,
    fence: fence::Fence,
    in_office: in_office::InOffice,
    no_zombie: no_zombie::NoZombie,
    one_execution: one_execution::OneExecution,
    one_leader: one_leader::OneLeader,
    output: output::Output,
    replicas_agree: replicas_agree::ReplicasAgree,
    restores: restores::Restores,
    terminal: terminal::Terminal,
    transactions: transactions::Transactions,
    undisturbed: undisturbed::Undisturbed,
}

impl Invariants {
    /// Judges one fact.
    pub(crate) fn observe(&mut self, fact: &Fact<'_>) -> Result<(), Violation> {
        let news = self.truth.observe(fact);
        self.replicas_agree.observe(fact)?;
        self.one_leader.observe(fact)?;
        self.in_office.observe(fact)?;
        self.fence.observe(fact)?;
        self.decided_first.observe(fact)?;
        self.one_execution.observe(fact)?;
        self.checkpoint_ids.observe(fact)?;
        self.restores.observe(fact)?;
        self.transactions.observe(fact)?;
        self.output.observe(&self.truth, fact)?;
        self.no_zombie.observe(fact);
        if news {
            self.no_zombie.decided(fact)?;
            self.checkpoint_ids.decided(fact)?;
            self.restores.decided(fact);
            self.terminal.decided(fact)?;
            self.undisturbed.decided(fact)?;
        }
        self.terminal.observe(fact)?;
        self.undisturbed.observe(fact);
        self.acknowledged.observe(&self.truth, fact)?;
        Ok(())
    }
}
