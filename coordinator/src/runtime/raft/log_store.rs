//! Openraft's log and vote in RocksDB: an append is answered after its fsync.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use openraft::OptionalSend;
use openraft::entry::RaftEntry;
use openraft::storage::{RaftLogReader, RaftLogStorage};
use rocksdb::{Direction, IteratorMode, WriteBatch};
use tidemill_failpoint::FailPoint;

use super::format::{self, DurableEntry, DurableLogId, DurableVote};
use super::recent_entries::RecentEntries;
use super::storage::{LOG, META, Pending, Storage};
use super::types::{Entry, IoFlushed, LogId, LogState, TypeConfig, Vote};

const VOTE: &str = "vote";
const PURGED: &str = "purged";

/// The log half of a replica's storage.
#[derive(Debug, Clone)]
pub(crate) struct LogStore {
    storage: Storage,
    /// What followers and the state machine are about to ask for.
    recent: RecentEntries,
}

impl LogStore {
    pub(crate) fn new(storage: Storage) -> Self {
        Self { storage, recent: RecentEntries::default() }
    }

    /// Reads the whole log before it is used: every entry is sound, and none is missing between what a snapshot holds
    /// and what is known to be committed. A log with a hole would vote for less than it had promised.
    pub(crate) fn verify(&self, snapshot_index: Option<u64>) -> io::Result<()> {
        let purged = self.log_id(PURGED)?.map(|id| id.index());
        let mut last = purged;
        let family = self.storage.family(LOG);
        for item in self.storage.database().iterator_cf(&family, IteratorMode::Start) {
            let (key, value) = item.map_err(|error| self.storage.failed("read log", &error))?;
            let index = self.entry(&key, &value)?.index();
            let expected = last.map_or(0, |last| last + 1);
            // Entries up to the purge marker may outlive a crash right after it was written.
            if index > expected {
                return Err(self.missing(expected));
            }
            last = last.max(Some(index));
        }
        let held = last.max(snapshot_index);
        let promised = self.storage.committed()?.map(|id| id.index).max(purged);
        if promised > held {
            return Err(self.missing(held.map_or(0, |held| held + 1)));
        }
        if purged > snapshot_index {
            return Err(self.missing(snapshot_index.map_or(0, |index| index + 1)));
        }
        Ok(())
    }

    fn missing(&self, index: u64) -> io::Error {
        self.storage.damaged(LOG, index, &format::Error::Missing { what: "log entry" })
    }

    fn entry(&self, key: &[u8], value: &[u8]) -> io::Result<Entry> {
        let index = self.index(key)?;
        let damaged = |error: &format::Error| self.storage.damaged(LOG, index, error);
        let entry: DurableEntry = format::open("log entry", value).map_err(|error| damaged(&error))?;
        let entry = entry.restore().map_err(|error| damaged(&error))?;
        if entry.log_id.index() == index {
            return Ok(entry);
        }
        Err(damaged(&format::Error::Checksum { what: "log entry under another's key", length: value.len() }))
    }

    fn index(&self, key: &[u8]) -> io::Result<u64> {
        key.try_into().map(u64::from_be_bytes).map_err(|_| {
            let error = format::Error::Checksum { what: "key of the log", length: key.len() };
            self.storage.damaged(LOG, format!("{key:02x?}"), &error)
        })
    }

    fn log_id(&self, key: &'static str) -> io::Result<Option<LogId>> {
        Ok(self.storage.get::<DurableLogId>(key, key)?.map(LogId::from))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        if let Some(entries) = self.recent.read(start, |index| range.contains(&index)) {
            return Ok(entries);
        }
        let mut entries: Vec<Entry> = Vec::new();
        let mode = IteratorMode::From(&start.to_be_bytes(), Direction::Forward);
        let family = self.storage.family(LOG);
        for item in self.storage.database().iterator_cf(&family, mode) {
            let (key, value) = item.map_err(|error| self.storage.failed("read log", &error))?;
            if !range.contains(&self.index(&key)?) {
                break;
            }
            entries.push(self.entry(&key, &value)?);
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.storage.get::<DurableVote>(VOTE, VOTE)?.map(Vote::from))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState, io::Error> {
        let last_purged_log_id = self.log_id(PURGED)?;
        let family = self.storage.family(LOG);
        let last = self.storage.database().iterator_cf(&family, IteratorMode::End).next().transpose();
        let last = last.map_err(|error| self.storage.failed("read end of log", &error))?;
        let last = last.map(|(key, value)| self.entry(&key, &value)).transpose()?;
        Ok(LogState { last_purged_log_id, last_log_id: last.map(|entry| entry.log_id()).or(last_purged_log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let mut batch = WriteBatch::default();
        batch.put_cf(&self.storage.family(META), VOTE, format::seal(&DurableVote::from(vote)));
        self.storage.write_committed_with(&mut batch);
        let written = self.storage.database().write(batch);
        written.map_err(|error| self.storage.failed("write vote", &error))?;
        FailPoint::RaftVotePreSync.check()?;
        self.storage.synced().await?;
        FailPoint::RaftVotePostSync.check()
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.storage.note_committed(committed.into());
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.storage.committed()?.map(LogId::from))
    }

    /// Entries are readable when this returns, and durable when `callback` is called.
    async fn append<I>(&mut self, entries: I, callback: IoFlushed) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        {
            let mut batch = WriteBatch::default();
            let family = self.storage.family(LOG);
            let mut appended = Vec::new();
            for entry in entries {
                let sealed = format::seal(&DurableEntry::from(&entry));
                batch.put_cf(&family, entry.index().to_be_bytes(), &sealed);
                appended.push((entry, sealed.len()));
            }
            self.storage.write_committed_with(&mut batch);
            self.storage.database().write(batch).map_err(|error| self.storage.failed("append to log", &error))?;
            self.recent.append(appended);
        }
        self.storage.sync(Pending::Append(callback))
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let from = last_log_id.map_or(0, |last| last.index() + 1);
        self.recent.truncate(from);
        let family = self.storage.family(LOG);
        let deleted = self.storage.database().delete_range_cf(&family, from.to_be_bytes(), u64::MAX.to_be_bytes());
        deleted.map_err(|error| self.storage.failed("truncate log", &error))
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.recent.purge(log_id.index());
        let mut batch = WriteBatch::default();
        batch.put_cf(&self.storage.family(META), PURGED, format::seal(&DurableLogId::from(log_id)));
        let upto = (log_id.index() + 1).to_be_bytes();
        batch.delete_range_cf(&self.storage.family(LOG), 0_u64.to_be_bytes(), upto);
        self.storage.database().write(batch).map_err(|error| self.storage.failed("purge log", &error))
    }
}
