//! Keys: canonical bytes and the one pinned hash over them.
//!
//! The hash decides which sub-task owns a key, and savepoints outlive processes and releases: it must never
//! change. It is XXH3-64 (which has a frozen specification) over the key's canonical bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;
use smol_str::SmolStr;
use xxhash_rust::xxh3::xxh3_64;

/// The pinned 64-bit hash of a key; high half for key groups, low half for tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub u64);

/// The canonical bytes of a key while they are written: on the stack, unless they are many.
#[derive(Debug, Clone, Default)]
pub struct KeyBytes(SmallVec<[u8; 64]>);

impl KeyBytes {
    /// Appends bytes as they are.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Appends bytes behind their length, so that they do not run together with what follows.
    ///
    /// # Panics
    ///
    /// They are 4 GiB or more.
    #[inline]
    pub fn write_delimited(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).expect("a key is shorter than 4 GiB");
        self.write(&length.to_le_bytes());
        self.write(bytes);
    }

    /// What was written.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The pinned hash of what was written.
    #[inline]
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        KeyHash(xxh3_64(&self.0))
    }
}

/// A value by which records can be grouped.
///
/// ```
/// use tidemill_model::key::{Key, KeyBytes};
///
/// #[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
/// struct Seat {
///     row: u16,
///     letter: char,
/// }
///
/// impl Key for Seat {
///     fn write_canonical(&self, bytes: &mut KeyBytes) {
///         self.row.write_canonical(bytes);
///         self.letter.write_canonical(bytes);
///     }
/// }
///
/// assert_eq!(Seat { row: 1, letter: 'a' }.key_hash(), (1u16, 'a').key_hash());
/// ```
///
/// # To ensure correctness
///
/// - Equal keys write equal bytes and unequal keys of one type write unequal bytes (tuples rely on each part
///   being self-delimiting).
/// - The bytes are the same on every machine and in every later release.
pub trait Key: Eq + Clone + Send + Sync + Serialize + DeserializeOwned + 'static {
    /// Appends the canonical bytes: integers little-endian at their full width, strings and byte strings
    /// behind their length as a little-endian `u32`, tuples field by field.
    fn write_canonical(&self, bytes: &mut KeyBytes);

    /// The pinned hash of the canonical bytes.
    #[inline]
    fn key_hash(&self) -> KeyHash {
        let mut bytes = KeyBytes::default();
        self.write_canonical(&mut bytes);
        bytes.hash()
    }
}

macro_rules! integer_keys {
    ($($type:ty)*) => {$(
        impl Key for $type {
            #[inline]
            fn write_canonical(&self, bytes: &mut KeyBytes) {
                bytes.write(&self.to_le_bytes());
            }

            #[inline]
            fn key_hash(&self) -> KeyHash {
                KeyHash(xxh3_64(&self.to_le_bytes()))
            }
        }
    )*};
}
integer_keys!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128);

/// The longest string whose canonical bytes are put together for its hash without a [`KeyBytes`].
const SHORT_BYTES: usize = 28;

/// The hash of a string's canonical bytes; short ones, such as words, take a path of their own.
#[inline]
fn hash_delimited(part: &[u8]) -> KeyHash {
    let mut short = [0; 4 + SHORT_BYTES];
    let (length, rest) = short.split_at_mut(4);
    let Some(copy) = rest.get_mut(..part.len()) else {
        let mut bytes = KeyBytes::default();
        bytes.write_delimited(part);
        return bytes.hash();
    };
    length.copy_from_slice(&u32::try_from(part.len()).expect("at most SHORT_BYTES").to_le_bytes());
    copy.copy_from_slice(part);
    KeyHash(xxh3_64(&short[..4 + part.len()]))
}

macro_rules! byte_string_keys {
    ($($type:ty => $as_bytes:ident)*) => {$(
        impl Key for $type {
            #[inline]
            fn write_canonical(&self, bytes: &mut KeyBytes) {
                bytes.write_delimited(self.$as_bytes().as_ref());
            }

            #[inline]
            fn key_hash(&self) -> KeyHash {
                hash_delimited(self.$as_bytes().as_ref())
            }
        }
    )*};
}
byte_string_keys!(String => as_bytes Vec<u8> => as_slice Box<str> => as_bytes SmolStr => as_str);

impl Key for bool {
    fn write_canonical(&self, bytes: &mut KeyBytes) {
        bytes.write(&[u8::from(*self)]);
    }
}

impl Key for char {
    fn write_canonical(&self, bytes: &mut KeyBytes) {
        u32::from(*self).write_canonical(bytes);
    }
}

impl Key for () {
    fn write_canonical(&self, _bytes: &mut KeyBytes) {}
}

macro_rules! tuple_keys {
    ($($name:ident)+) => {
        impl<$($name: Key),+> Key for ($($name,)+) {
            #[inline]
            fn write_canonical(&self, bytes: &mut KeyBytes) {
                #[expect(non_snake_case, reason = "the type parameters name the fields of the tuple")]
                let ($($name,)+) = self;
                $($name.write_canonical(bytes);)+
            }
        }
    };
}
tuple_keys!(A);
tuple_keys!(A B);
tuple_keys!(A B C);
tuple_keys!(A B C D);
tuple_keys!(A B C D E);
tuple_keys!(A B C D E F);

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    /// Golden vectors: a change here moves every key of every savepoint to another owner.
    #[test]
    fn the_hash_of_a_key_never_changes() {
        let vectors = [
            ("u64 0", 0u64.key_hash()),
            ("u64 1", 1u64.key_hash()),
            ("i32 -1", (-1i32).key_hash()),
            ("empty", String::new().key_hash()),
            ("word", "word".to_owned().key_hash()),
            ("100 x", "x".repeat(100).key_hash()),
            ("tuple", ("word".to_owned(), 7u32).key_hash()),
            ("bool", true.key_hash()),
        ];
        let mut text = String::new();
        for (name, hash) in vectors {
            text += &format!("{name}: {:016x}\n", hash.0);
        }
        expect![[r#"
            u64 0: c77b3abb6f87acd9
            u64 1: 2fbc593564db792e
            i32 -1: cd6b1c920d3f662c
            empty: 48b2c92616fc193d
            word: 71c44c92f1fbe6b0
            100 x: 08526541e328f873
            tuple: aa64125bba6c8f2f
            bool: e12ef9d2eb86ceeb
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn a_short_string_and_a_long_one_are_hashed_by_their_canonical_bytes() {
        for length in [0, 1, 23, 24, 27, 28, 29, 59, 60, 61, 1000] {
            let key = "k".repeat(length);
            let mut bytes = Vec::from(u32::try_from(length).unwrap().to_le_bytes());
            bytes.extend_from_slice(key.as_bytes());
            assert_eq!(key.key_hash(), KeyHash(xxh3_64(&bytes)), "length {length}");
            assert_eq!(SmolStr::new(&key).key_hash(), key.key_hash(), "length {length}");
        }
    }

    #[test]
    fn neighbouring_fields_of_a_tuple_do_not_run_together() {
        let left = ("ab".to_owned(), "c".to_owned()).key_hash();
        let right = ("a".to_owned(), "bc".to_owned()).key_hash();
        assert_ne!(left, right);
    }
}
