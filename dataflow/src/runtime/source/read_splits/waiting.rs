//! The splits that were handed to a sub-task and are not read yet.

use std::collections::VecDeque;

use crate::push::{Push, Stopped};
use crate::record::{Control, Data, Timestamp};
use crate::runtime::gate::{InputTask, Turn};

/// Splits that were handed to this sub-task, and whether more are on their way.
pub(super) struct Waiting<S> {
    pub(super) splits: VecDeque<S>,
    /// How many of them were taken before there was room for them. The enumerator counts them as if they were on their way
    /// still: otherwise each checkpoint would bring a reader one more.
    ///
    /// Invariant: they are the last ones.
    early: usize,
    /// What the enumerator said last: whether all splits that there are at present have come.
    pub(super) said: Option<bool>,
}

impl<S> Waiting<S> {
    /// These wait from the start.
    pub(super) fn new(splits: VecDeque<S>) -> Self {
        Self { splits, early: 0, said: None }
    }
}

impl<S: Data> InputTask<S, Waiting<S>> {
    /// The split whose turn it is.
    pub(super) fn pop(&mut self) -> Option<S> {
        let waiting = self.next();
        let split = waiting.splits.pop_front()?;
        if waiting.splits.len() < waiting.early {
            waiting.early -= 1;
            self.release();
        }
        Some(split)
    }

    /// Takes what has come though splits wait already; answers whether there was something.
    pub(super) fn look(&mut self) -> Result<bool, Stopped> {
        let before = self.next().splits.len();
        let there = self.try_step(Turn::Early)?;
        self.came_early(before);
        Ok(there)
    }

    /// Waits for what comes next, or until an operator wants to be called.
    pub(super) fn wait(&mut self) -> Result<(), Stopped> {
        let before = self.next().splits.len();
        if before == 0 {
            return self.step(Turn::Come);
        }
        self.step(Turn::Early)?;
        self.came_early(before);
        Ok(())
    }

    fn came_early(&mut self, before: usize) {
        let waiting = self.next();
        waiting.early += waiting.splits.len() - before;
    }
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
