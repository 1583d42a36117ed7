//! Values: the text of an option, checked and understood.

use std::fmt;
use std::time::Duration;

use super::Error;
use super::option::{Kind, Permille};

/// The longest time that an option may say: what is added to a clock must not overflow it.
const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Units of time with their milliseconds, largest first; the first spelling is the one that is printed.
const TIME_UNITS: [(&[&str], u64); 5] = [
    (&["d", "day", "days"], 86_400_000),
    (&["h", "hour", "hours"], 3_600_000),
    (&["min", "m", "minute", "minutes"], 60_000),
    (&["s", "sec", "second", "seconds"], 1000),
    (&["ms", "milli", "millis", "millisecond", "milliseconds"], 1),
];

/// Units of memory with their bytes, largest first; powers of 1024 as in Flink, however they are spelt.
const MEMORY_UNITS: [(&[&str], u64); 5] = [
    (&["tb", "t", "tib"], 1 << 40),
    (&["gb", "g", "gib"], 1 << 30),
    (&["mb", "m", "mib"], 1 << 20),
    (&["kb", "k", "kib"], 1 << 10),
    (&["b", "bytes"], 1),
];

/// A checked value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Not given, and without a default.
    Unset,
    Duration(Duration),
    /// In bytes.
    MemorySize(u64),
    Count(u32),
    /// In thousandths.
    Decimal(u32),
    Port(u16),
    Text(String),
    Addresses(Vec<String>),
    Choice(&'static str),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => Ok(()),
            Self::Duration(duration) => f.write_str(&print_duration(*duration)),
            Self::MemorySize(bytes) => f.write_str(&print_memory_size(*bytes)),
            Self::Count(count) => write!(f, "{count}"),
            Self::Decimal(thousandths) => Permille(*thousandths).fmt(f),
            Self::Port(port) => write!(f, "{port}"),
            Self::Text(text) => f.write_str(text),
            Self::Addresses(addresses) => f.write_str(&addresses.join(",")),
            Self::Choice(word) => f.write_str(word),
        }
    }
}

impl Kind {
    /// Understands the text given for `key`.
    pub(super) fn parse(&self, key: &str, text: &str) -> Result<Value, Error> {
        let error = || Error::Value { key: key.to_owned(), value: text.to_owned(), allowed: self.allowed() };
        let text = text.trim();
        let value = match *self {
            Self::Duration { min } => with_unit(text, &TIME_UNITS)
                .map(Duration::from_millis)
                .filter(|duration| (min..=MAX_DURATION).contains(duration))
                .map(Value::Duration),
            Self::MemorySize { min_bytes } => {
                with_unit(text, &MEMORY_UNITS).filter(|bytes| *bytes >= min_bytes).map(Value::MemorySize)
            }
            Self::Count { min, max } => number(text)
                .and_then(|count| u32::try_from(count).ok())
                .filter(|count| (min..=max).contains(count))
                .map(Value::Count),
            Self::Decimal { min, max } => {
                decimal(text).filter(|thousandths| (min..=max).contains(thousandths)).map(Value::Decimal)
            }
            Self::Port => number(text).and_then(|port| u16::try_from(port).ok()).map(Value::Port),
            Self::Text => Some(text)
                .filter(|text| !text.is_empty() && !text.contains(char::is_control))
                .map(|text| Value::Text(text.to_owned())),
            Self::Addresses => addresses(text).map(Value::Addresses),
            Self::Choice(words) => {
                words.iter().find(|word| word.eq_ignore_ascii_case(text)).map(|word| Value::Choice(word))
            }
        };
        value.ok_or_else(error)
    }

    /// What may be written, to follow the verb "write".
    pub(super) fn allowed(&self) -> String {
        match self {
            Self::Duration { min } => {
                let (min, max) = (print_duration(*min), print_duration(MAX_DURATION));
                format!("a time from {min} to {max}, with its unit (ms, s, min, h or d), such as 500 ms")
            }
            Self::MemorySize { min_bytes } => {
                let min = print_memory_size(*min_bytes);
                format!("a size of at least {min}, with its unit (b, kb, mb, gb or tb), such as 512 mb")
            }
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Decimal { min, max } => {
                let (min, max) = (Permille(*min), Permille(*max));
                format!("a number from {min} to {max} with at most three decimals, such as {min}.5")
            }
            Self::Port => "a port from 1 to 65535, or 0 to let the system choose".to_owned(),
            Self::Text => "a text of at least one character, on one line".to_owned(),
            Self::Addresses => "host:port pairs with commas between them, each once, such as a:6123,b:6123".to_owned(),
            Self::Choice(words) => words.join(" or "),
        }
    }

    /// The kind's name, for the table of options.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Duration { .. } => "time",
            Self::MemorySize { .. } => "memory size",
            Self::Count { .. } => "count",
            Self::Decimal { .. } => "number",
            Self::Port => "port",
            Self::Text => "text",
            Self::Addresses => "addresses",
            Self::Choice(_) => "choice",
        }
    }
}

/// Digits only: `u64::from_str` would take a plus sign as well.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// A number with up to three decimals, in thousandths.
fn decimal(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if whole.is_empty() || !(1..=3).contains(&fraction.len()) {
        return None;
    }
    let thousandths = number(&format!("{fraction:0<3}"))?;
    u32::try_from(number(whole)?.checked_mul(1000)?.checked_add(thousandths)?).ok()
}

