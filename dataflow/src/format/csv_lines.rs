//! Delimited text, a record a line, after RFC 4180 but for line ends within fields.

use csv::{ErrorKind, StringRecord};
use serde::de::DeserializeOwned;

use super::{BadLine, FirstLine, LineDecoder, LineFormat, text};

/// The mark of UTF-8 with which some programs begin a file.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Records of delimited fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvLines {
    /// Stands between two fields.
    pub delimiter: char,
    /// Whether the first line of each file names the fields.
    pub header: bool,
}

impl CsvLines {
    /// Cuts a line into its fields.
    ///
    /// A field that begins with `"` goes on to the next single `"`; within it `""` stands for `"`.
    fn split(&self, line: &str, record: &mut StringRecord, field: &mut String) -> Result<(), BadLine> {
        record.clear();
        let mut rest = line;
        loop {
            let number = record.len() + 1;
            let bad = |reason: &str| BadLine::new(Some(number.to_string()), reason);
            if let Some(quoted) = rest.strip_prefix('"') {
                field.clear();
                let mut quoted = quoted;
                loop {
                    let Some((text, behind)) = quoted.split_once('"') else {
                        return Err(bad("the closing quote is missing"));
                    };
                    field.push_str(text);
                    quoted = behind;
                    match quoted.strip_prefix('"') {
                        Some(behind) => {
                            field.push('"');
                            quoted = behind;
                        }
                        None => break,
                    }
                }
                record.push_field(field);
                if quoted.is_empty() {
                    return Ok(());
                }
                rest = quoted.strip_prefix(self.delimiter).ok_or_else(|| bad("text follows the closing quote"))?;
            } else if let Some((text, behind)) = rest.split_once(self.delimiter) {
                record.push_field(text);
                rest = behind;
            } else {
                record.push_field(rest);
                return Ok(());
            }
        }
    }
}

impl<T: DeserializeOwned> LineFormat<T> for CsvLines {
    type Decoder = CsvDecoder;

    fn first_line(&self) -> FirstLine {
        if self.header { FirstLine::Header } else { FirstLine::Example }
    }

    fn decoder(&self, first_line: &[u8]) -> Result<CsvDecoder, BadLine> {
        let (mut first, mut field) = (StringRecord::new(), String::new());
        let line = text(first_line)?;
        // An example that is no record is reported in its turn, and no example to anybody.
        let cut = self.split(line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line), &mut first, &mut field);
        match cut {
            Ok(()) => {}
            Err(bad) if self.header => return Err(bad),
            Err(_) => first.clear(),
        }
        let fields = if line.is_empty() { 0 } else { first.len() };
        let header = self.header.then_some(first);
        Ok(CsvDecoder { format: self.clone(), header, fields, record: StringRecord::new(), field })
    }
}

/// Decodes the lines of one file.
pub struct CsvDecoder {
    format: CsvLines,
    header: Option<StringRecord>,
    /// How many fields each line has; 0: any number.
    fields: usize,
    record: StringRecord,
    /// A quoted field that is being put together.
    field: String,
}

impl CsvDecoder {
    /// What a field is called.
    fn name(&self, index: u64) -> String {
        let name = usize::try_from(index).ok().and_then(|index| self.header.as_ref()?.get(index));
        name.map_or_else(|| (index + 1).to_string(), |name| format!("{name:?}"))
    }

    fn bad_field(&self, error: &csv::Error) -> BadLine {
        // Other kinds come from reading, which is not done there.
        let ErrorKind::Deserialize { err, .. } = error.kind() else { return BadLine::new(None, error.to_string()) };
        BadLine::new(err.field().map(|index| self.name(index)), err.kind().to_string())
    }
}

impl<T: DeserializeOwned> LineDecoder<T> for CsvDecoder {
    fn decode(&mut self, line: &[u8]) -> Result<Option<T>, BadLine> {
        let line = text(line)?;
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        if line.is_empty() {
            return Ok(None);
        }
        self.format.split(line, &mut self.record, &mut self.field)?;
        let (found, wanted) = (self.record.len(), self.fields);
        if wanted > 0 && found != wanted {
            return Err(BadLine::new(None, format!("{found} fields where the first line has {wanted}")));
        }
        self.record.deserialize(self.header.as_ref()).map(Some).map_err(|error| self.bad_field(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Person {
        name: String,
        age: Option<u8>,
    }

    fn decode<T: DeserializeOwned>(header: bool, first: &str, line: &[u8]) -> Result<Option<T>, String> {
        let format = CsvLines { delimiter: ',', header };
        let mut decoder = LineFormat::<T>::decoder(&format, first.as_bytes()).unwrap();
        let described = |bad: BadLine| format!("{}: {}", bad.field.unwrap_or_default(), bad.reason);
        decoder.decode(line).map_err(described)
    }

    #[test]
    fn fields_are_cut_at_delimiters_outside_quotes() {
        type Row = Vec<String>;
        let row = |line: &str| decode::<Row>(false, "", line.as_bytes()).map(|row| row.unwrap_or_default().join("|"));
        assert_eq!(row("a,b").unwrap(), "a|b");
        assert_eq!(row(",").unwrap(), "|");
        assert_eq!(row("\"a,b\",c").unwrap(), "a,b|c");
        assert_eq!(row("\"say \"\"hi\"\"\",\"\"").unwrap(), "say \"hi\"|");
        assert_eq!(row("a\"b,c").unwrap(), "a\"b|c");
        assert_eq!(row("").unwrap(), "");
        assert_eq!(row("x,\"open").unwrap_err(), "2: the closing quote is missing");
        assert_eq!(row("\"a\"b,c").unwrap_err(), "1: text follows the closing quote");
    }

    #[test]
    fn a_header_names_fields_in_any_order_and_in_errors() {
        let ann = Person { name: "Ann".into(), age: Some(30) };
        assert_eq!(decode(true, "\u{feff}age,name", b"30,Ann"), Ok(Some(ann)));
        assert_eq!(decode(true, "age,name", b",Bo"), Ok(Some(Person { name: "Bo".into(), age: None })));
        let error = decode::<Person>(true, "age,name", b"300,Ann").unwrap_err();
        assert!(error.starts_with("\"age\": "), "{error}");
        let error = decode::<Person>(true, "age", b"30").unwrap_err();
        assert!(error.contains("name"), "{error}");
    }

    #[test]
    fn without_a_header_fields_go_by_their_place() {
        assert_eq!(decode(false, "Ann,30", b"Bo,4"), Ok(Some(Person { name: "Bo".into(), age: Some(4) })));
        assert_eq!(decode(false, "a,1", b"b,2"), Ok(Some(("b".to_owned(), 2u8))));
        assert!(decode::<(String, u8)>(false, "a,1", b"b,x").unwrap_err().starts_with("2: "));
    }

    #[test]
    fn another_number_of_fields_and_bytes_that_are_no_text_are_errors() {
        let error = decode::<(String, u8)>(false, "a,1", b"b,2,3").unwrap_err();
        assert_eq!(error, ": 3 fields where the first line has 2");
        assert_eq!(decode::<(String, u8)>(false, "a,1", b"b\xff,2").unwrap_err(), ": byte 1 of the line is no UTF-8");
    }
}
