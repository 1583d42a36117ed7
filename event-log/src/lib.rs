//! Writes the events of a server process to a file, one JSON object a line.
//!
//! The form of the lines is [`tidemill_model::event`]'s. Writing never holds up whoever has something to tell: a
//! record goes into a bounded queue, and one that finds it full is counted and left out.

#![deny(missing_docs)]

mod clock;
mod manifest;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

pub use manifest::{manifest_files, manifest_sha, state_sha};
use tidemill_model::event::{Event, EventProcess, EventRecord, EventRole};

/// Records that wait for the disk: a burst of applied commands and deployments fits in.
const QUEUE: usize = 16_384;

/// How long the end of a process waits for what has been queued.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Why events cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("write events in {}: {source}; make it a writable folder, or leave events.dir out", dir.display())]
pub struct Error {
    dir: PathBuf,
    source: io::Error,
}

/// Where a process writes what happens in it. Cheap to clone; the end of the last clone waits for the file.
#[derive(Debug, Clone, Default)]
pub struct EventLog {
    writer: Option<Arc<Writer>>,
}

#[derive(Debug)]
struct Writer {
    process: EventProcess,
    /// Present until dropped.
    queue: Option<SyncSender<EventRecord>>,
    /// Closes when the thread has ended.
    ended: Mutex<Receiver<()>>,
    lost: AtomicU64,
}

impl EventLog {
    /// One that writes nothing.
    #[must_use]
    pub fn off() -> Self {
        Self::default()
    }

    /// Opens a file for this process in `dir`, which is made if need be; none: writes nothing.
    ///
    /// # Errors
    ///
    /// When no file can be made there.
    pub fn open(dir: Option<&Path>, role: EventRole, name: &str) -> Result<Self, Error> {
        let Some(dir) = dir else { return Ok(Self::off()) };
        let process = EventProcess {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
            boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned(),
            role,
            name: name.to_owned(),
        };
        let log = Self::start(dir, process).map_err(|source| Error { dir: dir.to_owned(), source })?;
        log.write(|| Event::ProcessStart { version: env!("CARGO_PKG_VERSION").to_owned() });
        Ok(log)
    }

    fn start(dir: &Path, process: EventProcess) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join(file_name(&process));
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let (queue, records) = sync_channel(QUEUE);
        let (end, ended) = sync_channel(0);
        thread::Builder::new().name("event-log".to_owned()).spawn(move || {
            write_all(file, &path, &records);
            drop(end);
        })?;
        let ended = Mutex::new(ended);
        Ok(Self { writer: Some(Arc::new(Writer { process, queue: Some(queue), ended, lost: AtomicU64::new(0) })) })
    }

    /// Writes down what happened just now; `event` is not called when nobody wants to know.
    pub fn write(&self, event: impl FnOnce() -> Event) {
        if let Some(writer) = &self.writer {
            writer.write(event());
        }
    }

    /// Whether anything is written.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.writer.is_some()
    }
}

impl Writer {
    fn write(&self, event: Event) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 && !self.queue(Event::EventsLost { count: lost }) {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
        if !self.queue(event) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn queue(&self, event: Event) -> bool {
        let record = EventRecord {
            mono_ns: clock::monotonic_ns(),
            wall_ns: clock::wall_ns(),
            process: self.process.clone(),
            event,
        };
        let Some(queue) = &self.queue else { return true };
        match queue.try_send(record) {
            Err(TrySendError::Full(_)) => false,
            // The file is broken, which has been said.
            Ok(()) | Err(TrySendError::Disconnected(_)) => true,
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Ok(ended) = self.ended.get_mut() {
            // Nothing is ever sent: this waits for the thread's end.
            let _ = ended.recv_timeout(DRAIN_TIMEOUT);
        }
    }
}

/// A file for each start: a role, a name and a process id that no other process of the machine has now.
fn file_name(process: &EventProcess) -> String {
    let fits = |character: char| character.is_ascii_alphanumeric() || character == '-' || character == '_';
    let name: String = process.name.chars().map(|character| if fits(character) { character } else { '_' }).collect();
    format!("{}-{name}-{}.jsonl", process.role.name(), process.pid)
}

/// Writes line by line until nobody can send any more, or the file breaks, which is said once.
fn write_all(mut file: File, path: &Path, records: &Receiver<EventRecord>) {
    for record in records {
        let mut line = record.to_line();
        line.push('\n');
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::error!("write events to {}: {error}; no more are written", path.display());
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(dir: &Path) -> Vec<EventRecord> {
        let entry = std::fs::read_dir(dir).expect("a folder").next().expect("a file").expect("an entry");
        let text = std::fs::read_to_string(entry.path()).expect("text");
        text.lines().map(|line| EventRecord::parse(line).expect("a record")).collect()
    }

    #[test]
    fn events_are_written_in_order_and_before_the_log_ends() {
        let dir = tempfile::tempdir().expect("a folder");
        let log =
            EventLog::open(Some(&dir.path().join("events")), EventRole::Coordinator, "127.0.0.1:1").expect("open");
        for index in 0..100 {
            log.write(|| Event::GcDelete { path: index.to_string() });
        }
        drop(log);
        let records = lines(&dir.path().join("events"));
        assert!(matches!(records[0].event, Event::ProcessStart { .. }));
        let expected = (0..100).map(|index| Event::GcDelete { path: index.to_string() });
        assert!(records[1..].iter().map(|record| record.event.clone()).eq(expected));
        assert!(records.is_sorted_by_key(|record| record.mono_ns));
        assert_eq!(records[0].process.pid, std::process::id());
    }

    #[test]
    fn a_switched_off_log_asks_for_no_event() {
        let log = EventLog::open(None, EventRole::Coordinator, "c1").expect("off");
        assert!(!log.is_on());
        log.write(|| unreachable!("nobody wants to know"));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("write");
        let error = EventLog::open(Some(&file), EventRole::Coordinator, "c1").expect_err("a file is no folder");
        assert!(error.to_string().contains(&*file.to_string_lossy()), "{error}");
    }

    #[test]
    fn a_full_queue_loses_records_and_says_how_many() {
        let (queue, records) = sync_channel(2);
        let (_end, ended) = sync_channel(0);
        let process = EventProcess {
            host: String::new(),
            pid: 1,
            boot_id: String::new(),
            role: EventRole::TaskManager,
            name: String::new(),
        };
        let ended = Mutex::new(ended);
        let writer = Writer { process, queue: Some(queue), ended, lost: AtomicU64::new(0) };
        for index in 0..5 {
            writer.write(Event::GcDelete { path: index.to_string() });
        }
        let taken: Vec<EventRecord> = records.try_iter().collect();
        assert_eq!(taken.len(), 2);
        writer.write(Event::GcDelete { path: "last".to_owned() });
        let events: Vec<Event> = records.try_iter().map(|record| record.event).collect();
        assert_eq!(events, [Event::EventsLost { count: 3 }, Event::GcDelete { path: "last".to_owned() }]);
        drop(_end);
    }
}