fn with_unit(text: &str, units: &[(&[&str], u64)]) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (amount, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let (_, factor) = units.iter().find(|(spellings, _)| spellings.contains(&unit.as_str()))?;
    number(amount)?.checked_mul(*factor)
}

/// Splits a list of `host:port`; an empty text is the empty list.
fn addresses(text: &str) -> Option<Vec<String>> {
    let mut addresses: Vec<String> = Vec::new();
    for address in text.split(',').map(str::trim) {
        if address.is_empty() && text.is_empty() {
            return Some(addresses);
        }
        if !is_address(address) || addresses.iter().any(|known| known == address) {
            return None;
        }
        addresses.push(address.to_owned());
    }
    Some(addresses)
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_fits = match bracketed {
        Some(ipv6) => ipv6.contains(':') && ipv6.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte)),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)),
    };
    host_fits && number(port).is_some_and(|port| (1..=65_535).contains(&port))
}

pub(super) fn print_duration(duration: Duration) -> String {
    print_with_unit(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &TIME_UNITS)
}

pub(super) fn print_memory_size(bytes: u64) -> String {
    print_with_unit(bytes, &MEMORY_UNITS)
}

/// In the largest unit that needs no fraction.
fn print_with_unit(amount: u64, units: &[(&[&str], u64)]) -> String {
    let fitting = units.iter().find(|(_, factor)| amount >= *factor && amount.is_multiple_of(*factor));
    let (spellings, factor) = fitting.or(units.last()).expect("the tables of units are not empty");
    format!("{} {}", amount / factor, spellings[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Kind = Kind::Duration { min: Duration::from_millis(1) };
    const SIZE: Kind = Kind::MemorySize { min_bytes: 1024 };

    fn parsed(kind: Kind, text: &str) -> Option<String> {
        kind.parse("key", text).ok().map(|value| value.to_string())
    }

    #[test]
    fn times_have_a_unit_and_print_in_the_largest_that_fits() {
        for (text, printed) in [
            ("500 ms", "500 ms"),
            ("500ms", "500 ms"),
            (" 3 s ", "3 s"),
            ("10 min", "10 min"),
            ("90 Seconds", "90 s"),
            ("120 s", "2 min"),
            ("2h", "2 h"),
            ("48 h", "2 d"),
        ] {
            assert_eq!(parsed(TIME, text).as_deref(), Some(printed), "{text:?}");
        }
        for text in
            ["", "5", "ms", "0 ms", "-5 ms", "+5 ms", "1.5 s", "5 parsecs", "5 s s", "99999999999999999999 d", "9999 d"]
        {
            assert_eq!(parsed(TIME, text), None, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [("512 mb", 512 << 20), ("1gib", 1 << 30), ("1 G", 1 << 30), ("2048 b", 2048)] {
            assert_eq!(SIZE.parse("key", text), Ok(Value::MemorySize(bytes)), "{text:?}");
        }
        for text in ["1023 b", "5", "mb", "1.5 gb", "20000000 tb"] {
            assert_eq!(parsed(SIZE, text), None, "{text:?}");
        }
    }

    #[test]
    fn addresses_are_hosts_with_ports() {
        for text in ["", "a:1", "a:1,b-c.d_e:65535", "127.0.0.1:6123", "[::1]:6123"] {
            assert_eq!(parsed(Kind::Addresses, text).as_deref(), Some(text));
        }
        assert_eq!(parsed(Kind::Addresses, " a:1 , b:2 ").as_deref(), Some("a:1,b:2"));
        for text in
            ["a", ":1", "a:", "a:0", "a:65536", "a:1,", ",", "a b:1", "::1:80", "[x]:1", "a:1,a:1", "http://a:1"]
        {
            assert_eq!(parsed(Kind::Addresses, text), None, "{text:?}");
        }
    }

    #[test]
    fn counts_ports_texts_and_choices_keep_their_bounds() {
        let count = Kind::Count { min: 1, max: 10 };
        assert_eq!(parsed(count, "10").as_deref(), Some("10"));
        assert!(["0", "11", "x", "", "+1", "99999999999999999999"].iter().all(|text| parsed(count, text).is_none()));
        let factor = Kind::Decimal { min: 1000, max: 10_000 };
        for (text, printed) in [("1.5", "1.5"), ("2", "2"), ("1.050", "1.05"), ("10.0", "10")] {
            assert_eq!(parsed(factor, text).as_deref(), Some(printed));
        }
        for text in ["0.9", "10.001", "1.", ".5", "1.0001", "-1", "1e1", "", "x", "1.x"] {
            assert_eq!(parsed(factor, text), None, "{text:?}");
        }
        assert_eq!(parsed(Kind::Port, "0").as_deref(), Some("0"));
        assert_eq!(parsed(Kind::Port, "65536"), None);
        assert_eq!(parsed(Kind::Text, " a b ").as_deref(), Some("a b"));
        assert!(["", "  ", "a\nb"].iter().all(|text| parsed(Kind::Text, text).is_none()));
        assert_eq!(parsed(Kind::Choice(&["batch", "streaming"]), "BATCH").as_deref(), Some("batch"));
        assert_eq!(parsed(Kind::Choice(&["batch", "streaming"]), "bat"), None);
    }
}
