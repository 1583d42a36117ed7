//! A record as text for people, by way of its serde form, so that records need not be `Debug`.

use std::fmt::{self, Display, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::ser::{self, Serialize};

/// The most bytes of a record's text; the rest is left out.
const TEXT_BYTES_MAX: usize = 512;

/// The record as `Debug` would show it, as far as it fits.
///
/// It may be called while the thread unwinds: a record whose own code fails, or panics, has no text.
#[cold]
pub(crate) fn record_text<T: Serialize>(record: &T) -> String {
    let mut text = String::new();
    match catch_unwind(AssertUnwindSafe(|| record.serialize(Renderer(&mut text)))) {
        Ok(Ok(())) => text,
        Ok(Err(Stop::Full)) => text + "...",
        Ok(Err(Stop::Failed)) | Err(_) => format!("a {} that cannot be shown", std::any::type_name::<T>()),
    }
}

/// Why rendering ended early.
#[derive(Debug)]
enum Stop {
    /// The text is long enough.
    Full,
    /// The record's own code says that it cannot be serialized.
    Failed,
}

impl Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("show record")
    }
}

impl std::error::Error for Stop {}

impl ser::Error for Stop {
    fn custom<T: Display>(_message: T) -> Self {
        Self::Failed
    }
}

struct Renderer<'a>(&'a mut String);

impl<'a> Renderer<'a> {
    fn put(&mut self, text: impl Display) -> Result<(), Stop> {
        // Written by parts, so that a long text is never held as a whole.
        write!(Bounded(self.0), "{text}").map_err(|_| Stop::Full)
    }

    /// Opens a compound value; what stands between its parts and at its end is known from now on.
    fn open(mut self, name: &str, open: &str, close: &'static str) -> Result<Compound<'a>, Stop> {
        self.put(name)?;
        self.put(open)?;
        Ok(Compound { renderer: self, close, first: true })
    }
}

/// Takes no more than fits.
struct Bounded<'a>(&'a mut String);

impl Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = TEXT_BYTES_MAX.saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        self.0.push_str(&text[..end]);
        Err(fmt::Error)
    }
}

/// A value of several parts, some of which are written.
struct Compound<'a> {
    renderer: Renderer<'a>,
    close: &'static str,
    first: bool,
}

impl Compound<'_> {
    fn part<T: Serialize + ?Sized>(&mut self, label: Option<&str>, value: &T) -> Result<(), Stop> {
        if !std::mem::take(&mut self.first) {
            self.renderer.put(", ")?;
        }
        if let Some(label) = label {
            self.renderer.put(label)?;
            self.renderer.put(": ")?;
        }
        value.serialize(Renderer(self.renderer.0))
    }

    fn close(mut self) -> Result<(), Stop> {
        self.renderer.put(self.close)
    }
}

macro_rules! plain {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(mut self, value: $type) -> Result<(), Stop> {
            self.put(format_args!("{value:?}"))
        })*
    };
}

impl<'a> ser::Serializer for Renderer<'a> {
    type Ok = ();
    type Error = Stop;
    type SerializeSeq = Compound<'a>;
    type SerializeTuple = Compound<'a>;
    type SerializeTupleStruct = Compound<'a>;
    type SerializeTupleVariant = Compound<'a>;
    type SerializeMap = Compound<'a>;
    type SerializeStruct = Compound<'a>;
    type SerializeStructVariant = Compound<'a>;

    plain! {
        serialize_bool: bool, serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
        serialize_f32: f32, serialize_f64: f64,
    }

