//! What a program says of a state when it asks for it, and what is recorded of it.

use super::TimeToLive;

/// The name of a state, and for how long it keeps values.
///
/// A plain name is one: `states.value("count")`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDescriptor {
    pub(super) name: String,
    pub(super) time_to_live: Option<TimeToLive>,
}

impl StateDescriptor {
    /// A state of this name, unique in its operator, that keeps its values until they are taken away.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), time_to_live: None }
    }

    /// The same with values, list elements or map entries that end by themselves.
    #[must_use]
    pub fn with_time_to_live(self, time_to_live: TimeToLive) -> Self {
        Self { time_to_live: Some(time_to_live), ..self }
    }
}

impl From<&str> for StateDescriptor {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for StateDescriptor {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

/// The shape of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateKind {
    /// One value for each key.
    Value,
    /// Elements in order.
    List,
    /// Entries by a second key.
    Map,
    /// One value that others are folded into.
    Reducing,
    /// An accumulator that records are added to.
    Aggregating,
}

/// What is known of a state that was asked for: enough to tell whether an old one fits it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSchema {
    /// Its name, unique in the operator.
    pub name: String,
    /// Its shape.
    pub kind: StateKind,
    /// The Rust types of what it keeps; a map's are those of its keys and values.
    pub types: Vec<&'static str>,
    /// For how long it keeps what it keeps: values then have a time in their encoded form.
    pub time_to_live: Option<TimeToLive>,
    /// The schema of the encoded values; none while they are in the form of their serde implementation.
    pub definition: Option<String>,
}
