//! A JSON value a line.

use std::io::Write;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{BadLine, FirstLine, LineDecoder, LineFormat, text};
use crate::runtime::sink::Format;

/// Records as JSON values, one a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JsonLines;

impl<T: DeserializeOwned> LineFormat<T> for JsonLines {
    type Decoder = Self;

    fn first_line(&self) -> FirstLine {
        FirstLine::Record
    }

    fn decoder(&self, _first_line: &[u8]) -> Result<Self, BadLine> {
        Ok(*self)
    }
}

impl<T: DeserializeOwned> LineDecoder<T> for JsonLines {
    fn decode(&mut self, line: &[u8]) -> Result<Option<T>, BadLine> {
        let line = text(line)?;
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        serde_json::from_str(line).map(Some).map_err(|error| bad_line(line, &error))
    }
}

impl<T: Serialize> Format<T> for JsonLines {
    fn write(&self, record: &T, text: &mut Vec<u8>) -> Result<(), String> {
        serde_json::to_writer(&mut *text, record).map_err(|error| error.to_string())?;
        writeln!(text).map_err(|error| error.to_string())
    }
}

#[cold]
fn bad_line(line: &str, error: &serde_json::Error) -> BadLine {
    let reason = error.to_string();
    // A record is one line, so the line number that the parser counts says nothing.
    let reason = reason.replace(" at line 1 column ", " at column ");
    let field = if error.is_data() { last_key(&line.as_bytes()[..error.column().min(line.len())]) } else { None };
    BadLine::new(field, reason)
}

/// The last key before a place, in the object that is open there or within its value.
fn last_key(json: &[u8]) -> Option<String> {
    let mut key = None;
    let mut string = None;
    let mut begin = None;
    let mut escaped = false;
    for (index, &byte) in json.iter().enumerate() {
        match (begin, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(start), b'"') => {
                string = Some(&json[start..=index]);
                begin = None;
            }
            (None, b'"') => begin = Some(index),
            (None, b':') => key = string,
            // Behind a closing brace the fault is in no field of that object.
            (None, b'}') => key = None,
            (Some(_) | None, _) => {}
        }
    }
    key.map(|key| String::from_utf8_lossy(key).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Person {
        name: String,
        age: u8,
    }

    fn decode(line: &str) -> Result<Option<Person>, String> {
        let described = |bad: BadLine| format!("{}: {}", bad.field.unwrap_or_default(), bad.reason);
        JsonLines.decode(line.as_bytes()).map_err(described)
    }

    #[test]
    fn a_record_survives_its_line() {
        let ann = Person { name: "A\n\"n".into(), age: 3 };
        let mut text = Vec::new();
        JsonLines.write(&ann, &mut text).unwrap();
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(decode(std::str::from_utf8(&text).unwrap()), Ok(Some(ann)));
        assert_eq!(decode("  "), Ok(None));
    }

    #[test]
    fn an_error_names_the_field() {
        let error = decode(r#"{"name": "a \" : b", "age": "old"}"#).unwrap_err();
        assert!(error.starts_with("\"age\": invalid type"), "{error}");
        let error = decode(r#"{"name": "x", "age": 300}"#).unwrap_err();
        assert!(error.starts_with("\"age\": invalid value"), "{error}");
        let error = decode(r#"{"name": "x"}"#).unwrap_err();
        assert!(error.starts_with(": missing field `age`"), "{error}");
    }

    #[test]
    fn a_truncated_line_is_an_error() {
        let line = r#"{"name": "x", "age": 3}"#;
        for length in 1..line.len() {
            assert!(decode(&line[..length]).is_err(), "{length}");
        }
    }
}
