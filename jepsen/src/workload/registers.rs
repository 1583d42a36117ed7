//! Registers and lists of the chaos API: reads, writes, swaps, appends, some hundred on each key.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Stage;
use crate::client::{Client, Request};
use crate::history::CallKind;
use crate::seed::Stream;

/// How many operations there are on one register, and on the list of the same name: few enough to check quickly.
const OPS_PER_KEY: u32 = 100;

/// The keys that workers share, so that their operations meet.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    current: Arc<Mutex<Current>>,
}

#[derive(Debug, Default)]
struct Current {
    phase: String,
    key: u32,
    used: u32,
    next_value: i64,
    /// What was written last, as far as is known: swaps that expect it often succeed.
    last: Option<i64>,
}

struct Ticket {
    key: String,
    value: i64,
    last: Option<i64>,
}

impl Keys {
    /// The key for the next operation, and a value that nobody else writes.
    fn take(&self, phase: &str) -> Ticket {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.phase != phase || current.used >= OPS_PER_KEY {
            phase.clone_into(&mut current.phase);
            (current.key, current.used, current.last) = (current.key + 1, 0, None);
        }
        current.used += 1;
        current.next_value += 1;
        Ticket { key: format!("k{}", current.key), value: current.next_value, last: current.last }
    }

    fn written(&self, key: &str, value: i64) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if format!("k{}", current.key) == key {
            current.last = Some(value);
        }
    }
}

/// One worker: an operation, a pause of about `pace`, and so on until the stage is over.
pub async fn run(mut client: Client, stage: Stage, keys: Keys, mut chance: Stream, pace: Duration) {
    while !stage.is_over() {
        let phase = stage.phase();
        let Ticket { key, value, last } = keys.take(&phase);
        let kind = match chance.below(20) {
            0..6 => CallKind::Read,
            6..11 => CallKind::Write { value },
            11..15 => CallKind::Cas { expect: last, value },
            15..18 => CallKind::Append { value },
            _ => CallKind::ReadList,
        };
        let writes = matches!(kind, CallKind::Write { .. } | CallKind::Cas { .. });
        if client.call(&phase, &key, Request::Chaos(kind)).await && writes {
            keys.written(&key, value);
        }
        tokio::time::sleep(pace.mul_f64(0.5 + chance.unit())).await;
    }
}
