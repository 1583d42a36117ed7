//! The splits that were handed to a sub-task and are not read yet.

use std::collections::VecDeque;

use crate::push::{Push, Stopped};
use crate::record::{Control, Timestamp};

/// Splits that were handed to this sub-task, and whether more are on their way.
pub(super) struct Waiting<S> {
    pub(super) splits: VecDeque<S>,
    /// What the enumerator said last: whether all splits that there are at present have come.
    pub(super) said: Option<bool>,
}

impl<S> Push<S> for Waiting<S> {
    fn push(&mut self, split: S, _time: Timestamp) -> Result<(), Stopped> {
        self.splits.push_back(split);
        Ok(())
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        match control {
            Control::Idle | Control::EndOfInput => self.said = Some(true),
            Control::Active => self.said = Some(false),
            Control::Watermark(_)
            | Control::Barrier(_)
            | Control::ProcessingTime(_)
            | Control::Completed(_)
            | Control::FinishedBefore => {}
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        Ok(())
    }
}
