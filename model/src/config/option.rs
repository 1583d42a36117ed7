//! What an option is: its key, its type and what it allows, its default, and who reads it.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::value::Value;
use crate::checkpoint::{CheckpointingMode, ExternalizedRetention};
use crate::job::RuntimeMode;

/// Who reads an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// `tidemill-coordinator`.
    Coordinator,
    /// `tidemill-taskmanager`.
    TaskManager,
    /// A client: a job's program or the command line.
    Job,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coordinator => "coordinator",
            Self::TaskManager => "task manager",
            Self::Job => "job",
        })
    }
}

/// What an option's text may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A length of time, at least so long.
    Duration { min: Duration },
    /// A number of bytes, at least so many.
    MemorySize { min_bytes: u64 },
    /// A whole number within bounds.
    Count { min: u32, max: u32 },
    /// A number with up to three decimals, within bounds; in thousandths.
    Decimal { min: u32, max: u32 },
    /// A TCP port; 0 lets the system choose.
    Port,
    /// Any text of at least one character.
    Text,
    /// A list of `host:port`.
    Addresses,
    /// One of a few words.
    Choice(&'static [&'static str]),
}

/// A number in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permille(pub u32);

impl fmt::Display for Permille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Which of the restart strategies a job has (`restart-strategy.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartStrategyKind {
    /// Pauses that grow.
    ExponentialDelay,
    /// So many restarts.
    FixedDelay,
    /// So many failures in an interval.
    FailureRate,
    /// No restart.
    None,
}

/// Which of the state back-ends a job has (`state.backend.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateBackendKind {
    /// Memory.
    Heap,
    /// RocksDB.
    RocksDb,
}

/// What holds when an option is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fallback {
    /// This text, as if it had been given.
    Value(&'static str),
    /// Nothing; `meaning` says what that comes to.
    Unset { meaning: &'static str },
    /// The processes of its scopes do not start.
    Required,
}

/// Everything about an option but the Rust type of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declaration {
    /// The key, dotted.
    pub key: &'static str,
    /// Who reads it.
    pub scopes: &'static [Scope],
    pub(super) kind: Kind,
    pub(super) fallback: Fallback,
    pub(super) doc: &'static str,
}

impl Declaration {
    /// One sentence on what the option is for.
    #[must_use]
    pub fn summary(&self) -> &'static str {
        self.doc.trim_ascii()
    }
}

/// An option whose value is a `T`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigOption<T> {
    pub(super) declaration: Declaration,
    value: PhantomData<fn() -> T>,
}

impl<T> ConfigOption<T> {
    pub(super) const fn new(
        key: &'static str,
        scopes: &'static [Scope],
        allowed: Allowed<T>,
        doc: &'static str,
    ) -> Self {
        let declaration = Declaration { key, scopes, kind: allowed.kind, fallback: allowed.fallback, doc };
        Self { declaration, value: PhantomData }
    }

    /// The key, dotted.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        self.declaration.key
    }
}

/// A length of time.
pub type DurationOption = ConfigOption<Duration>;
/// A number of bytes.
pub type MemorySizeOption = ConfigOption<u64>;
/// A number of bytes, or none.
pub type OptionalMemorySizeOption = ConfigOption<Option<u64>>;
/// A whole number.
pub type CountOption = ConfigOption<u32>;
/// A TCP port; 0 lets the system choose.
pub type PortOption = ConfigOption<u16>;
/// A text.
pub type TextOption = ConfigOption<String>;
/// A text, or none.
pub type OptionalTextOption = ConfigOption<Option<String>>;
/// A list of `host:port`, without repetitions.
pub type AddressesOption = ConfigOption<Vec<String>>;
/// When aggregates speak.
pub type RuntimeModeOption = ConfigOption<RuntimeMode>;

/// A kind and a default whose values are `T`s: the two cannot be declared apart.
pub(super) struct Allowed<T> {
    kind: Kind,
    fallback: Fallback,
    value: PhantomData<fn() -> T>,
}

impl<T> Allowed<T> {
    const fn new(kind: Kind, fallback: Fallback) -> Self {
        Self { kind, fallback, value: PhantomData }
    }
}

/// A length of time of at least a millisecond.
pub(super) const fn duration(default: &'static str) -> Allowed<Duration> {
    Allowed::new(Kind::Duration { min: Duration::from_millis(1) }, Fallback::Value(default))
}

/// A length of time of at least a millisecond, or none.
pub(super) const fn optional_duration(meaning: &'static str) -> Allowed<Option<Duration>> {
    Allowed::new(Kind::Duration { min: Duration::from_millis(1) }, Fallback::Unset { meaning })
}

/// A length of time that may be nothing.
pub(super) const fn pause(default: &'static str) -> Allowed<Duration> {
    Allowed::new(Kind::Duration { min: Duration::ZERO }, Fallback::Value(default))
}

pub(super) const fn memory_size(min_bytes: u64, default: &'static str) -> Allowed<u64> {
    Allowed::new(Kind::MemorySize { min_bytes }, Fallback::Value(default))
}

pub(super) const fn optional_memory_size(min_bytes: u64, meaning: &'static str) -> Allowed<Option<u64>> {
    Allowed::new(Kind::MemorySize { min_bytes }, Fallback::Unset { meaning })
}

pub(super) const fn count(min: u32, max: u32, default: &'static str) -> Allowed<u32> {
    Allowed::new(Kind::Count { min, max }, Fallback::Value(default))
}

