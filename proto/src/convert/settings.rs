//! A job's settings on the wire.

use std::time::Duration;

use tidemill_model::checkpoint::{CheckpointSettings, CheckpointingMode, ExternalizedRetention};
use tidemill_model::job::{JobSettings, RuntimeMode, StateBackend};
use tidemill_model::restart::RestartStrategy;
use tidemill_model::savepoint::{SavepointRestore, UnclaimedState};

use super::{Error, millis, required};
use crate::pb;
use crate::pb::restart_strategy::{self, Strategy};

impl From<RuntimeMode> for pb::RuntimeMode {
    fn from(mode: RuntimeMode) -> Self {
        match mode {
            RuntimeMode::Automatic => Self::Automatic,
            RuntimeMode::Batch => Self::Batch,
            RuntimeMode::Streaming => Self::Streaming,
        }
    }
}

fn runtime_mode(value: i32) -> Result<RuntimeMode, Error> {
    match pb::RuntimeMode::try_from(value) {
        Ok(pb::RuntimeMode::Automatic) => Ok(RuntimeMode::Automatic),
        Ok(pb::RuntimeMode::Batch) => Ok(RuntimeMode::Batch),
        Ok(pb::RuntimeMode::Streaming) => Ok(RuntimeMode::Streaming),
        Ok(pb::RuntimeMode::Unspecified) | Err(_) => {
            Err(Error::UnknownEnum { field: "JobSettings.runtime_mode", value })
        }
    }
}

impl From<RestartStrategy> for pb::RestartStrategy {
    fn from(strategy: RestartStrategy) -> Self {
        let strategy = match strategy {
            RestartStrategy::None => Strategy::None(pb::Empty {}),
            RestartStrategy::FixedDelay { attempts, delay } => {
                Strategy::FixedDelay(restart_strategy::FixedDelay { attempts, delay_ms: millis(delay) })
            }
            RestartStrategy::FailureRate { failures_max, interval, delay } => {
                let (interval_ms, delay_ms) = (millis(interval), millis(delay));
                Strategy::FailureRate(restart_strategy::FailureRate { failures_max, interval_ms, delay_ms })
            }
            RestartStrategy::ExponentialDelay {
                initial,
                max,
                multiplier_permille,
                reset_after,
                jitter_permille,
                attempts,
            } => Strategy::ExponentialDelay(restart_strategy::ExponentialDelay {
                initial_ms: millis(initial),
                max_ms: millis(max),
                multiplier_permille,
                reset_after_ms: millis(reset_after),
                jitter_permille,
                attempts,
            }),
        };
        Self { strategy: Some(strategy) }
    }
}

impl TryFrom<pb::RestartStrategy> for RestartStrategy {
    type Error = Error;

    fn try_from(strategy: pb::RestartStrategy) -> Result<Self, Error> {
        let time = Duration::from_millis;
        Ok(match required(strategy.strategy, "RestartStrategy.strategy")? {
            Strategy::None(pb::Empty {}) => Self::None,
            Strategy::FixedDelay(fixed) => Self::FixedDelay { attempts: fixed.attempts, delay: time(fixed.delay_ms) },
            Strategy::FailureRate(rate) => Self::FailureRate {
                failures_max: rate.failures_max,
                interval: time(rate.interval_ms),
                delay: time(rate.delay_ms),
            },
            Strategy::ExponentialDelay(delay) => Self::ExponentialDelay {
                initial: time(delay.initial_ms),
                max: time(delay.max_ms),
                multiplier_permille: delay.multiplier_permille,
                reset_after: time(delay.reset_after_ms),
                jitter_permille: delay.jitter_permille.min(1000),
                attempts: delay.attempts,
            },
        })
    }
}

impl From<CheckpointSettings> for pb::CheckpointSettings {
    fn from(settings: CheckpointSettings) -> Self {
        let mode = match settings.mode {
            CheckpointingMode::ExactlyOnce => pb::CheckpointingMode::ExactlyOnce,
            CheckpointingMode::AtLeastOnce => pb::CheckpointingMode::AtLeastOnce,
        };
        let externalized = match settings.externalized {
            ExternalizedRetention::DeleteOnEnd => pb::ExternalizedRetention::DeleteOnEnd,
            ExternalizedRetention::RetainOnEnd => pb::ExternalizedRetention::RetainOnEnd,
        };
        Self {
            directory: settings.directory,
            interval_ms: millis(settings.interval),
            pause_min_ms: millis(settings.pause_min),
            timeout_ms: millis(settings.timeout),
            concurrent_max: settings.concurrent_max,
            failures_tolerable: settings.failures_tolerable,
            retained: settings.retained,
            mode: mode.into(),
            externalized: externalized.into(),
            unaligned_after_ms: settings.unaligned_after.map(millis),
        }
    }
}

impl TryFrom<pb::CheckpointSettings> for CheckpointSettings {
    type Error = Error;

