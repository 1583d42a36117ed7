//! `read_csv` and `read_json_lines`: records in text files, a line each.

use std::path::Path;

use tidemill_dataflow::format::{BadRecord, CsvLines, JsonLines, LineFormat};
use tidemill_dataflow::function::OutputTag;
use tidemill_dataflow::record::Data;
use tidemill_dataflow::runtime::counter::Counter;
use tidemill_dataflow::runtime::source::{BadRecords, FileSplits, FromSplits, NoTimes, RecordSource};

use super::DataStream;
use crate::environment::Environment;

/// Methods that the options of all formats have, with an example each.
macro_rules! line_options {
    ($options:ident) => {
        impl $options {
            /// Leaves out lines that are no record, and counts them; by default the first one fails the job.
            ///
            /// ```
            /// # fn main() -> Result<(), tidemill::Error> {
            /// # let env = tidemill::Environment::from_args()?;
            #[doc = concat!("let options = tidemill::", stringify!($options), "::default();")]
            /// let options = options.skip_bad_records(env.counter("bad lines"));
            /// # let _ = options;
            /// # Ok(())
            /// # }
            /// ```
            #[must_use]
            pub fn skip_bad_records(mut self, counter: Counter) -> Self {
                self.bad = BadRecords::Skip(counter);
                self
            }

            /// Sends lines that are no record to a side output of the source, with what is wrong with them.
            ///
            /// ```
            /// use tidemill::{BadRecord, OutputTag};
            ///
            /// let tag = OutputTag::<BadRecord>::new("bad lines");
            #[doc = concat!("let options = tidemill::", stringify!($options), "::default().divert_bad_records(&tag);")]
            /// # let _ = options;
            /// ```
            #[must_use]
            pub fn divert_bad_records(mut self, tag: &OutputTag<BadRecord>) -> Self {
                self.bad = BadRecords::Divert(tag.clone());
                self
            }

            /// The most bytes of a line, 64 MiB at most and by default; a longer one is no record.
            ///
            /// ```
            #[doc = concat!("let options = tidemill::", stringify!($options), "::default().max_line_bytes(1 << 20);")]
            /// # let _ = options;
            /// ```
            #[must_use]
            pub fn max_line_bytes(mut self, bytes: u64) -> Self {
                self.bytes_max = Some(bytes);
                self
            }
        }
    };
}

/// How CSV files are read.
///
/// ```
/// let options = tidemill::CsvOptions::default().header(true).delimiter(';');
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
pub struct CsvOptions {
    lines: CsvLines,
    bad: BadRecords,
    bytes_max: Option<u64>,
}

impl Default for CsvOptions {
    /// Commas, and no header.
    fn default() -> Self {
        Self { lines: CsvLines { delimiter: ',', header: false }, bad: BadRecords::Fail, bytes_max: None }
    }
}

impl CsvOptions {
    /// Whether the first line of each file names the fields: then those of a struct are found by their names, in any
    /// order, else by their places.
    ///
    /// ```
    /// let options = tidemill::CsvOptions::default().header(true);
    /// # let _ = options;
    /// ```
    #[must_use]
    pub fn header(mut self, header: bool) -> Self {
        self.lines.header = header;
        self
    }

    /// What stands between two fields.
    ///
    /// ```
    /// let options = tidemill::CsvOptions::default().delimiter('\t');
    /// # let _ = options;
    /// ```
    #[must_use]
    pub fn delimiter(mut self, delimiter: char) -> Self {
        self.lines.delimiter = delimiter;
        self
    }
}

line_options!(CsvOptions);

/// How files of JSON lines are read.
///
/// ```
/// let options = tidemill::JsonOptions::default().max_line_bytes(1 << 20);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Default)]
pub struct JsonOptions {
    bad: BadRecords,
    bytes_max: Option<u64>,
}

line_options!(JsonOptions);

