//! `read_text_file`: the lines of text files.

use std::path::Path;

use tidemill_dataflow::pipe::FromSource;
use tidemill_dataflow::runtime::source::TextSource;

use super::DataStream;
use crate::environment::Environment;

impl Environment {
    /// A stream of the lines of a file, or of all files in a folder and its sub-folders, without their line ends.
    ///
    /// Each sub-task reads an equal share of the bytes, so one large file is read in parallel. Files and folders whose
    /// names begin with `.` or `_` are left out. Bytes that are no UTF-8 become U+FFFD; a line may have up to 64 MiB.
    /// A path that does not exist fails the job. On a cluster the path must mean the same files on all task managers.
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
    pub fn read_text_file(&self, path: impl AsRef<Path>) -> DataStream<FromSource<TextSource>> {
        let path = path.as_ref().to_owned();
        let parameters = vec![format!("input {}", path.display())];
        self.source("Source: text file", parameters, |operator| TextSource::new(path, operator))
    }
}
