//! Writes the text of the word-count workload: `generate_text SIZE_BYTES OUTPUT`.
//!
//! 100,000 words with a heavy-tailed distribution, ten to a line; the same size gives the same text.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

const VOCABULARY: f64 = 100_000.0;

/// The finaliser of splitmix64.
fn mix(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `w` and the base-26 letters of `number`.
fn word(mut number: u64) -> Vec<u8> {
    let mut letters = Vec::new();
    loop {
        letters.push(b'a' + u8::try_from(number % 26).expect("below 26"));
        number /= 26;
        if number == 0 {
            break;
        }
    }
    letters.push(b'w');
    letters.reverse();
    letters
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "53 bits are exact, and the power lies between 1 and VOCABULARY"
)]
fn write_text(size: u64, output: &mut impl Write) -> io::Result<()> {
    let mut written = 0;
    let mut token = 0u64;
    while written < size {
        let random = mix(token ^ 0x00AB_CDEF);
        let share = (random >> 11) as f64 / (1u64 << 53) as f64;
        let mut text = word(VOCABULARY.powf(share).floor() as u64 - 1);
        if random.is_multiple_of(7) {
            text[0] = text[0].to_ascii_uppercase();
        }
        token += 1;
        text.extend_from_slice(match (token.is_multiple_of(10), random.is_multiple_of(11)) {
            (true, _) => b".\n",
            (false, true) => b", ",
            (false, false) => b" ",
        });
        let left = usize::try_from(size - written).unwrap_or(usize::MAX);
        text.truncate(left);
        output.write_all(&text)?;
        written += u64::try_from(text.len()).expect("a short word");
    }
    output.flush()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [size, path] = arguments.as_slice() else {
        eprintln!("usage: generate_text SIZE_BYTES OUTPUT");
        return ExitCode::from(2);
    };
    let Ok(size) = size.parse() else {
        eprintln!("{size:?} is no number of bytes");
        return ExitCode::from(2);
    };
    match File::create(path).and_then(|file| write_text(size, &mut BufWriter::new(file))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("write {path}: {error}");
            ExitCode::FAILURE
        }
    }
}
