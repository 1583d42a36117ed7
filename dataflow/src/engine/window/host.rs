//! What the engine asks of its caller: to fold, to merge, to emit, and to keep timers; and what it answers.

use super::{TimeDomain, TimeWindow, TimerSink};

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added<T> {
    /// It is in at least one window.
    Kept,
    /// All its windows have been forgotten already.
    Late(T),
    /// It lies between windows, which start less often than they are long.
    NoWindow(T),
    /// It has no timestamp, and its windows need one.
    NoTimestamp(T),
    /// The gap that came with it is not positive, or none came.
    BadGap(T),
    /// The key's state was made by another kind of windows; see [`super::Windowing::fits`].
    Foreign(T),
}

/// What a fired window holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Contents<'a, A> {
    /// It stays in the window; what is changed here is changed there.
    Kept(&'a mut A),
    /// The window needs it no longer, or it was merged for this moment.
    Given(A),
}

impl<A> Contents<'_, A> {
    /// A look at it.
    pub fn get(&self) -> &A {
        match self {
            Self::Kept(contents) => contents,
            Self::Given(contents) => contents,
        }
    }

    /// A look that may change it.
    pub fn get_mut(&mut self) -> &mut A {
        match self {
            Self::Kept(contents) => contents,
            Self::Given(contents) => contents,
        }
    }

    /// The value itself, copied if the window still needs it.
    pub fn into_owned(self) -> A
    where
        A: Clone,
    {
        match self {
            Self::Kept(contents) => contents.clone(),
            Self::Given(contents) => contents,
        }
    }
}

/// The operator around the engine, for the key at hand.
pub trait Host<T, A>: TimerSink {
    /// Takes a value into a window's contents, which are absent for its first.
    fn fold(&mut self, contents: &mut Option<A>, value: T);

    /// Takes the contents of a later pane or session into those of an earlier one.
    fn merge(&mut self, into: &mut A, from: A);

    /// Passes the result of a window on; its timestamp is the window's last.
    fn emit(&mut self, window: TimeWindow, contents: Contents<'_, A>);
}

/// A [`Host`] made of closures and a sink for timers.
#[derive(Debug)]
pub struct Hooks<'a, S, F, M, E> {
    /// Where timers are set.
    pub timers: &'a mut S,
    /// Takes a value into a window's contents.
    pub fold: F,
    /// Merges contents.
    pub merge: M,
    /// Passes results on.
    pub emit: E,
}

impl<S: TimerSink, F, M, E> TimerSink for Hooks<'_, S, F, M, E> {
    fn register(&mut self, domain: TimeDomain, time: i64) {
        self.timers.register(domain, time);
    }

    fn delete(&mut self, domain: TimeDomain, time: i64) {
        self.timers.delete(domain, time);
    }
}

impl<T, A, S, F, M, E> Host<T, A> for Hooks<'_, S, F, M, E>
where
    S: TimerSink,
    F: FnMut(&mut Option<A>, T),
    M: FnMut(&mut A, A),
    E: FnMut(TimeWindow, Contents<'_, A>),
{
    fn fold(&mut self, contents: &mut Option<A>, value: T) {
        (self.fold)(contents, value);
    }

    fn merge(&mut self, into: &mut A, from: A) {
        (self.merge)(into, from);
    }

    fn emit(&mut self, window: TimeWindow, contents: Contents<'_, A>) {
        (self.emit)(window, contents);
    }
}
