//! `write_as_text`: records as lines of text files.

use std::fmt::Display;
use std::path::Path;

use tidemill_dataflow::pipe::Pipe;
use tidemill_dataflow::runtime::sink::TextFormat;

use super::{DataStream, FileSink};

impl<P: Pipe> DataStream<P> {
    /// Writes each record's `Display` form on a line.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = std::env::temp_dir().join(format!("tidemill-doc-text-{}", std::process::id()));
    /// # let env = tidemill::Environment::from_args()?;
    /// env.from_collection(vec![1.5, 2.5]).set_parallelism(1).write_as_text(folder.join("numbers"));
    /// env.execute("numbers")?;
    /// assert_eq!(std::fs::read_to_string(folder.join("numbers"))?, "1.5\n2.5\n");
    /// # std::fs::remove_dir_all(folder)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn write_as_text(self, path: impl AsRef<Path>) -> FileSink
    where
        P::Out: Display,
    {
        self.end_in_files("Sink: text file", path.as_ref().to_owned(), Vec::new(), TextFormat)
    }
}
