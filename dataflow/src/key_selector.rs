//! How a record's key is found: computed anew, or borrowed from the record.

use std::borrow::Borrow;

use tidemill_model::key::Key;

/// Finds the key of records of type `T`.
pub trait KeySelector<T>: Clone + Send + Sync + 'static {
    /// The key.
    type Key: Key;
    /// The key as it is found in a record.
    type Found<'a>: Borrow<Self::Key>
    where
        T: 'a;

    /// The record's key.
    fn select<'a>(&mut self, record: &'a T) -> Self::Found<'a>;

    /// The key, to be kept.
    fn into_key(found: Self::Found<'_>) -> Self::Key;
}

/// Computes the key with a closure.
#[derive(Clone)]
pub struct ComputedKey<F, K> {
    function: F,
    key: std::marker::PhantomData<fn() -> K>,
}

impl<F, K> ComputedKey<F, K> {
    /// The selector that calls `function`.
    pub fn new(function: F) -> Self {
        Self { function, key: std::marker::PhantomData }
    }
}

impl<T: 'static, K: Key, F> KeySelector<T> for ComputedKey<F, K>
where
    F: FnMut(&T) -> K + Clone + Send + Sync + 'static,
{
    type Key = K;
    type Found<'a> = K;

    #[inline(always)]
    fn select(&mut self, record: &T) -> K {
        (self.function)(record)
    }

    #[inline(always)]
    fn into_key(found: K) -> K {
        found
    }
}

/// Borrows the key from the record, so that only a key seen for the first time is copied.
#[derive(Clone)]
pub struct BorrowedKey<F, K> {
    function: F,
    key: std::marker::PhantomData<fn() -> K>,
}

impl<F, K> BorrowedKey<F, K> {
    /// The selector that calls `function`.
    pub fn new(function: F) -> Self {
        Self { function, key: std::marker::PhantomData }
    }
}

impl<T: 'static, K: Key, F> KeySelector<T> for BorrowedKey<F, K>
where
    F: FnMut(&T) -> &K + Clone + Send + Sync + 'static,
{
    type Key = K;
    type Found<'a> = &'a K;

    #[inline(always)]
    fn select<'a>(&mut self, record: &'a T) -> &'a K {
        (self.function)(record)
    }

    #[inline(always)]
    fn into_key(found: &K) -> K {
        found.clone()
    }
}