impl Environment {
    /// A stream of the records of a CSV file, or of all in a folder, without a header. See
    /// [`read_csv_with`](Self::read_csv_with).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let path = std::env::temp_dir().join(format!("tidemill-doc-read-csv-{}", std::process::id()));
    /// # let env = tidemill::Environment::from_args()?;
    /// std::fs::write(&path, "tea,3\n\"rice, brown\",5\n")?;
    /// let orders = env.read_csv::<(String, u32)>(&path).set_parallelism(1).collect();
    /// let orders = env.execute("orders")?.collected(&orders)?;
    /// assert_eq!(orders, [("tea".to_owned(), 3), ("rice, brown".to_owned(), 5)]);
    /// # std::fs::remove_file(path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_csv<T: Data>(
        &self,
        path: impl AsRef<Path>,
    ) -> DataStream<FromSplits<RecordSource<T, CsvLines>, NoTimes>> {
        self.read_csv_with(path, CsvOptions::default())
    }

    /// A stream of the records of a CSV file, or of all in a folder.
    ///
    /// A record is a line, whose fields make `T` by its serde form: a tuple, or a struct. A field may stand in `"`,
    /// and `""` means `"` there; but it may not hold a line end, so that large files can be read in parallel. Each
    /// line has as many fields as the first of its file. Empty lines are left out. Files are found as by
    /// [`read_text_file`](Self::read_text_file).
    ///
    /// A line that is no record fails the job, or whatever the options say, with the file, the place and the field. A
    /// header that cannot be read always fails it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let path = std::env::temp_dir().join(format!("tidemill-doc-csv-with-{}", std::process::id()));
    /// # let env = tidemill::Environment::from_args()?;
    /// #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
    /// struct Order {
    ///     item: String,
    ///     count: u32,
    /// }
    ///
    /// std::fs::write(&path, "count;item\n3;tea\nmany;rice\n")?;
    /// let bad = tidemill::OutputTag::<tidemill::BadRecord>::new("bad");
    /// let options = tidemill::CsvOptions::default().header(true).delimiter(';').divert_bad_records(&bad);
    /// let orders = env.read_csv_with::<Order>(&path, options);
    /// let bad = orders.side_output(&bad).collect();
    /// let orders = orders.collect();
    /// let result = env.execute("orders")?;
    /// assert_eq!(result.collected(&orders)?, [Order { item: "tea".to_owned(), count: 3 }]);
    /// let bad = &result.collected(&bad)?[0];
    /// assert_eq!((bad.line, bad.field.as_deref(), bad.text.as_str()), (Some(3), Some("\"count\""), "many;rice"));
    /// # std::fs::remove_file(path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_csv_with<T: Data>(
        &self,
        path: impl AsRef<Path>,
        options: CsvOptions,
    ) -> DataStream<FromSplits<RecordSource<T, CsvLines>, NoTimes>> {
        self.read_records("Source: CSV file", path.as_ref(), options.lines, options.bad, options.bytes_max)
    }

    /// A stream of the records of a file of JSON values, one a line, or of all files in a folder. See
    /// [`read_json_lines_with`](Self::read_json_lines_with).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let path = std::env::temp_dir().join(format!("tidemill-doc-read-json-{}", std::process::id()));
    /// # let env = tidemill::Environment::from_args()?;
    /// #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
    /// struct Order {
    ///     item: String,
    ///     count: u32,
    /// }
    ///
    /// std::fs::write(&path, "{\"item\": \"tea\", \"count\": 3}\n")?;
    /// let orders = env.read_json_lines::<Order>(&path).collect();
    /// assert_eq!(env.execute("orders")?.collected(&orders)?, [Order { item: "tea".to_owned(), count: 3 }]);
    /// # std::fs::remove_file(path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_json_lines<T: Data>(
        &self,
        path: impl AsRef<Path>,
    ) -> DataStream<FromSplits<RecordSource<T, JsonLines>, NoTimes>> {
        self.read_json_lines_with(path, JsonOptions::default())
    }

    /// A stream of the records of a file of JSON values, one a line, or of all files in a folder.
    ///
    /// Empty lines are left out. Files are found, and large ones read in parallel, as by
    /// [`read_text_file`](Self::read_text_file). A line that is no record fails the job, or whatever the options say,
    /// with the file, the place and the field.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let path = std::env::temp_dir().join(format!("tidemill-doc-json-with-{}", std::process::id()));
    /// # let env = tidemill::Environment::from_args()?;
    /// std::fs::write(&path, "[1, 2]\n[3\n[4, 5]\n")?;
    /// let options = tidemill::JsonOptions::default().skip_bad_records(env.counter("bad lines"));
    /// let pairs = env.read_json_lines_with::<(u32, u32)>(&path, options).collect();
    /// let result = env.execute("pairs")?;
    /// assert_eq!((result.collected(&pairs)?, result.counter("bad lines")), (vec![(1, 2), (4, 5)], Some(1)));
    /// # std::fs::remove_file(path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_json_lines_with<T: Data>(
        &self,
        path: impl AsRef<Path>,
        options: JsonOptions,
    ) -> DataStream<FromSplits<RecordSource<T, JsonLines>, NoTimes>> {
        self.read_records("Source: JSON lines", path.as_ref(), JsonLines, options.bad, options.bytes_max)
    }

    fn read_records<T: Data, F: LineFormat<T> + std::fmt::Debug>(
        &self,
        name: &str,
        path: &Path,
        format: F,
        bad: BadRecords,
        bytes_max: Option<u64>,
    ) -> DataStream<FromSplits<RecordSource<T, F>, NoTimes>> {
        let manner = match &bad {
            BadRecords::Fail => "fail".to_owned(),
            BadRecords::Skip(counter) => format!("skip, counted by {:?}", counter.name()),
            BadRecords::Divert(tag) => format!("divert to {:?}", tag.name()),
        };
        let parameters = vec![
            format!("input {}", path.display()),
            format!("format {format:?} of lines up to {bytes_max:?} bytes"),
            format!("bad records {manner}"),
        ];
        let source = RecordSource::new(FileSplits::once(path.to_owned()), format, bad, bytes_max);
        self.split_source(name, parameters, source, NoTimes)
    }
}
