//! `read_text_file` and `watch_text_files`: the lines of text files.

use std::path::Path;
use std::time::Duration;

use tidemill_dataflow::runtime::source::{FileSplits, FromSplits, NoTimes, TextSource};

use super::DataStream;
use crate::environment::Environment;

impl Environment {
    /// A stream of the lines of a file, or of all files in a folder and its sub-folders, without their line ends.
    ///
    /// Files are cut into byte ranges, which the sub-tasks share, so one large file is read in parallel. Files and
    /// folders whose names begin with `.` or `_` are left out. Bytes that are no UTF-8 become U+FFFD; a line may have
    /// up to 64 MiB. A path that does not exist fails the job. On a cluster the path must mean the same files on all
    /// task managers.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let path = std::env::temp_dir().join(format!("tidemill-doc-text-file-{}", std::process::id()));
    /// # let env = tidemill::Environment::from_args()?;
    /// std::fs::write(&path, "one\ntwo\n")?;
    /// let lines = env.read_text_file(&path).set_parallelism(1).collect();
    /// assert_eq!(env.execute("lines")?.collected(&lines)?, ["one", "two"]);
    /// # std::fs::remove_file(path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_text_file(&self, path: impl AsRef<Path>) -> DataStream<FromSplits<TextSource, NoTimes>> {
        let path = path.as_ref().to_owned();
        let parameters = vec![format!("input {}", path.display())];
        self.split_source("Source: text file", parameters, TextSource::new(FileSplits::once(path)), NoTimes)
    }

    /// A stream of the lines of all files in a folder and its sub-folders, and of those that appear there later: the
    /// folder is looked at every `interval`. It does not end by itself, so the job runs in streaming mode.
    ///
    /// A file is read once, as it is when it is first seen: write it elsewhere, or under a name that begins with `.`
    /// or `_`, and rename it when it is complete. Otherwise it is as
    /// [`read_text_file`](Self::read_text_file). After a failure all files that are there are read again.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = std::env::temp_dir().join(format!("tidemill-doc-watch-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # let env = tidemill::Environment::with_arguments(["-D", "restart-strategy.type=none"])?;
    /// use std::time::Duration;
    ///
    /// std::fs::write(folder.join("first"), "more to come\n")?;
    /// let inbox = folder.clone();
    /// env.watch_text_files(&folder, Duration::from_millis(10)).set_parallelism(1).for_each(move |line| {
    ///     assert_eq!(line, "more to come", "this fails, and so ends, the job");
    ///     std::fs::write(inbox.join(".second"), "that was all\n").expect("a writable folder");
    ///     std::fs::rename(inbox.join(".second"), inbox.join("second")).expect("a writable folder");
    /// });
    /// let error = env.execute("watch").err().expect("it ends in no other way");
    /// assert!(error.to_string().contains("that was all"), "{error}");
    /// # std::fs::remove_dir_all(folder)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch_text_files(
        &self,
        folder: impl AsRef<Path>,
        interval: Duration,
    ) -> DataStream<FromSplits<TextSource, NoTimes>> {
        let folder = folder.as_ref().to_owned();
        let parameters = vec![format!("watched folder {} every {interval:?}", folder.display())];
        let source = TextSource::new(FileSplits::watched(folder, interval));
        self.split_source("Source: watched text files", parameters, source, NoTimes)
    }
}
