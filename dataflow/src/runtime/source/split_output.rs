//! What readers of splits emit into: the chain, with event times and watermarks, and side outputs.

use super::{SourceOutput, SplitTimes};
use crate::engine::split_watermarks::SplitWatermarks;
use crate::function::{OutputTag, SideOutputs};
use crate::push::{Push, Stopped};
use crate::record::{Control, Data, NO_TIME, Timestamp};
use crate::runtime::task::TaskContext;

/// How many records are read between two looks for a barrier that is expected.
const RECORDS_PER_SMALL_STEP: u64 = 16;

/// Where records and control go.
pub(super) struct Target<N> {
    pub(super) watermarks: SplitWatermarks,
    pub(super) sides: SideOutputs,
    pub(super) next: N,
}

impl<N> Target<N> {
    /// Passes control on, to side outputs as well.
    pub(super) fn say<T>(&mut self, controls: Vec<Control>) -> Result<(), Stopped>
    where
        N: Push<T>,
    {
        controls.into_iter().try_for_each(|control| {
            self.sides.control(control)?;
            self.next.control(control)
        })
    }
}

/// Why nothing more is taken from a reader.
pub(super) enum End {
    None,
    Stopped(Stopped),
    NoTime,
}

/// Takes what one call of a reader emits.
pub(super) struct Output<'a, N, C> {
    pub(super) target: &'a mut Target<N>,
    pub(super) number: u64,
    pub(super) times: &'a mut C,
    pub(super) timed: bool,
    pub(super) assigns: bool,
    pub(super) count: u64,
    pub(super) end: End,
    pub(super) context: &'a TaskContext,
}

impl<N, C> Output<'_, N, C> {
    #[inline(always)]
    fn push<T>(&mut self, record: T, time: Timestamp) -> Result<(), End>
    where
        N: Push<T>,
        C: SplitTimes<T>,
    {
        let (time, watermark) = self.times.on_record(&record, time);
        if self.assigns && time == NO_TIME {
            return Err(End::NoTime);
        }
        if self.timed && self.count == 0 {
            let said = self.target.watermarks.set_idle(self.number, false);
            self.target.say(said).map_err(End::Stopped)?;
        }
        self.count += 1;
        self.target.next.push(record, time).map_err(End::Stopped)?;
        match watermark {
            Some(watermark) if self.timed => {
                let said = self.target.watermarks.advance(self.number, watermark);
                self.target.say(said).map_err(End::Stopped)
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl<T, N: Push<T>, C: SplitTimes<T>> SourceOutput<T> for Output<'_, N, C> {
    #[inline(always)]
    fn emit(&mut self, record: T) {
        self.emit_at(record, NO_TIME);
    }

    #[inline(always)]
    fn emit_at(&mut self, record: T, time: Timestamp) {
        if matches!(self.end, End::None)
            && let Err(end) = self.push(record, time)
        {
            self.end = end;
        }
    }

    #[inline]
    fn is_interrupted(&self) -> bool {
        // While a barrier is on its way from the enumerator, reading goes on, in small steps.
        self.context.has_mail() || (self.count >= RECORDS_PER_SMALL_STEP && self.context.wanted_trigger().is_some())
    }

    fn output<S: Data>(&mut self, tag: &OutputTag<S>, record: S) {
        self.target.sides.emit(tag, record, NO_TIME);
    }
}
