//! Keys of the store, and the hashes that they are made of.

use tidemill_model::key::KeyHash;

/// The bytes of a key.
pub(super) const KEY_BYTES: usize = 12;

/// The key of a hash in a state.
pub(super) fn key(state: u32, hash: KeyHash) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..4].copy_from_slice(&state.to_be_bytes());
    key[4..].copy_from_slice(&hash.0.to_be_bytes());
    key
}

/// The hash in a key; none: this program wrote no such key.
pub(super) fn hash_of(key: &[u8]) -> Option<KeyHash> {
    let (_, hash) = key.split_first_chunk::<4>()?;
    Some(KeyHash(u64::from_be_bytes(hash.try_into().ok()?)))
}

/// What is behind every key of a state.
pub(super) fn end_of(state: u32) -> Vec<u8> {
    match state.checked_add(1) {
        Some(next) => next.to_be_bytes().to_vec(),
        None => vec![u8::MAX; KEY_BYTES + 1],
    }
}
