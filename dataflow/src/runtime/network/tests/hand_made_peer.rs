//! What an executor answers to a peer that speaks the protocol by hand, rightly and wrongly.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use tidemill_model::id::AttemptNumber;
use tidemill_proto::pb;
use tidemill_proto::pb::data_handshake_answer::Answer;

use super::{LIMIT, batch, channel, handshake, id, loss, network, receive, task_manager};
use crate::engine::credit::CREDITS_PER_CHANNEL;
use crate::engine::frame::Frame;
use crate::runtime::network::handshake::MAX_HANDSHAKE_BYTES;
use crate::runtime::network::{Handshake, Network, RemoteReceiver, TcpNetwork, WireElement, message};

/// A peer of executor 1 that speaks the protocol by hand, as executor 0.
struct HandMadePeer {
    network: Arc<TcpNetwork>,
    listener: TcpListener,
}

impl HandMadePeer {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addresses = ["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
        Self { network: network(1, 2, &addresses), listener }
    }

    fn dial(&self) -> TcpStream {
        self.dial_as(handshake())
    }

    fn dial_as(&self, handshake: Handshake) -> TcpStream {
        let stream = TcpStream::connect(self.listener.local_addr().expect("bound")).expect("listens");
        let (accepted, _) = self.listener.accept().expect("dialled");
        stream.set_read_timeout(Some(LIMIT)).expect("an option");
        self.network.accept(handshake, accepted);
        stream
    }

    fn receiver(&self) -> RemoteReceiver {
        self.network.receiver(task_manager(0), channel(0, 1)).expect("a channel")
    }
}

fn answer(stream: &TcpStream) -> (Answer, String) {
    let answer =
        message::read::<pb::DataHandshakeAnswer>(stream, MAX_HANDSHAKE_BYTES).expect("read").expect("not closed");
    (answer.answer(), answer.reason)
}

fn bytes(frame: &Frame) -> Vec<u8> {
    let (header, payload) = frame.encode().expect("small");
    [&header[..], &payload].concat()
}

fn element(sequence: u64, element: WireElement) -> Frame {
    Frame::Element { channel: channel(0, 1), sequence, element }
}

#[test]
fn a_peer_that_dials_again_before_it_confirmed_replaces_its_connection_and_afterwards_is_refused() {
    let peer = HandMadePeer::new();
    let receiver = peer.receiver();
    let sender = peer.network.sender(task_manager(0), channel(1, 0)).expect("a channel");
    let _unread = peer.dial();
    let mut second = peer.dial();
    assert_eq!(answer(&second), (Answer::Accepted, String::new()));
    assert!(sender.credits().is_empty(), "no element may be lost with a connection that is replaced");
    second.write_all(&bytes(&Frame::Open)).expect("open");
    second.write_all(&bytes(&element(0, batch(5)))).expect("open");
    assert_eq!(receive(&receiver), batch(5));
    assert_eq!(sender.credits().len(), usize::try_from(CREDITS_PER_CHANNEL).expect("small"));
    let third = peer.dial();
    assert_eq!(answer(&third), (Answer::Refused, "these executors are connected already".into()));
    second.write_all(&bytes(&element(1, WireElement::EndOfInput))).expect("still open");
    assert_eq!(receive(&receiver), WireElement::EndOfInput);
}

#[test]
fn a_connection_that_was_given_up_replaces_nothing() {
    let peer = HandMadePeer::new();
    let receiver = peer.receiver();
    let (stale, stale_accepted) = {
        let stream = TcpStream::connect(peer.listener.local_addr().expect("bound")).expect("listens");
        (stream, peer.listener.accept().expect("dialled").0)
    };
    let mut fresh = peer.dial();
    assert_eq!(answer(&fresh), (Answer::Accepted, String::new()));
    drop(stale);
    assert_eq!(stale_accepted.peek(&mut [0]).expect("the end is here"), 0);
    peer.network.accept(handshake(), stale_accepted);
    fresh.write_all(&bytes(&Frame::Open)).expect("open");
    fresh.write_all(&bytes(&element(0, batch(5)))).expect("open");
    assert_eq!(receive(&receiver), batch(5));
}

