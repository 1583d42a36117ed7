//! `write_as_json`: records as JSON values, one a line.

use std::path::Path;

use serde::Serialize;
use tidemill_dataflow::format::JsonLines;
use tidemill_dataflow::pipe::Pipe;

use super::{DataStream, FileSink};

impl<P: Pipe> DataStream<P> {
    /// Writes each record as a JSON value on a line.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = std::env::temp_dir().join(format!("tidemill-doc-json-{}", std::process::id()));
    /// # let env = tidemill::Environment::from_args()?;
    /// let pairs = env.from_collection(vec![("a".to_owned(), 1), ("b".to_owned(), 2)]).set_parallelism(1);
    /// pairs.write_as_json(folder.join("pairs"));
    /// env.execute("pairs")?;
    /// assert_eq!(std::fs::read_to_string(folder.join("pairs"))?, "[\"a\",1]\n[\"b\",2]\n");
    /// # std::fs::remove_dir_all(folder)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn write_as_json(self, path: impl AsRef<Path>) -> FileSink
    where
        P::Out: Serialize,
    {
        self.end_in_files("Sink: JSON file", path.as_ref().to_owned(), Vec::new(), JsonLines)
    }
}
