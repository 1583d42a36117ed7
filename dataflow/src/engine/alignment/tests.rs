//! Orders of control on several channels, and what they mean together.

use super::*;
use Control::{Active, Barrier, EndOfInput, Idle, Watermark};

#[test]
fn the_gate_ends_with_its_last_channel() {
    let mut alignment = Alignment::new(2, CheckpointingMode::ExactlyOnce);
    assert_eq!(alignment.step(1, EndOfInput), vec![]);
    assert!(alignment.readable(0) && !alignment.readable(1));
    assert_eq!(alignment.step(0, EndOfInput), vec![EndOfInput]);
    assert!(alignment.ended());
}

#[test]
fn the_least_watermark_counts_and_only_grows() {
    let mut alignment = Alignment::new(2, CheckpointingMode::ExactlyOnce);
    assert_eq!(alignment.step(0, Watermark(5)), vec![]);
    assert_eq!(alignment.step(1, Watermark(3)), vec![Watermark(3)]);
    assert_eq!(alignment.step(1, Watermark(3)), vec![]);
    assert_eq!(alignment.step(1, Watermark(9)), vec![Watermark(5)]);
    assert_eq!(alignment.step(0, EndOfInput), vec![Watermark(9)]);
}

#[test]
fn a_channel_waits_behind_its_barrier_until_all_have_it() {
    let mut alignment = Alignment::new(3, CheckpointingMode::ExactlyOnce);
    assert_eq!(alignment.step(0, Barrier(1)), vec![]);
    assert!(!alignment.readable(0) && alignment.readable(1));
    assert_eq!(alignment.step(1, Barrier(1)), vec![]);
    assert_eq!(alignment.step(2, EndOfInput), vec![Barrier(1)]);
    assert!(alignment.readable(0) && alignment.readable(1));
}

#[test]
fn with_at_least_once_no_channel_waits() {
    let mut alignment = Alignment::new(2, CheckpointingMode::AtLeastOnce);
    assert_eq!(alignment.step(0, Barrier(1)), vec![]);
    assert!(alignment.readable(0) && alignment.readable(1));
    assert_eq!(alignment.step(1, Barrier(1)), vec![Barrier(1)]);
}

#[test]
fn a_newer_barrier_ends_the_wait_for_an_older_one() {
    let mut alignment = Alignment::new(2, CheckpointingMode::ExactlyOnce);
    assert_eq!(alignment.step(0, Barrier(1)), vec![]);
    assert_eq!(alignment.step(1, Barrier(2)), vec![]);
    assert!(alignment.readable(0) && !alignment.readable(1));
    assert_eq!(alignment.step(0, Barrier(2)), vec![Barrier(2)]);
}

#[test]
fn a_checkpoint_that_is_given_up_holds_no_channel_and_its_late_barriers_mean_nothing() {
    let mut alignment = Alignment::new(2, CheckpointingMode::ExactlyOnce);
    assert_eq!(alignment.step(0, Barrier(1)), vec![]);
    alignment.abort(1);
    assert!(alignment.readable(0) && alignment.readable(1));
    assert_eq!(alignment.step(1, Barrier(1)), vec![]);
    assert!(alignment.readable(1));
    assert_eq!(alignment.step(1, Barrier(3)), vec![]);
    assert_eq!(alignment.step(1, EndOfInput), vec![]);
    assert_eq!(alignment.step(0, Barrier(3)), vec![Barrier(3)]);
}

#[test]
fn an_idle_channel_holds_nobody_back_and_takes_nothing_back() {
    let mut alignment = Alignment::new(2, CheckpointingMode::ExactlyOnce);
    assert_eq!(alignment.step(0, Watermark(5)), vec![]);
    assert_eq!(alignment.step(1, Idle), vec![Watermark(5)]);
    assert_eq!(alignment.step(0, Watermark(7)), vec![Watermark(7)]);
    assert_eq!(alignment.step(1, Active), vec![]);
    assert_eq!(alignment.step(1, Watermark(3)), vec![]);
    assert_eq!(alignment.step(0, Watermark(9)), vec![]);
    assert_eq!(alignment.step(1, Watermark(8)), vec![Watermark(8)]);
}

#[test]
fn a_gate_is_idle_when_all_its_channels_are() {
    let mut alignment = Alignment::new(2, CheckpointingMode::ExactlyOnce);
    assert_eq!(alignment.step(0, Watermark(5)), vec![]);
    assert_eq!(alignment.step(1, Watermark(3)), vec![Watermark(3)]);
    assert_eq!(alignment.step(1, Idle), vec![Watermark(5)]);
    assert_eq!(alignment.step(0, Idle), vec![Idle]);
    assert_eq!(alignment.step(1, Active), vec![Active]);
    assert_eq!(alignment.step(1, EndOfInput), vec![Idle]);
    assert_eq!(alignment.step(0, Active), vec![Active]);
    assert_eq!(alignment.step(0, EndOfInput), vec![EndOfInput]);
}

