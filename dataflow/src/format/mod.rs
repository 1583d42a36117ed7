//! How a line of text becomes a record, and a record a line.

mod bad_record;
mod csv_lines;
mod json_lines;

pub use bad_record::{BadLine, BadRecord};
pub use csv_lines::{CsvDecoder, CsvLines};
pub use json_lines::JsonLines;

/// How the lines of files become records.
pub trait LineFormat<T>: Clone + Send + Sync + 'static {
    /// What decodes the lines of one file.
    type Decoder: LineDecoder<T> + 'static;

    /// Whether the first line of a file says something of the others, and whether it is a record, too.
    fn first_line(&self) -> FirstLine;

    /// What decodes the lines of a file with this first line (empty where it says nothing).
    ///
    /// # Errors
    /// The first line is not valid.
    fn decoder(&self, first_line: &[u8]) -> Result<Self::Decoder, BadLine>;
}

/// What the first line of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstLine {
    /// A record like any other.
    Record,
    /// A record that shows what others are like.
    Example,
    /// The names of the fields.
    Header,
}

/// Decodes the lines of one file.
pub trait LineDecoder<T> {
    /// The record of a line; none: the line is empty.
    ///
    /// # Errors
    /// The line is no record.
    fn decode(&mut self, line: &[u8]) -> Result<Option<T>, BadLine>;
}

/// A line as text.
fn text(line: &[u8]) -> Result<&str, BadLine> {
    std::str::from_utf8(line).map_err(|error| {
        let at = error.valid_up_to();
        BadLine::new(None, format!("byte {at} of the line is no UTF-8"))
    })
}