    fn try_from(settings: pb::CheckpointSettings) -> Result<Self, Error> {
        let mode = match pb::CheckpointingMode::try_from(settings.mode) {
            Ok(pb::CheckpointingMode::ExactlyOnce) => CheckpointingMode::ExactlyOnce,
            Ok(pb::CheckpointingMode::AtLeastOnce) => CheckpointingMode::AtLeastOnce,
            Ok(pb::CheckpointingMode::Unspecified) | Err(_) => {
                return Err(Error::UnknownEnum { field: "CheckpointSettings.mode", value: settings.mode });
            }
        };
        let externalized = match pb::ExternalizedRetention::try_from(settings.externalized) {
            Ok(pb::ExternalizedRetention::DeleteOnEnd) => ExternalizedRetention::DeleteOnEnd,
            Ok(pb::ExternalizedRetention::RetainOnEnd) => ExternalizedRetention::RetainOnEnd,
            Ok(pb::ExternalizedRetention::Unspecified) | Err(_) => {
                let value = settings.externalized;
                return Err(Error::UnknownEnum { field: "CheckpointSettings.externalized", value });
            }
        };
        // Zero would mean a checkpoint without end, none at a time, or none that is kept.
        for (field, value) in [
            ("CheckpointSettings.interval_ms", settings.interval_ms),
            ("CheckpointSettings.timeout_ms", settings.timeout_ms),
            ("CheckpointSettings.concurrent_max", settings.concurrent_max.into()),
            ("CheckpointSettings.retained", settings.retained.into()),
        ] {
            if value == 0 {
                return Err(Error::Missing { field });
            }
        }
        Ok(Self {
            directory: settings.directory,
            interval: Duration::from_millis(settings.interval_ms),
            pause_min: Duration::from_millis(settings.pause_min_ms),
            timeout: Duration::from_millis(settings.timeout_ms),
            concurrent_max: settings.concurrent_max,
            failures_tolerable: settings.failures_tolerable,
            retained: settings.retained,
            mode,
            externalized,
            unaligned_after: settings.unaligned_after_ms.map(Duration::from_millis),
        })
    }
}

fn state_backend_to_pb(backend: StateBackend) -> (pb::StateBackend, Option<u64>) {
    match backend {
        StateBackend::Heap => (pb::StateBackend::Heap, None),
        StateBackend::RocksDb { slot_memory_bytes } => (pb::StateBackend::Rocksdb, slot_memory_bytes),
    }
}

fn state_backend(value: i32, slot_memory_bytes: Option<u64>) -> Result<StateBackend, Error> {
    match pb::StateBackend::try_from(value) {
        Ok(pb::StateBackend::Unspecified | pb::StateBackend::Heap) => Ok(StateBackend::Heap),
        Ok(pb::StateBackend::Rocksdb) => Ok(StateBackend::RocksDb { slot_memory_bytes }),
        Err(_) => Err(Error::UnknownEnum { field: "JobSettings.state_backend", value }),
    }
}

impl From<JobSettings> for pb::JobSettings {
    fn from(settings: JobSettings) -> Self {
        let (state_backend, state_slot_memory_bytes) = state_backend_to_pb(settings.state_backend);
        Self {
            runtime_mode: pb::RuntimeMode::from(settings.runtime_mode).into(),
            restart: Some(settings.restart.into()),
            checkpointing: settings.checkpointing.map(Into::into),
            executor_memory_bytes: settings.executor_memory_bytes,
            savepoint: settings.savepoint.map(|savepoint| pb::SavepointRestore {
                path: savepoint.path,
                leave_unclaimed: savepoint.unclaimed == UnclaimedState::Leave,
            }),
            state_backend: state_backend.into(),
            state_slot_memory_bytes,
        }
    }
}

impl TryFrom<pb::JobSettings> for JobSettings {
    type Error = Error;

    fn try_from(settings: pb::JobSettings) -> Result<Self, Error> {
        Ok(Self {
            runtime_mode: runtime_mode(settings.runtime_mode)?,
            restart: required(settings.restart, "JobSettings.restart")?.try_into()?,
            checkpointing: settings.checkpointing.map(TryInto::try_into).transpose()?,
            executor_memory_bytes: settings.executor_memory_bytes,
            savepoint: settings.savepoint.map(|savepoint| SavepointRestore {
                path: savepoint.path,
                unclaimed: if savepoint.leave_unclaimed { UnclaimedState::Leave } else { UnclaimedState::Refuse },
            }),
            state_backend: state_backend(settings.state_backend, settings.state_slot_memory_bytes)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_restart_strategy_round_trips() {
        let strategies = [
            RestartStrategy::None,
            RestartStrategy::FixedDelay { attempts: 9, delay: Duration::from_millis(17) },
            RestartStrategy::FailureRate {
                failures_max: 2,
                interval: Duration::from_secs(60),
                delay: Duration::from_secs(1),
            },
            RestartStrategy::default(),
        ];
        for strategy in strategies {
            assert_eq!(RestartStrategy::try_from(pb::RestartStrategy::from(strategy)), Ok(strategy));
        }
        let missing = RestartStrategy::try_from(pb::RestartStrategy { strategy: None });
        assert_eq!(missing, Err(Error::Missing { field: "RestartStrategy.strategy" }));
    }

    #[test]
    fn checkpoint_settings_round_trip_and_senseless_ones_are_refused() {
        let settings = CheckpointSettings {
            mode: CheckpointingMode::AtLeastOnce,
            externalized: ExternalizedRetention::RetainOnEnd,
            failures_tolerable: 3,
            unaligned_after: Some(Duration::ZERO),
            ..CheckpointSettings::default()
        };
        let message = pb::CheckpointSettings::from(settings.clone());
        assert_eq!(CheckpointSettings::try_from(message.clone()), Ok(settings));
        let none_kept = pb::CheckpointSettings { retained: 0, ..message };
        let error = CheckpointSettings::try_from(none_kept).expect_err("nothing would be kept");
        assert_eq!(error, Error::Missing { field: "CheckpointSettings.retained" });
    }
}
