//! What a cache asks of the disk behind it.

use tidemill_model::key::KeyHash;

use crate::runtime::sink::UserError;
use crate::state::FrozenState;
use crate::state::handed_over::HandedOver;

/// The entries of one state on disk, by the hashes of their keys.
///
/// # To ensure correctness
///
/// - What was written is read, after [`commit`](Self::commit) at the latest.
/// - What was handed over by [`freeze`](Self::freeze) is read after [`settle`](Self::settle).
/// - What is written after it does not show in it.
/// - A failure is remembered and told by [`check`](Self::check); until then nothing is found.
pub(crate) trait Disk<K, V>: 'static {
    /// Shows the entries of those of these hashes (ascending) that have any, and how many bytes they take.
    fn read(&mut self, hashes: &[KeyHash], found: &mut dyn FnMut(KeyHash, Vec<(K, V)>, usize));

    /// Gives a hash these entries and no others; answers how many bytes they take.
    fn write(&mut self, hash: KeyHash, entries: &[(&K, &V)]) -> usize;

    /// Has everything that was written seen.
    fn commit(&mut self);

    /// Shows the entries of this many hashes, from one on; answers where to go on, unless the end was reached.
    fn scan(&mut self, from: KeyHash, count: usize, found: &mut dyn FnMut(KeyHash, Vec<(K, V)>)) -> Option<KeyHash>;

    /// Takes everything away.
    fn clear(&mut self);

    /// Whether everything could be read and written since the last time.
    ///
    /// # Errors
    /// Why not.
    fn check(&mut self) -> Result<(), UserError>;

    /// Everything that was committed, together with what has been changed since.
    fn freeze(&mut self, changed: HandedOver<K, V>) -> Box<dyn FrozenState>;

    /// Has everything written that was handed over; it may take long.
    fn settle(&mut self);

    /// Whether [`settle`](Self::settle) has nothing to do.
    fn is_settled(&self) -> bool;
}
