//! A value that can be shared with a snapshot: whoever changes it then gets a copy.

use std::sync::Arc;

/// A value that belongs to one owner, or that a snapshot may have, too.
///
/// Which of both is a tag beside the value and no reference count: to change it costs no atomic instruction.
#[derive(Debug, Clone)]
pub enum CopyOnWrite<T> {
    /// Nobody else looks at it.
    Own(T),
    /// A snapshot has it, or has had it: it does not change.
    Shared(Arc<T>),
}

impl<T> CopyOnWrite<T> {
    /// The value.
    #[inline(always)]
    pub fn get(&self) -> &T {
        match self {
            Self::Own(value) => value,
            Self::Shared(value) => value,
        }
    }
}

impl<T: Default> CopyOnWrite<T> {
    /// The value as it is now, which later changes do not show in.
    pub fn share(&mut self) -> Arc<T> {
        let shared = match std::mem::take(self) {
            Self::Own(value) => Arc::new(value),
            Self::Shared(shared) => shared,
        };
        *self = Self::Shared(Arc::clone(&shared));
        shared
    }
}

impl<T: Default + Clone> CopyOnWrite<T> {
    /// The value, to be changed.
    #[inline(always)]
    pub fn get_mut(&mut self) -> &mut T {
        if let Self::Shared(_) = self {
            self.unshare();
        }
        match self {
            Self::Own(value) => value,
            Self::Shared(_) => unreachable!("it was made its owner's own"),
        }
    }

    #[cold]
    #[inline(never)]
    fn unshare(&mut self) {
        let value = self.take();
        *self = Self::Own(value);
    }

    /// The value for oneself; an empty one stays.
    pub fn take(&mut self) -> T {
        match std::mem::take(self) {
            Self::Own(value) => value,
            // A snapshot that is written by now has let go of it.
            Self::Shared(shared) => Arc::try_unwrap(shared).unwrap_or_else(|shared| (*shared).clone()),
        }
    }
}

impl<T: Default> Default for CopyOnWrite<T> {
    fn default() -> Self {
        Self::Own(T::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_stays_and_is_copied_only_while_it_is() {
        let mut value = CopyOnWrite::Own(vec![1]);
        let place = value.get().as_ptr();
        let (one, other) = (value.share(), value.share());
        value.get_mut().push(2);
        assert_eq!((value.get(), &*one, &*other), (&vec![1, 2], &vec![1], &vec![1]));
        assert_ne!(value.get().as_ptr(), place);
        let place = value.get().as_ptr();
        drop(value.share());
        assert_eq!(value.get_mut().as_ptr(), place);
        assert_eq!((value.take(), value.get()), (vec![1, 2], &Vec::new()));
    }
}