#[test]
fn an_input_that_ends_does_not_end_time_for_an_idle_one() {
    let mut alignment = Alignment::new(3, CheckpointingMode::ExactlyOnce);
    assert_eq!(alignment.step(0, Watermark(5)), vec![]);
    assert_eq!(alignment.step(1, Idle), vec![]);
    assert_eq!(alignment.step(2, Idle), vec![Watermark(5)]);
    assert_eq!(alignment.step(2, Watermark(END_OF_TIME)), vec![]);
    assert_eq!(alignment.step(2, EndOfInput), vec![]);
    assert_eq!(alignment.step(0, Watermark(END_OF_TIME)), vec![Idle]);
    assert_eq!(alignment.step(0, EndOfInput), vec![]);
    assert_eq!(alignment.step(1, Active), vec![Active]);
    assert_eq!(alignment.step(1, Watermark(7)), vec![Watermark(7)]);
    assert_eq!(alignment.step(1, Idle), vec![Idle]);
    assert_eq!(alignment.step(1, Watermark(END_OF_TIME)), vec![Watermark(END_OF_TIME)]);
    assert_eq!(alignment.step(1, EndOfInput), vec![EndOfInput]);
}

#[test]
fn a_snapshot_is_taken_early_when_its_time_has_come_and_all_that_precedes_the_barriers_is_in_flight() {
    let mut alignment = Alignment::new(3, CheckpointingMode::ExactlyOnce);
    assert_eq!(alignment.step(0, Barrier(4)), vec![]);
    alignment.expect(4, 100);
    assert_eq!((alignment.overtakes_at(), alignment.overtake(99)), (Some(100), None));
    assert_eq!(alignment.overtake(100), Some(4));
    // The first channel was aligned: nothing of it is in flight, and it goes on.
    assert_eq!([0, 1, 2].map(|channel| alignment.is_in_flight(channel)), [false, true, true]);
    assert!([0, 1, 2].iter().all(|channel| alignment.readable(*channel)));
    assert_eq!(alignment.arrive(1, Watermark(7)), Arrival::InFlight);
    assert_eq!(alignment.arrive(1, Idle), Arrival::Other);
    assert_eq!(alignment.arrive(1, Barrier(4)), Arrival::Barrier);
    assert_eq!(alignment.arrive(1, Watermark(8)), Arrival::Other);
    assert_eq!((alignment.overtaking(), alignment.take_overtaken()), (Some(4), None));
    // An end of input comes instead of a barrier.
    assert_eq!(alignment.arrive(2, EndOfInput), Arrival::Other);
    assert_eq!(alignment.take_overtaken(), Some(4));
    assert_eq!((alignment.overtaking(), alignment.overtakes_at()), (None, None));
}

#[test]
fn a_checkpoint_that_is_aligned_in_time_is_not_overtaken() {
    let mut alignment = Alignment::new(2, CheckpointingMode::ExactlyOnce);
    alignment.expect(1, 100);
    assert_eq!(alignment.step(0, Barrier(1)), vec![]);
    assert_eq!(alignment.step(1, Barrier(1)), vec![Barrier(1)]);
    assert_eq!((alignment.overtakes_at(), alignment.overtake(100)), (None, None));
    // Heard of too late, or again.
    alignment.expect(1, 0);
    assert_eq!(alignment.overtake(100), None);
}

#[test]
fn the_first_time_that_a_checkpoint_is_heard_of_counts_and_a_newer_one_replaces_it() {
    let mut alignment = Alignment::new(1, CheckpointingMode::ExactlyOnce);
    alignment.expect(1, 100);
    alignment.expect(1, 200);
    assert_eq!(alignment.overtakes_at(), Some(100));
    alignment.expect(2, 300);
    assert_eq!((alignment.overtake(100), alignment.overtake(300)), (None, Some(2)));
}

#[test]
fn of_a_checkpoint_that_is_given_up_nothing_is_in_flight() {
    let overtaking = || {
        let mut alignment = Alignment::new(2, CheckpointingMode::ExactlyOnce);
        alignment.expect(1, 0);
        assert_eq!(alignment.overtake(0), Some(1));
        alignment
    };
    // It was aborted.
    let mut alignment = overtaking();
    alignment.abort(1);
    assert_eq!((alignment.overtaking(), alignment.is_in_flight(0)), (None, false));
    assert_eq!((alignment.step(0, Barrier(1)), alignment.readable(0)), (vec![], true));
    // A producer never sent its barrier.
    let mut alignment = overtaking();
    assert_eq!(alignment.arrive(0, Barrier(2)), Arrival::Other);
    assert_eq!((alignment.overtaking(), alignment.is_in_flight(1)), (None, false));
    assert_eq!(alignment.step(0, Barrier(2)), vec![]);
    assert!(!alignment.readable(0) && alignment.readable(1));
    assert_eq!(alignment.step(1, Barrier(2)), vec![Barrier(2)]);
    // The next one overtakes as well.
    let mut alignment = overtaking();
    alignment.expect(2, 0);
    assert_eq!(alignment.overtake(0), Some(2));
    assert_eq!(alignment.arrive(0, Barrier(1)), Arrival::Other);
    assert_eq!([0, 1].map(|channel| alignment.arrive(channel, Barrier(2))), [Arrival::Barrier; 2]);
    assert_eq!(alignment.take_overtaken(), Some(2));
}

