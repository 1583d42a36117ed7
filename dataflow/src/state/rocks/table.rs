//! The entries of one state in the store, and as they were at a barrier.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use rocksdb::{DB, Direction, IteratorMode, ReadOptions, WriteBatch};
use tidemill_model::key::{Key, KeyHash};
use tidemill_model::key_group::KeyGroup;

use super::key::{KEY_BYTES, end_of, hash_of, key};
use super::options::options;
use super::store::{BATCH_BYTES, FAMILY, RocksStore, write};
use crate::engine::snapshot::Form;
use crate::record::{self, Data, decode_value, encode_value};
use crate::runtime::sink::UserError;
use crate::state::cache::Disk;
use crate::state::frozen::encode_entries;
use crate::state::handed_over::HandedOver;
use crate::state::{FrozenState, StoredState};

/// How many entries are decoded together when a state is encoded as the heap does.
const ENTRIES_AT_ONCE: usize = 1024;

/// One state in the store of its sub-task.
pub(super) struct RocksTable<K, V> {
    store: Rc<RocksStore>,
    number: u32,
    batch: WriteBatch,
    keys: Vec<[u8; KEY_BYTES]>,
    /// What went wrong first.
    error: Option<UserError>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Data> RocksTable<K, V> {
    pub(super) fn new(store: Rc<RocksStore>, number: u32) -> Self {
        Self { store, number, batch: WriteBatch::default(), keys: Vec::new(), error: None, types: PhantomData }
    }

    #[cold]
    fn failed(&mut self, error: impl Into<UserError>) {
        self.error.get_or_insert(error.into());
    }

    fn write_batch(&mut self) {
        if let Err(error) = self.store.write(&mut self.batch) {
            self.failed(error);
        }
    }
}

impl<K: Key, V: Data> Disk<K, V> for RocksTable<K, V> {
    fn read(&mut self, hashes: &[KeyHash], found: &mut dyn FnMut(KeyHash, Vec<(K, V)>, usize)) {
        let store = Rc::clone(&self.store);
        let Some(family) = store.opened.db.cf_handle(FAMILY) else {
            return self.failed("RocksDB lost its column family");
        };
        self.keys.clear();
        self.keys.extend(hashes.iter().map(|hash| key(self.number, *hash)));
        let values = store.opened.db.batched_multi_get_cf(family, &self.keys, true);
        for (hash, value) in hashes.iter().zip(values) {
            match value {
                Ok(None) => {}
                Ok(Some(bytes)) => match decode_value(&bytes) {
                    Ok(entries) => found(*hash, entries, bytes.len()),
                    Err(error) => self.failed(error),
                },
                Err(error) => self.failed(super::store::database("read")(error)),
            }
        }
    }

    fn write(&mut self, hash: KeyHash, entries: &[(&K, &V)]) -> usize {
        let length = put(&mut self.batch, key(self.number, hash), entries).unwrap_or_else(|error| {
            self.failed(error);
            0
        });
        if self.batch.size_in_bytes() >= BATCH_BYTES {
            self.write_batch();
        }
        length
    }

    fn commit(&mut self) {
        self.write_batch();
    }

    fn scan(&mut self, from: KeyHash, count: usize, found: &mut dyn FnMut(KeyHash, Vec<(K, V)>)) -> Option<KeyHash> {
        self.settle();
        let store = Rc::clone(&self.store);
        let mut left = count;
        let mut failed = None;
        let mut next = None;
        let mut each = |hash, entries| {
            if left == 0 {
                next = Some(hash);
                return false;
            }
            left -= 1;
            found(hash, entries);
            true
        };
        for_each_entry(&store.opened.db, self.number, (from, None), &mut each)
            .unwrap_or_else(|error| failed = Some(error));
        if let Some(error) = failed {
            self.failed(error);
            return None;
        }
        next
    }

    fn clear(&mut self) {
        self.batch.delete_range(key(self.number, KeyHash(0)).to_vec(), end_of(self.number));
        self.write_batch();
    }

    fn check(&mut self) -> Result<(), UserError> {
        self.error.take().map_or(Ok(()), Err)
    }

    fn freeze(&mut self, changed: HandedOver<K, V>) -> Box<dyn FrozenState> {
        // Nobody may have asked for the files of the barrier before yet.
        if let Err(error) = self.store.settle_passed() {
            self.failed(error);
        }
        let (range, number, opened) = (&self.store.range.0, self.number, Arc::clone(&self.store.opened));
        let files = self.store.passing();
        files.add(Box::new(move || write_back(&opened.db, number, changed).map_err(|error| error.to_string())));
        Box::new(FrozenRocks {
            stored: StoredState { number, files },
            groups: range.clone().map(KeyGroup).collect(),
            max_parallelism: self.store.max_parallelism,
            version: self.store.barriers(),
            opened: RefCell::new(None),
            types: PhantomData::<fn() -> (K, V)>,
        })
    }