#[test]
fn handshakes_for_another_executor_are_refused() {
    let peer = HandMadePeer::new();
    let good = handshake();
    let refusal = |handshake: Handshake| {
        let (answer, reason) = answer(&peer.dial_as(handshake));
        assert_eq!(answer, Answer::Refused);
        reason
    };
    assert!(
        refusal(Handshake { attempt: AttemptNumber(2), ..good }).starts_with("this executor runs attempt 3 of job")
    );
    assert!(refusal(Handshake { cluster: id(9), ..good }).starts_with("this executor runs attempt 3"));
    assert!(refusal(Handshake { job: id(9), ..good }).starts_with("this executor runs attempt 3"));
    assert!(refusal(Handshake { to: task_manager(4), ..good }).starts_with("this executor runs attempt 3"));
    assert_eq!(
        refusal(Handshake { from: task_manager(4), ..good }),
        "the schedule does not name the dialling task manager"
    );
}

#[test]
fn frames_that_break_the_rules_end_the_connection_and_say_why() {
    let reason = |frames: &[Vec<u8>]| {
        let peer = HandMadePeer::new();
        let receiver = peer.receiver();
        let mut stream = peer.dial();
        assert_eq!(answer(&stream).0, Answer::Accepted);
        stream.write_all(&frames.concat()).expect("sent");
        loss(&receiver).reason
    };
    let open = bytes(&Frame::Open);
    let of_version = |version: u8| {
        let mut frame = bytes(&element(0, batch(0)));
        frame[4] = version;
        frame
    };
    assert_eq!(
        reason(&[open.clone(), of_version(2)]),
        "decode frame: version 2, this executor speaks 1; run the same release everywhere"
    );
    let first = bytes(&element(0, batch(0)));
    let mut damaged = first.clone();
    damaged[34] ^= 1;
    assert!(reason(&[open.clone(), damaged]).starts_with("decode frame: checksum"));
    assert_eq!(
        reason(&[open.clone(), first.clone(), bytes(&element(2, batch(2)))]),
        "check channel e0[0->1]: sequence number 2 follows, expected 1"
    );
    assert_eq!(
        reason(&[open.clone(), bytes(&Frame::Element { channel: channel(1, 1), sequence: 0, element: batch(0) })]),
        "accept frame: the job has no channel e0[1->1] between these task managers in this direction"
    );
    assert_eq!(
        reason(&[open.clone(), bytes(&Frame::Credit { channel: channel(1, 0), sequence: 0, count: 1 })]),
        "accept frame: the job has no channel e0[1->0] between these task managers in this direction"
    );
    let too_many = (0..9).map(|sequence| bytes(&element(sequence, batch(0)))).collect::<Vec<_>>();
    let too_many = reason(&[vec![open.clone()], too_many].concat());
    assert_eq!(too_many, "check channel e0[0->1]: an element was sent without a credit");
    let opened_twice = reason(&[open.clone(), open.clone()]);
    assert_eq!(opened_twice, "accept frame: the connection must be opened once, before anything else");
    assert_eq!(
        reason(&[open, vec![0xff; 40]]),
        "decode frame: a payload of 4294967267 bytes, at most 67108864 are allowed"
    );
}

#[test]
fn a_frame_that_is_cut_off_ends_the_connection_and_says_what_is_missing() {
    let whole = [bytes(&Frame::Open), bytes(&element(0, batch(7)))].concat();
    let peer = HandMadePeer::new();
    let receiver = peer.receiver();
    let mut stream = peer.dial();
    assert_eq!(answer(&stream).0, Answer::Accepted);
    stream.write_all(&whole[..whole.len() - 3]).expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("connected");
    assert_eq!(loss(&receiver).reason, "decode frame: the stream ended within a frame, 3 bytes before its end");
}
