//! The inner form of a chain: each operator pushes into the next, and the compiler makes one loop of it.

use std::cell::RefCell;
use std::rc::Rc;

use crate::record::{Batch, Control, NO_TIME, Timestamp};

/// The task was stopped, by a cancellation or a failure; its [`TaskContext`](crate::runtime::task::TaskContext)
/// keeps the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// Takes records of one type with their event times, and control between them.
///
/// # To ensure correctness
///
/// - Control is passed on after everything that the records before it caused.
/// - After `Control::EndOfInput` nothing is pushed.
pub trait Push<T> {
    /// Takes one record; its time is [`NO_TIME`] when it was given none.
    ///
    /// # Errors
    /// The task was stopped: the caller returns at once.
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped>;

    /// Takes a batch and leaves it empty, for reuse.
    ///
    /// # Errors
    /// The task was stopped.
    #[inline]
    fn push_batch(&mut self, batch: &mut Batch<T>) -> Result<(), Stopped> {
        if batch.times.is_empty() {
            return batch.records.drain(..).try_for_each(|record| self.push(record, NO_TIME));
        }
        let times = batch.times.drain(..);
        batch.records.drain(..).zip(times).try_for_each(|(record, time)| self.push(record, time))
    }

    /// Takes control.
    ///
    /// # Errors
    /// The task was stopped.
    fn control(&mut self, control: Control) -> Result<(), Stopped>;

    /// The task has run out of input for the moment: whatever is held back to fill a batch goes out now.
    ///
    /// # Errors
    /// The task was stopped.
    fn flush(&mut self) -> Result<(), Stopped>;
}

thread_local! {
    /// The operator whose user code is unwinding this thread.
    static BLAMED: RefCell<Option<Rc<str>>> = const { RefCell::new(None) };
}

/// Names the operator when it is dropped by a panic; forgotten otherwise.
struct Blame<'a>(&'a Rc<str>);

impl Drop for Blame<'_> {
    #[cold]
    fn drop(&mut self) {
        BLAMED.with(|blamed| {
            blamed.borrow_mut().get_or_insert_with(|| Rc::clone(self.0));
        });
    }
}

/// Calls user code, so that a panic in it is attributed to `operator`.
///
/// It costs nothing on the way through: the guard exists in the unwinding path only, where the compiler has a
/// landing pad for the record anyway.
#[inline(always)]
pub(crate) fn blame<R>(operator: &Rc<str>, user_code: impl FnOnce() -> R) -> R {
    let guard = Blame(operator);
    let result = user_code();
    std::mem::forget(guard);
    result
}

/// The operator that the last panic on this thread was attributed to.
pub(crate) fn take_blamed() -> Option<String> {
    BLAMED.with(|blamed| blamed.borrow_mut().take()).map(|name| name.as_ref().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_blamed_on_the_innermost_operator_whose_code_ran() {
        let (outer, inner): (Rc<str>, Rc<str>) = ("outer".into(), "inner".into());
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            blame(&outer, || blame(&inner, || std::panic::resume_unwind(Box::new("on purpose"))))
        }));
        let _: Result<(), _> = result;
        assert_eq!(take_blamed().as_deref(), Some("inner"));
        assert_eq!(take_blamed(), None);
        blame(&outer, || ());
        assert_eq!(take_blamed(), None);
    }
}
