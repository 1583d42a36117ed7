//! `write_as_csv`: records as delimited text files.

use std::path::Path;

use serde::Serialize;
use tidemill_dataflow::pipe::Pipe;
use tidemill_dataflow::runtime::sink::CsvFormat;

use super::{DataStream, FileSink};

impl<P: Pipe> DataStream<P> {
    /// Writes each record's fields, with `field_delimiter` between them and `row_delimiter` behind each record.
    ///
    /// A field is a primitive of the record's serde form; nested records are flattened, `None` is empty. As in
    /// Flink's `writeAsCsv` nothing is quoted: choose delimiters that do not occur in the fields.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = std::env::temp_dir().join(format!("tidemill-doc-csv-{}", std::process::id()));
    /// # let env = tidemill::Environment::from_args()?;
    /// let pairs = env.from_collection(vec![("a".to_owned(), 1), ("b".to_owned(), 2)]).set_parallelism(1);
    /// pairs.write_as_csv(folder.join("pairs"), "\n", ",");
    /// env.execute("pairs")?;
    /// assert_eq!(std::fs::read_to_string(folder.join("pairs"))?, "a,1\nb,2\n");
    /// # std::fs::remove_dir_all(folder)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn write_as_csv(self, path: impl AsRef<Path>, row_delimiter: &str, field_delimiter: &str) -> FileSink
    where
        P::Out: Serialize,
    {
        let (row_delimiter, field_delimiter) = (row_delimiter.to_owned(), field_delimiter.to_owned());
        let parameters = vec![format!("delimiters {row_delimiter:?} {field_delimiter:?}")];
        let format = CsvFormat { row_delimiter, field_delimiter };
        self.end_in_files("Sink: CSV file", path.as_ref().to_owned(), parameters, format)
    }
}
