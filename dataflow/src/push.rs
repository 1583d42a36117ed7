//! The inner form of a chain: each operator pushes into the next, and the compiler makes one loop of it.

use std::cell::RefCell;
use std::rc::Rc;

use serde::Serialize;

use crate::record::{Batch, Control, NO_TIME, Timestamp};
use crate::record_text::record_text;

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

/// Whose user code panicked, on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blamed {
    pub(crate) operator: Rc<str>,
    /// The record as text, when the code only looked at it.
    pub(crate) record: Option<String>,
}

thread_local! {
    /// Whose user code is unwinding this thread.
    static BLAMED: RefCell<Option<Blamed>> = const { RefCell::new(None) };
}

thread_local! {
    /// The record that the code that is unwinding this thread has taken.
    static SHOWN: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The innermost blame stands.
#[cold]
fn set_blamed(operator: &Rc<str>, record: impl FnOnce() -> Option<String>) {
    if BLAMED.with(|blamed| blamed.borrow().is_none()) {
        let record = record().or_else(|| SHOWN.with(|shown| shown.borrow_mut().take()));
        let blame = Blamed { operator: Rc::clone(operator), record };
        BLAMED.with(|blamed| *blamed.borrow_mut() = Some(blame));
    }
}

/// Names the operator when it is dropped by a panic; forgotten otherwise.
struct Blame<'a>(&'a Rc<str>);

impl Drop for Blame<'_> {
    #[cold]
    fn drop(&mut self) {
        set_blamed(self.0, || None);
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

/// Names the operator, and shows the record, when it is dropped by a panic; forgotten otherwise.
struct BlameOn<'a, T: Serialize>(&'a Rc<str>, &'a T);

impl<T: Serialize> Drop for BlameOn<'_, T> {
    #[cold]
    fn drop(&mut self) {
        set_blamed(self.0, || Some(record_text(self.1)));
    }
}

/// Calls user code that only looks at `record`, so that a panic in it is attributed to `operator` and this record.
///
/// It costs as little as [`blame`]: the record becomes text in the unwinding path only.
#[inline(always)]
pub(crate) fn blame_on<T: Serialize, R>(operator: &Rc<str>, record: &T, user_code: impl FnOnce() -> R) -> R {
    let guard = BlameOn(operator, record);
    let result = user_code();
    std::mem::forget(guard);
    result
}

/// The largest record of which a copy is kept while user code has it.
const KEPT_BYTES: usize = 64;

/// Shows the record when it is dropped by a panic; forgotten otherwise.
struct Shown<'a, T: Serialize>(&'a T);

impl<T: Serialize> Drop for Shown<'_, T> {
    #[cold]
    fn drop(&mut self) {
        SHOWN.with(|shown| *shown.borrow_mut() = Some(record_text(self.0)));
    }
}

/// Calls user code that takes `record`, within [`blame`], so that a panic in it shows the record, if it can be had for
/// nothing: a copy of a small record that owns no memory is needed in the unwinding path only. A record that owns
/// memory is gone with the code that took it.
#[inline(always)]
pub(crate) fn showing<T: Clone + Serialize, R>(record: T, user_code: impl FnOnce(T) -> R) -> R {
    if std::mem::needs_drop::<T>() || size_of::<T>() > KEPT_BYTES {
        return user_code(record);
    }
    let kept = record.clone();
    let guard = Shown(&kept);
    let result = user_code(record);
    std::mem::forget(guard);
    result
}

/// What the last panic on this thread was attributed to.
pub(crate) fn take_blamed() -> Option<Blamed> {
    BLAMED.with(|blamed| blamed.borrow_mut().take())
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
        assert_eq!(take_blamed(), Some(Blamed { operator: Rc::clone(&inner), record: None }));
        assert_eq!(take_blamed(), None);
        blame(&outer, || ());
        blame_on(&outer, &1, || ());
        assert_eq!(take_blamed(), None);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            blame(&outer, || blame_on(&inner, &("word", 7), || std::panic::resume_unwind(Box::new("on purpose"))))
        }));
        let _: Result<(), _> = result;
        assert_eq!(take_blamed(), Some(Blamed { operator: inner, record: Some("(\"word\", 7)".to_owned()) }));
    }

    #[test]
    fn a_record_that_was_taken_is_shown_if_it_owns_no_memory() {
        fn record_of<T: Clone + Serialize>(record: T) -> Option<String> {
            let operator: Rc<str> = "operator".into();
            let user_code = |_: T| std::panic::resume_unwind(Box::new("on purpose"));
            let result: Result<(), _> = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                blame(&operator, || showing(record, user_code))
            }));
            assert!(result.is_err());
            take_blamed().and_then(|blamed| blamed.record)
        }
        assert_eq!(record_of((1u64, 'a')).as_deref(), Some("(1, 'a')"));
        assert_eq!(record_of("owned".to_owned()), None);
        assert_eq!(record_of([0u64; 9]), None);
        assert_eq!(showing(7, |number| number + 1), 8);
    }
}
