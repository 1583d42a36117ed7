//! What clients do while things break: metadata operations, and registers and lists that go the same way.

pub mod metadata;
pub mod registers;

use std::sync::{Arc, Mutex, PoisonError};

/// What all workers of a run share: the phase that is on, and whether it is over.
#[derive(Debug, Clone)]
pub struct Stage {
    phase: Arc<Mutex<String>>,
    over: tokio::sync::watch::Sender<bool>,
}

impl Stage {
    /// A stage before its first phase.
    #[must_use]
    pub fn new() -> Self {
        Self { phase: Arc::new(Mutex::new("boot".to_owned())), over: tokio::sync::watch::Sender::new(false) }
    }

    /// Begins a phase.
    pub fn enter(&self, phase: &str) {
        phase.clone_into(&mut self.phase.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The phase that is on.
    #[must_use]
    pub fn phase(&self) -> String {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has every worker stop after the call that it is in.
    pub fn end(&self) {
        self.over.send_replace(true);
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        *self.over.borrow()
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}