#[test]
fn an_input_that_has_ended_takes_no_early_snapshot() {
    let mut alignment = Alignment::new(1, CheckpointingMode::ExactlyOnce);
    alignment.expect(1, 0);
    assert_eq!(alignment.step(0, EndOfInput), vec![EndOfInput]);
    assert_eq!(alignment.overtake(0), None);
}

/// A gate in small: what is under way on each channel, what has come, and what the snapshot of checkpoint 1 has.
#[derive(Clone)]
struct Small {
    alignment: Alignment,
    under_way: [Vec<Element>; 2],
    waiting: [Vec<Element>; 2],
    processed: Vec<u32>,
    snapshot: Option<Vec<u32>>,
    in_flight: [Vec<u32>; 2],
    whole: bool,
}

#[derive(Clone, Copy)]
enum Element {
    Record(u32),
    Control(Control),
}

impl Small {
    fn take_in(&mut self, channel: usize) {
        if self.under_way[channel].is_empty() {
            return;
        }
        let element = self.under_way[channel].remove(0);
        if let Some(element) = self.look_at(channel, element) {
            self.waiting[channel].push(element);
        }
    }

    /// What becomes of an element that has come or was waiting; none: it was the barrier.
    fn look_at(&mut self, channel: usize, element: Element) -> Option<Element> {
        match element {
            Element::Record(record) if self.alignment.is_in_flight(channel) => self.in_flight[channel].push(record),
            Element::Record(_) => {}
            Element::Control(control) => {
                if self.alignment.arrive(channel, control) == Arrival::Barrier {
                    self.whole |= self.alignment.take_overtaken() == Some(1);
                    return None;
                }
                self.whole |= self.alignment.take_overtaken() == Some(1);
            }
        }
        Some(element)
    }

    fn process(&mut self, channel: usize) {
        if self.waiting[channel].is_empty() || !self.alignment.readable(channel) {
            return;
        }
        match self.waiting[channel].remove(0) {
            Element::Record(record) => self.processed.push(record),
            Element::Control(control) => {
                if self.alignment.step(channel, control).contains(&Barrier(1)) {
                    self.snapshot = Some(self.processed.clone());
                    self.whole = true;
                }
            }
        }
    }

    fn overtake(&mut self) {
        if self.alignment.overtake(0) != Some(1) {
            return;
        }
        self.snapshot = Some(self.processed.clone());
        for channel in 0..2 {
            let waiting = std::mem::take(&mut self.waiting[channel]);
            self.waiting[channel] = waiting.into_iter().filter_map(|element| self.look_at(channel, element)).collect();
        }
    }

    /// Goes on in every order; answers how many ended with a snapshot in which something was in flight.
    fn explore(&self, before: &[u32]) -> usize {
        let mut overtaken = 0;
        let mut over = true;
        for next in 0..5 {
            let mut small = self.clone();
            match next {
                0 | 1 => small.take_in(next),
                2 | 3 => small.process(next - 2),
                _ => small.overtake(),
            }
            let left = |small: &Self| {
                let elements = small.under_way.iter().chain(&small.waiting);
                (elements.map(Vec::len).sum::<usize>(), small.waiting[0].len() + small.waiting[1].len())
            };
            if left(&small) != left(self) || small.snapshot.is_some() != self.snapshot.is_some() {
                over = false;
                overtaken += small.explore(before);
            }
        }
        if over {
            assert!(self.whole, "the snapshot is whole when every element was processed");
            let mut kept = self.snapshot.clone().unwrap();
            kept.extend(self.in_flight.iter().flatten());
            kept.sort_unstable();
            assert_eq!(kept, before, "each record before the barriers is kept once, and none after them");
            overtaken = usize::from(self.in_flight.iter().any(|records| !records.is_empty()));
        }
        overtaken
    }
}

#[test]
fn in_whatever_order_things_happen_a_snapshot_has_each_record_before_the_barriers_once() {
    use Element::{Control as Said, Record};
    let barrier = [Record(0), Said(Barrier(1)), Record(10)];
    for end in [Barrier(1), EndOfInput] {
        let mut alignment = Alignment::new(2, CheckpointingMode::ExactlyOnce);
        alignment.expect(1, 0);
        let small = Small {
            alignment,
            under_way: [barrier.to_vec(), vec![Record(1), Said(end)]],
            waiting: [vec![], vec![]],
            processed: vec![],
            snapshot: None,
            in_flight: [vec![], vec![]],
            whole: false,
        };
        assert!(small.explore(&[0, 1]) > 0, "in some order, records are in flight");
    }
}
