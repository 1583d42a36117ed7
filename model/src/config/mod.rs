//! Configuration: every option declared once with its type, and one validated value made of files and overrides.
//!
//! Keys are Flink's where Flink has the option. Who reads a file turns it into `(dotted key, text)` pairs; one
//! file may serve every process of a cluster, since each takes the options of its own [`Scope`] only.

mod checks;
mod document;
mod error;
mod option;
mod options;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use crate::checkpoint::CheckpointSettings;
use crate::job::{JobSettings, StateBackend};
use crate::restart::RestartStrategy;
use crate::savepoint::{SavepointRestore, UnclaimedState};

pub use document::markdown;
pub use error::Error;
pub use option::{
    AddressesOption, ConfigOption, ConfigValue, CountOption, Declaration, DurationOption, MemorySizeOption,
    OptionalMemorySizeOption, OptionalTextOption, Permille, PortOption, RestartStrategyKind, RuntimeModeOption, Scope,
    StateBackendKind, TextOption,
};
pub use options::*;

use option::Fallback;
use value::Value;

/// The validated configuration of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    scope: Scope,
    /// Invariant: has an entry for each declared option, except required ones of other scopes.
    values: BTreeMap<&'static str, Value>,
}

impl Configuration {
    /// Makes the configuration of a process from what its file says and from `key=value` overrides, of which the
    /// last one of a key wins.
    ///
    /// Options of other scopes are checked as well, then ignored.
    ///
    /// # Errors
    ///
    /// The first defect found: an unknown key, a value that is not allowed, a missing required option, or options
    /// that contradict each other.
    pub fn parse(
        scope: Scope,
        pairs: impl IntoIterator<Item = (String, String)>,
        overrides: &[String],
    ) -> Result<Self, Error> {
        let mut given = BTreeMap::new();
        for (key, text) in pairs {
            let declaration = declaration(&key)?;
            if given.insert(declaration.key, declaration.kind.parse(&key, &text)?).is_some() {
                return Err(Error::Repeated { key });
            }
        }
        for argument in overrides {
            let Some((key, text)) = argument.split_once('=') else {
                return Err(Error::Override { argument: argument.clone() });
            };
            let declaration = declaration(key.trim())?;
            given.insert(declaration.key, declaration.kind.parse(declaration.key, text)?);
        }
        let configuration = Self { scope, values: complete(scope, given)? };
        checks::check(&configuration)?;
        Ok(configuration)
    }

    /// Whose configuration this is.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The value of an option: what was given, or its default.
    ///
    /// # Panics
    ///
    /// When a required option of another scope is asked for, which is a defect of the caller.
    #[must_use]
    pub fn get<T: ConfigValue>(&self, option: &ConfigOption<T>) -> T {
        let Declaration { key, scopes, .. } = option.declaration;
        let Some(value) = self.values.get(key) else {
            panic!("{key} is an option of {scopes:?}, this is the configuration of {:?}", self.scope);
        };
        T::from_value(value).expect("an option's kind and type are declared together")
    }

    /// The settings of a job that its program does not set itself.
    #[must_use]
    pub fn job_settings(&self) -> JobSettings {
        JobSettings {
            runtime_mode: self.get(&EXECUTION_RUNTIME_MODE),
            restart: self.restart_strategy(),
            checkpointing: self.checkpointing(),
            savepoint: self.get(&EXECUTION_STATE_RECOVERY_PATH).map(|path| SavepointRestore {
                path,
                unclaimed: if self.get(&EXECUTION_STATE_RECOVERY_IGNORE_UNCLAIMED) {
                    UnclaimedState::Leave
                } else {
                    UnclaimedState::Refuse
                },
            }),
            executor_memory_bytes: self.get(&EXECUTOR_MEMORY_LIMIT),
            state_backend: match self.get(&STATE_BACKEND_TYPE) {
                StateBackendKind::Heap => StateBackend::Heap,
                StateBackendKind::RocksDb => {
                    StateBackend::RocksDb { slot_memory_bytes: self.get(&STATE_BACKEND_ROCKSDB_MEMORY_FIXED_PER_SLOT) }
                }
            },
        }
    }

