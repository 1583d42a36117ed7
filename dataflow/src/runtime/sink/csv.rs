//! Records as delimited text: each primitive of a record is a field, in the order of its serde form.
//!
//! As in Flink's `writeAsCsv` nothing is quoted or escaped: choose delimiters that do not occur in the fields.

use serde::Serialize;
use serde::ser::{self, Serializer};

use super::file::Format;

/// How rows and fields end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvFormat {
    /// Follows each record.
    pub row_delimiter: String,
    /// Stands between two fields.
    pub field_delimiter: String,
}

impl<T: Serialize> Format<T> for CsvFormat {
    #[inline]
    fn write(&self, record: &T, text: &mut Vec<u8>) -> Result<(), String> {
        let mut fields = Fields { text, delimiter: self.field_delimiter.as_bytes(), first: true };
        record.serialize(&mut fields).map_err(|Error(message)| message)?;
        text.extend_from_slice(self.row_delimiter.as_bytes());
        Ok(())
    }
}

/// What a record's own `Serialize` complained of.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Error(String);

impl ser::Error for Error {
    fn custom<M: std::fmt::Display>(message: M) -> Self {
        Self(message.to_string())
    }
}

/// Writes the fields of one record.
struct Fields<'a> {
    text: &'a mut Vec<u8>,
    delimiter: &'a [u8],
    first: bool,
}

impl Fields<'_> {
    #[inline]
    fn field(&mut self, bytes: &[u8]) {
        if !self.first {
            self.text.extend_from_slice(self.delimiter);
        }
        self.first = false;
        self.text.extend_from_slice(bytes);
    }

    #[inline]
    fn number(&mut self, mut number: u128, negative: bool) {
        let mut digits = [0u8; 40];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + u8::try_from(number % 10).expect("a digit");
            number /= 10;
            if number == 0 {
                break;
            }
        }
        if negative {
            start -= 1;
            digits[start] = b'-';
        }
        self.field(&digits[start..]);
    }

    /// The same with the machine's own division.
    #[inline]
    fn unsigned(&mut self, mut number: u64) {
        let mut digits = [0u8; 20];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + u8::try_from(number % 10).expect("a digit");
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.field(&digits[start..]);
    }
}

macro_rules! small_unsigned {
    ($($method:ident: $type:ty)*) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<(), Error> {
            self.unsigned(u64::from(value));
            Ok(())
        }
    )*};
}

macro_rules! signed {
    ($($method:ident: $type:ty)*) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<(), Error> {
            self.number(u128::from(value.unsigned_abs()), value < 0);
            Ok(())
        }
    )*};
}

impl Serializer for &mut Fields<'_> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    small_unsigned!(serialize_u8: u8 serialize_u16: u16 serialize_u32: u32 serialize_u64: u64);
    signed!(serialize_i8: i8 serialize_i16: i16 serialize_i32: i32 serialize_i64: i64 serialize_i128: i128);

    fn serialize_u128(self, value: u128) -> Result<(), Error> {
        self.number(value, false);
        Ok(())
    }
    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.serialize_str(if value { "true" } else { "false" })
    }
    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.serialize_str(&value.to_string())
    }
    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.serialize_str(&value.to_string())
    }
    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }
    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.field(value.as_bytes());
        Ok(())
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.field(value);
        Ok(())
    }
    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_str("")
    }
    fn serialize_some<V: ?Sized + Serialize>(self, value: &V) -> Result<(), Error> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Error> {
        self.serialize_str("")
    }
    fn serialize_unit_struct(self, name: &'static str) -> Result<(), Error> {
        self.serialize_str(name)
    }
    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }
    fn serialize_newtype_struct<V: ?Sized + Serialize>(self, _name: &'static str, value: &V) -> Result<(), Error> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<V: ?Sized + Serialize>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &V,
    ) -> Result<(), Error> {
        self.field(variant.as_bytes());
        value.serialize(self)
    }
    fn serialize_seq(self, _len: Option<usize>) -> Result<Self, Error> {
        Ok(self)
    }
    #[inline]
    fn serialize_tuple(self, _len: usize) -> Result<Self, Error> {
        Ok(self)
    }
    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Self, Error> {
        Ok(self)
    }
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Self, Error> {
        self.field(variant.as_bytes());
        Ok(self)
    }
    fn serialize_map(self, _len: Option<usize>) -> Result<Self, Error> {
        Ok(self)
    }
    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Self, Error> {
        Ok(self)
    }
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Self, Error> {
        self.field(variant.as_bytes());
        Ok(self)
    }
}

macro_rules! compound {
    ($($trait:ident: $method:ident $(($key:ident))?),* $(,)?) => {$(
        impl ser::$trait for &mut Fields<'_> {
            type Ok = ();
            type Error = Error;

            #[inline]
            fn $method<V: ?Sized + Serialize>(&mut self, $($key: &'static str,)? value: &V) -> Result<(), Error> {
                $(let _ = $key;)?
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), Error> {
                Ok(())
            }
        }
    )*};
}
compound!(
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
    SerializeStruct: serialize_field (name),
    SerializeStructVariant: serialize_field (name),
);

impl ser::SerializeMap for &mut Fields<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<V: ?Sized + Serialize>(&mut self, key: &V) -> Result<(), Error> {
        key.serialize(&mut **self)
    }

    fn serialize_value<V: ?Sized + Serialize>(&mut self, value: &V) -> Result<(), Error> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn csv<T: Serialize>(record: T) -> String {
        let format = CsvFormat { row_delimiter: "\n".into(), field_delimiter: ",".into() };
        let mut text = Vec::new();
        format.write(&record, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[derive(Serialize)]
    struct Reading {
        place: String,
        value: Option<f64>,
        kind: Kind,
    }

    #[derive(Serialize)]
    enum Kind {
        Hot,
        Cold { below: i8 },
    }

    #[test]
    fn every_primitive_is_a_field() {
        assert_eq!(csv(("word", 17u64)), "word,17\n");
        assert_eq!(csv((0u8, i64::MIN, u64::MAX, i128::MIN)), format!("0,{},{},{}\n", i64::MIN, u64::MAX, i128::MIN));
        assert_eq!(csv((true, 'x', 1.5f32, ())), "true,x,1.5,\n");
        assert_eq!(csv(((1u8, 2u8), [3u8, 4])), "1,2,3,4\n");
        assert_eq!(csv(BTreeMap::from([("a", 1)])), "a,1\n");
        assert_eq!(csv(Reading { place: "x".into(), value: None, kind: Kind::Hot }), "x,,Hot\n");
        assert_eq!(
            csv(Reading { place: "y".into(), value: Some(2.0), kind: Kind::Cold { below: -3 } }),
            "y,2,Cold,-3\n"
        );
    }
}