    fn serialize_none(mut self) -> Result<(), Stop> {
        self.put("None")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Stop> {
        self.serialize_newtype_struct("Some", value)
    }

    fn serialize_unit(mut self) -> Result<(), Stop> {
        self.put("()")
    }

    fn serialize_unit_struct(mut self, name: &'static str) -> Result<(), Stop> {
        self.put(name)
    }

    fn serialize_unit_variant(mut self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Stop> {
        self.put(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<(), Stop> {
        let mut compound = self.open(name, "(", ")")?;
        compound.part(None, value)?;
        compound.close()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        self.serialize_newtype_struct(variant, value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Compound<'a>, Stop> {
        self.open("", "[", "]")
    }

    fn serialize_tuple(self, _: usize) -> Result<Compound<'a>, Stop> {
        self.open("", "(", ")")
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Compound<'a>, Stop> {
        self.open(name, "(", ")")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Compound<'a>, Stop> {
        self.open(variant, "(", ")")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Compound<'a>, Stop> {
        self.open("", "{", "}")
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Compound<'a>, Stop> {
        self.open(name, " { ", " }")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Compound<'a>, Stop> {
        self.open(variant, " { ", " }")
    }
}

macro_rules! unlabelled {
    ($($trait:ident: $method:ident),* $(,)?) => {
        $(impl ser::$trait for Compound<'_> {
            type Ok = ();
            type Error = Stop;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
                self.part(None, value)
            }

            fn end(self) -> Result<(), Stop> {
                self.close()
            }
        })*
    };
}

unlabelled! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

macro_rules! labelled {
    ($($trait:ident),*) => {
        $(impl ser::$trait for Compound<'_> {
            type Ok = ();
            type Error = Stop;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, label: &'static str, value: &T) -> Result<(), Stop> {
                self.part(Some(label), value)
            }

            fn end(self) -> Result<(), Stop> {
                self.close()
            }
        })*
    };
}

labelled!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Compound<'_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Stop> {
        self.part(None, key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        self.renderer.put(": ")?;
        value.serialize(Renderer(self.renderer.0))
    }

    fn end(self) -> Result<(), Stop> {
        self.close()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, serde::Serialize)]
    struct Order {
        id: u64,
        lines: Vec<(String, f64)>,
        state: State,
        note: Option<char>,
    }

    #[derive(Debug, serde::Serialize)]
    enum State {
        Open,
        Paid(i8),
        Sent { by: &'static str },
        Split(u8, bool),
    }

    #[test]
    fn a_record_looks_as_debug_shows_it() {
        for state in [State::Open, State::Paid(-1), State::Sent { by: "ship \"Tide\"" }, State::Split(1, true)] {
            let order = Order { id: u64::MAX, lines: vec![("tea\n".to_owned(), 1.5)], state, note: Some('x') };
            assert_eq!(record_text(&order), format!("{order:?}"));
        }
        let map = BTreeMap::from([((1, ()), None), ((2, ()), Some([0.1f32]))]);
        assert_eq!(record_text(&map), "{(1, ()): None, (2, ()): Some((0.1))}");
    }

    #[test]
    fn a_long_record_is_cut_between_two_letters() {
        let text = record_text(&"\u{e9}".repeat(10_000));
        assert!(text.starts_with("\"\u{e9}") && text.ends_with("\u{e9}..."), "{text}");
        assert!(text.len() <= TEXT_BYTES_MAX + 3);
        assert_eq!(record_text(&vec![7u8; 1_000_000]).len(), TEXT_BYTES_MAX + 3);
    }

    struct Failing(bool);

    impl Serialize for Failing {
        fn serialize<S: ser::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            assert!(self.0, "on purpose");
            Err(ser::Error::custom("on purpose"))
        }
    }

    /// Shows a record while the thread unwinds.
    struct OnDrop<'a>(&'a mut String, Failing);

    impl Drop for OnDrop<'_> {
        fn drop(&mut self) {
            *self.0 = record_text(&self.1);
        }
    }

    #[test]
    fn a_record_that_fails_or_panics_while_it_is_shown_does_no_harm_even_during_a_panic() {
        for fails in [true, false] {
            let mut text = String::new();
            let outer = catch_unwind(AssertUnwindSafe(|| {
                let _shown = OnDrop(&mut text, Failing(fails));
                std::panic::resume_unwind(Box::new("outer"));
            }));
            assert!(outer.is_err());
            assert!(text.ends_with("Failing that cannot be shown"), "{text}");
        }
    }
}