    /// None without an interval; that a folder is given then was checked.
    fn checkpointing(&self) -> Option<CheckpointSettings> {
        Some(CheckpointSettings {
            interval: self.get(&EXECUTION_CHECKPOINTING_INTERVAL)?,
            directory: self.get(&EXECUTION_CHECKPOINTING_DIR)?,
            pause_min: self.get(&EXECUTION_CHECKPOINTING_MIN_PAUSE),
            timeout: self.get(&EXECUTION_CHECKPOINTING_TIMEOUT),
            concurrent_max: self.get(&EXECUTION_CHECKPOINTING_MAX_CONCURRENT),
            failures_tolerable: self.get(&EXECUTION_CHECKPOINTING_TOLERABLE_FAILED),
            retained: self.get(&EXECUTION_CHECKPOINTING_NUM_RETAINED),
            mode: self.get(&EXECUTION_CHECKPOINTING_MODE),
            externalized: self.get(&EXECUTION_CHECKPOINTING_EXTERNALIZED_RETENTION),
            unaligned_after: self
                .get(&EXECUTION_CHECKPOINTING_UNALIGNED_ENABLED)
                .then(|| self.get(&EXECUTION_CHECKPOINTING_ALIGNED_TIMEOUT)),
        })
    }

    fn restart_strategy(&self) -> RestartStrategy {
        match self.get(&RESTART_STRATEGY_TYPE) {
            RestartStrategyKind::None => RestartStrategy::None,
            RestartStrategyKind::FixedDelay => RestartStrategy::FixedDelay {
                attempts: self.get(&RESTART_STRATEGY_FIXED_DELAY_ATTEMPTS),
                delay: self.get(&RESTART_STRATEGY_FIXED_DELAY_DELAY),
            },
            RestartStrategyKind::FailureRate => RestartStrategy::FailureRate {
                failures_max: self.get(&RESTART_STRATEGY_FAILURE_RATE_MAX_FAILURES),
                interval: self.get(&RESTART_STRATEGY_FAILURE_RATE_INTERVAL),
                delay: self.get(&RESTART_STRATEGY_FAILURE_RATE_DELAY),
            },
            RestartStrategyKind::ExponentialDelay => RestartStrategy::ExponentialDelay {
                initial: self.get(&RESTART_STRATEGY_EXPONENTIAL_DELAY_INITIAL_BACKOFF),
                max: self.get(&RESTART_STRATEGY_EXPONENTIAL_DELAY_MAX_BACKOFF),
                multiplier_permille: self.get(&RESTART_STRATEGY_EXPONENTIAL_DELAY_BACKOFF_MULTIPLIER).0,
                reset_after: self.get(&RESTART_STRATEGY_EXPONENTIAL_DELAY_RESET_BACKOFF_THRESHOLD),
                jitter_permille: self.get(&RESTART_STRATEGY_EXPONENTIAL_DELAY_JITTER_FACTOR).0,
                attempts: self.get(&RESTART_STRATEGY_EXPONENTIAL_DELAY_ATTEMPTS),
            },
        }
    }
}

impl fmt::Display for Configuration {
    /// `key=value, key=value`: every option of the scope that has a value, as a process logs it at its start.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for declaration in ALL.iter().filter(|declaration| declaration.scopes.contains(&self.scope)) {
            if let Some(value) = self.values.get(declaration.key).filter(|value| **value != Value::Unset) {
                write!(f, "{separator}{}={value}", declaration.key)?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

fn declaration(key: &str) -> Result<Declaration, Error> {
    ALL.iter().find(|declaration| declaration.key == key).copied().ok_or_else(|| Error::unknown_key(key))
}

/// Adds the defaults of all options that were not given.
fn complete(scope: Scope, mut values: BTreeMap<&'static str, Value>) -> Result<BTreeMap<&'static str, Value>, Error> {
    for declaration in ALL {
        let key = declaration.key;
        if values.contains_key(key) {
            continue;
        }
        match declaration.fallback {
            Fallback::Value(text) => {
                values.insert(key, declaration.kind.parse(key, text)?);
            }
            Fallback::Unset { .. } => {
                values.insert(key, Value::Unset);
            }
            Fallback::Required if declaration.scopes.contains(&scope) => {
                return Err(Error::Required { key, meaning: declaration.summary() });
            }
            Fallback::Required => {}
        }
    }
    Ok(values)
}
