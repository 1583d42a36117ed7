//! Golden bytes of the frames, and what damaged ones give.

use super::*;
use expect_test::expect;

const CHANNEL: ChannelId = ChannelId { edge: 1, from: SubtaskIndex(2), to: SubtaskIndex(3) };

fn element(sequence: u64, element: WireElement) -> Frame {
    Frame::Element { channel: CHANNEL, sequence, element }
}

fn examples() -> Vec<Frame> {
    vec![
        Frame::Open,
        element(0, WireElement::Batch(Bytes::from_static(b"records"))),
        element(1, WireElement::Watermark(-1_000)),
        element(2, WireElement::Barrier(77)),
        element(3, WireElement::EndOfInput),
        Frame::Credit { channel: CHANNEL, sequence: 5, count: 4 },
    ]
}

fn bytes(frame: &Frame) -> Vec<u8> {
    let (header, payload) = frame.encode().expect("within the limit");
    [&header[..], &payload].concat()
}

/// Decodes a stream that was cut into pieces of `piece` bytes, up to its end or the first error.
fn decode(stream: &[u8], piece: usize) -> (Vec<Frame>, Result<(), Error>) {
    let mut decoder = FrameDecoder::default();
    let mut frames = Vec::new();
    for mut input in stream.chunks(piece) {
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
        assert!(decoder.payload.capacity() <= FIRST_ALLOTMENT_BYTES.max(4 * stream.len()), "allots what has come");
    }
    (frames, decoder.finish())
}

/// A small seeded generator (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(bound).expect("fits")).expect("below bound")
    }
}

/// Golden bytes: a change here is a change of the protocol and needs another VERSION.
#[test]
fn the_bytes_of_a_frame_never_change_within_a_version() {
    let mut text = String::new();
    for frame in examples() {
        let hex: Vec<String> = bytes(&frame).iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!("{}\n", hex.join(""));
    }
    expect![[r#"
        1c0000000101000000000000000000000000000000000000000000005635018a
        230000000102000001000000020000000300000000000000000000004006444a7265636f726473
        24000000010300000100000002000000030000000100000000000000bbcf338c18fcffffffffffff
        24000000010400000100000002000000030000000200000000000000d2004fc34d00000000000000
        1c000000010500000100000002000000030000000300000000000000f35f8b91
        20000000010600000100000002000000030000000500000000000000bb6fb6eb04000000
    "#]]
    .assert_eq(&text);
}

#[test]
fn frames_survive_any_cut_of_the_stream() {
    let stream: Vec<u8> = examples().iter().flat_map(bytes).collect();
    for piece in 1..=stream.len() {
        assert_eq!(decode(&stream, piece), (examples(), Ok(())), "pieces of {piece} bytes");
    }
}

#[test]
fn a_truncated_stream_gives_the_whole_frames_and_says_what_is_missing() {
    let frames = examples();
    let stream: Vec<u8> = frames.iter().flat_map(bytes).collect();
    let ends: Vec<usize> = frames
        .iter()
        .scan(0, |end, frame| {
            *end += bytes(frame).len();
            Some(*end)
        })
        .collect();
    for cut in 0..stream.len() {
        let (decoded, end) = decode(&stream[..cut], 13);
        let whole = ends.iter().filter(|&&end| end <= cut).count();
        assert_eq!(decoded, frames[..whole], "cut at {cut}");
        let between_frames = cut == 0 || ends.contains(&cut);
        assert_eq!(end.is_ok(), between_frames, "cut at {cut}");
        assert!(between_frames || matches!(end, Err(Error::Truncated { .. })), "cut at {cut}");
    }
}

#[test]
fn every_flipped_bit_of_a_frame_is_noticed() {
    for frame in examples() {
        let good = bytes(&frame);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let (frames, end) = decode(&bad, 7);
            assert!(frames.is_empty() && end.is_err(), "bit {bit} of {frame:?}");
        }
    }
}

#[test]
fn random_bytes_give_typed_errors() {
    let mut random = Random(1);
    for round in 0..20_000 {
        let mut stream: Vec<u8> =
            (0..random.below(100)).map(|_| u8::try_from(random.below(256)).expect("a byte")).collect();
        if round % 2 == 0 && stream.len() > 5 {
            // A plausible length and the right version, so that the later checks are reached too.
            stream[..4].copy_from_slice(&u32::try_from(28 + random.below(40)).expect("small").to_le_bytes());
            stream[4] = VERSION;
        }
        let (frames, _) = decode(&stream, 1 + random.below(20));
        assert!(frames.is_empty(), "a random checksum was right: {frames:?}");
    }
}

#[test]
fn a_claimed_length_is_checked_before_anything_is_allotted() {
    let claim = |length: usize| {
        let mut stream = bytes(&Frame::Open);
        stream[..4].copy_from_slice(&u32::try_from(length).expect("fits").to_le_bytes());
        decode(&stream, 8).1
    };
    assert_eq!(claim(27), Err(Error::TooShort { length: 27 }));
    assert_eq!(claim(28 + MAX_PAYLOAD_BYTES + 1), Err(Error::TooLarge { length: MAX_PAYLOAD_BYTES + 1 }));
    assert_eq!(claim(28 + MAX_PAYLOAD_BYTES), Err(Error::Truncated { missing: MAX_PAYLOAD_BYTES }));
    let huge = element(0, WireElement::Batch(vec![0; MAX_PAYLOAD_BYTES + 1].into()));
    assert_eq!(huge.encode(), Err(Error::TooLarge { length: MAX_PAYLOAD_BYTES + 1 }));
}

#[test]
fn what_this_version_does_not_have_is_named() {
    let sealed = |edit: fn(&mut [u8; HEADER_BYTES]), payload: &[u8]| {
        let header = Header { kind: kind::END_OF_INPUT, channel: CHANNEL, sequence: 0 };
        let mut header = header.encode(payload).expect("small");
        edit(&mut header);
        let checksum = checksum(&header, payload);
        header[CHECKSUM_OFFSET..].copy_from_slice(&checksum.to_le_bytes());
        decode(&[&header[..], payload].concat(), 64).1
    };
    assert_eq!(sealed(|header| header[4] = 9, b""), Err(Error::Version { found: 9 }));
    assert_eq!(sealed(|header| header[5] = 99, b""), Err(Error::Kind { found: 99 }));
    assert_eq!(sealed(|header| header[6] = 1, b""), Err(Error::Reserved { found: 1 }));
    assert_eq!(sealed(|_| (), b"x"), Err(Error::Payload { kind: kind::END_OF_INPUT, length: 1 }));
    assert_eq!(sealed(|header| header[5] = kind::CREDIT, b"x"), Err(Error::Payload { kind: 6, length: 1 }));
}
