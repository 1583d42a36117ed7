//! A snapshot that was taken before all barriers had come, until what was in flight is known.

use std::collections::BTreeMap;

use tidemill_model::mutant::{self, Mutant};

use super::element::Element;
use crate::engine::in_flight::InFlight;
use crate::record::Data;
use crate::runtime::checkpoint::{Content, StatePart};
use crate::runtime::network::ChannelId;
use crate::runtime::task::TaskContext;

/// The most that is kept of what is in flight to one sub-task. Channels hold less; it grows beyond them only while a
/// producer goes on sending and does not come to its own snapshot.
const IN_FLIGHT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What operators left at an early snapshot, and what has come since before the barriers.
pub(super) struct Overtaking {
    checkpoint: u64,
    parts: Vec<StatePart>,
    /// By edge.
    in_flight: BTreeMap<u32, InFlight>,
}

impl Overtaking {
    pub(super) fn new(checkpoint: u64, parts: Vec<StatePart>) -> Self {
        Self { checkpoint, parts, in_flight: BTreeMap::new() }
    }

    pub(super) fn checkpoint(&self) -> u64 {
        self.checkpoint
    }

    /// Keeps an element that is in flight.
    ///
    /// # Errors
    /// It cannot be kept; why, in words.
    pub(super) fn keep<T: Data>(&mut self, channel: ChannelId, element: &Element<T>) -> Result<(), String> {
        let Some(kept) = element.kept().map_err(|error| error.to_string())? else { return Ok(()) };
        self.in_flight.entry(channel.edge).or_default().push(channel, kept).map_err(|error| error.to_string())?;
        if self.in_flight.values().map(InFlight::len).sum::<usize>() > IN_FLIGHT_BYTES_MAX {
            return Err(format!("more than {IN_FLIGHT_BYTES_MAX} bytes are in flight, and barriers are missing"));
        }
        Ok(())
    }

    /// All barriers have come: leaves the snapshot to be written.
    pub(super) fn leave<T>(self, context: &TaskContext) {
        let Self { checkpoint, mut parts, in_flight } = self;
        for (edge, in_flight) in in_flight {
            if mutant::active(Mutant::InFlightForgotten) {
                continue;
            }
            let (id, content) = (context.in_flight_state(edge), Content::InFlight(in_flight.into_bytes()));
            parts.push(StatePart { id, types: vec![std::any::type_name::<T>().to_owned()], content });
        }
        context.leave_snapshot(checkpoint, parts);
    }
}