    fn settle(&mut self) {
        if let Err(error) = self.store.settle() {
            self.failed(error);
        }
    }

    fn is_settled(&self) -> bool {
        self.store.is_settled()
    }
}

/// Adds the entries of a hash to a batch; answers how many bytes they take.
fn put<K: Key, V: Data>(
    batch: &mut WriteBatch,
    key: [u8; KEY_BYTES],
    entries: &[(&K, &V)],
) -> Result<usize, record::Error> {
    if entries.is_empty() {
        batch.delete(key);
        return Ok(0);
    }
    let bytes = encode_value::<&[(&K, &V)]>(&entries)?;
    batch.put(key, &bytes);
    Ok(bytes.len())
}

/// Writes what a state had changed by a barrier.
fn write_back<K: Key, V: Data>(db: &DB, number: u32, changed: HandedOver<K, V>) -> Result<(), UserError> {
    let mut batch = WriteBatch::default();
    changed.try_for_each(|hash, entries| {
        let length = put(&mut batch, key(number, hash), entries)?;
        if batch.size_in_bytes() >= BATCH_BYTES {
            write(db, &mut batch)?;
        }
        Ok::<_, UserError>(length)
    })?;
    Ok(write(db, &mut batch)?)
}

/// Shows the entries of each hash of a state in a range, whose end may be that of the state, until `each` says no.
fn for_each_entry<K: Key, V: Data>(
    db: &DB,
    number: u32,
    (from, end): (KeyHash, Option<KeyHash>),
    each: &mut dyn FnMut(KeyHash, Vec<(K, V)>) -> bool,
) -> Result<(), UserError> {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(end.map_or_else(|| end_of(number), |end| key(number, end).to_vec()));
    for entry in db.iterator_opt(IteratorMode::From(&key(number, from), Direction::Forward), options) {
        let (key, value) = entry.map_err(super::store::database("read"))?;
        let hash = hash_of(&key).ok_or("RocksDB has a key that is none of a state")?;
        if !each(hash, decode_value(&value)?) {
            break;
        }
    }
    Ok(())
}

/// One state as it was at a barrier: in the files that were set aside, from which it can be had as the heap writes it.
struct FrozenRocks<K, V> {
    stored: StoredState,
    groups: Vec<KeyGroup>,
    max_parallelism: u32,
    version: u64,
    opened: RefCell<Option<DB>>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Data> FrozenRocks<K, V> {
    fn encode_group(&self, group: KeyGroup, form: Form, section: &mut Vec<u8>) -> Result<u64, UserError> {
        let mut opened = self.opened.borrow_mut();
        let db = match &*opened {
            Some(db) => db,
            None => {
                let files = self.stored.files.files()?;
                let db = DB::open_cf_for_read_only(&options(BATCH_BYTES), files.folder(), [FAMILY], false);
                opened.insert(db.map_err(super::store::database("open"))?)
            }
        };
        let end = KeyGroup(group.0 + 1);
        let end = (end.0 < self.max_parallelism).then(|| end.first_hash(self.max_parallelism));
        let (mut waiting, mut count, mut failed) = (Vec::new(), 0, None);
        let mut flush = |waiting: &mut Vec<(K, V)>| {
            count += encode_entries(waiting.iter().map(|(key, value)| (key, value)), form, section)?;
            waiting.clear();
            Ok::<(), record::Error>(())
        };
        for_each_entry(db, self.stored.number, (group.first_hash(self.max_parallelism), end), &mut |_, entries| {
            waiting.extend(entries);
            if waiting.len() >= ENTRIES_AT_ONCE {
                failed = flush(&mut waiting).err();
            }
            failed.is_none()
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        flush(&mut waiting)?;
        Ok(count)
    }
}

impl<K: Key, V: Data> FrozenState for FrozenRocks<K, V> {
    fn groups(&self) -> Vec<(KeyGroup, u64)> {
        self.groups.iter().map(|group| (*group, self.version)).collect()
    }

    fn encode(&self, index: usize, form: Form, section: &mut Vec<u8>) -> Result<u64, record::Error> {
        self.encode_group(self.groups[index], form, section).map_err(|error| record::Error::Decode {
            record_type: std::any::type_name::<(K, V)>(),
            reason: error.to_string(),
        })
    }

    fn stored(&self) -> Option<&StoredState> {
        Some(&self.stored)
    }
}