pub(super) const fn optional_count(min: u32, max: u32, meaning: &'static str) -> Allowed<Option<u32>> {
    Allowed::new(Kind::Count { min, max }, Fallback::Unset { meaning })
}

pub(super) const fn decimal(min: Permille, max: Permille, default: &'static str) -> Allowed<Permille> {
    Allowed::new(Kind::Decimal { min: min.0, max: max.0 }, Fallback::Value(default))
}

pub(super) const fn port(default: &'static str) -> Allowed<u16> {
    Allowed::new(Kind::Port, Fallback::Value(default))
}

pub(super) const fn text(default: &'static str) -> Allowed<String> {
    Allowed::new(Kind::Text, Fallback::Value(default))
}

pub(super) const fn required_text() -> Allowed<String> {
    Allowed::new(Kind::Text, Fallback::Required)
}

pub(super) const fn optional_text(meaning: &'static str) -> Allowed<Option<String>> {
    Allowed::new(Kind::Text, Fallback::Unset { meaning })
}

pub(super) const fn addresses(default: &'static str) -> Allowed<Vec<String>> {
    Allowed::new(Kind::Addresses, Fallback::Value(default))
}

/// Yes or no.
pub(super) const fn flag(default: &'static str) -> Allowed<bool> {
    Allowed::new(Kind::Choice(&["false", "true"]), Fallback::Value(default))
}

pub(super) const fn runtime_mode(default: &'static str) -> Allowed<RuntimeMode> {
    Allowed::new(Kind::Choice(&["automatic", "batch", "streaming"]), Fallback::Value(default))
}

pub(super) const fn restart_strategy(default: &'static str) -> Allowed<RestartStrategyKind> {
    let words = &["exponential-delay", "fixed-delay", "failure-rate", "none"];
    Allowed::new(Kind::Choice(words), Fallback::Value(default))
}

pub(super) const fn state_backend(default: &'static str) -> Allowed<StateBackendKind> {
    Allowed::new(Kind::Choice(&["heap", "rocksdb"]), Fallback::Value(default))
}

pub(super) const fn checkpointing_mode(default: &'static str) -> Allowed<CheckpointingMode> {
    Allowed::new(Kind::Choice(&["exactly-once", "at-least-once"]), Fallback::Value(default))
}

pub(super) const fn externalized_retention(default: &'static str) -> Allowed<ExternalizedRetention> {
    Allowed::new(Kind::Choice(&["delete-on-cancellation", "retain-on-cancellation"]), Fallback::Value(default))
}

mod sealed {
    use super::Value;

    /// Reads a validated value back; none when it is of another kind.
    pub trait FromValue: Sized {
        /// The value as this type.
        #[expect(private_interfaces, reason = "sealed: nobody outside calls it")]
        fn from_value(value: &Value) -> Option<Self>;
    }
}

/// A Rust type that an option's value can have.
pub trait ConfigValue: sealed::FromValue {}

impl<T: sealed::FromValue> ConfigValue for T {}

macro_rules! config_values {
    ($($type:ty: $pattern:pat => $value:expr;)*) => {$(
        impl sealed::FromValue for $type {
            #[expect(private_interfaces, reason = "sealed: nobody outside calls it")]
            fn from_value(value: &Value) -> Option<Self> {
                if let $pattern = value { $value } else { None }
            }
        }
    )*};
}
config_values! {
    Duration: Value::Duration(duration) => Some(*duration);
    u64: Value::MemorySize(bytes) => Some(*bytes);
    u32: Value::Count(count) => Some(*count);
    Permille: Value::Decimal(thousandths) => Some(Self(*thousandths));
    u16: Value::Port(port) => Some(*port);
    String: Value::Text(text) => Some(text.clone());
    Vec<String>: Value::Addresses(addresses) => Some(addresses.clone());
    RestartStrategyKind: Value::Choice(word) => match *word {
        "exponential-delay" => Some(Self::ExponentialDelay),
        "fixed-delay" => Some(Self::FixedDelay),
        "failure-rate" => Some(Self::FailureRate),
        "none" => Some(Self::None),
        _ => None,
    };
    StateBackendKind: Value::Choice(word) => match *word {
        "heap" => Some(Self::Heap),
        "rocksdb" => Some(Self::RocksDb),
        _ => None,
    };
    CheckpointingMode: Value::Choice(word) => match *word {
        "exactly-once" => Some(Self::ExactlyOnce),
        "at-least-once" => Some(Self::AtLeastOnce),
        _ => None,
    };
    ExternalizedRetention: Value::Choice(word) => match *word {
        "delete-on-cancellation" => Some(Self::DeleteOnEnd),
        "retain-on-cancellation" => Some(Self::RetainOnEnd),
        _ => None,
    };
    bool: Value::Choice(word) => match *word {
        "false" => Some(false),
        "true" => Some(true),
        _ => None,
    };
    RuntimeMode: Value::Choice(word) => match *word {
        "automatic" => Some(Self::Automatic),
        "batch" => Some(Self::Batch),
        "streaming" => Some(Self::Streaming),
        _ => None,
    };
}

impl<T: sealed::FromValue> sealed::FromValue for Option<T> {
    #[expect(private_interfaces, reason = "sealed: nobody outside calls it")]
    fn from_value(value: &Value) -> Option<Self> {
        if *value == Value::Unset { Some(None) } else { T::from_value(value).map(Some) }
    }
}
