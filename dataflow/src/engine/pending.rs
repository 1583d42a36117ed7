//! The order in which the results of asynchronous calls, and control between them, come out.

use std::collections::VecDeque;

use crate::record::{Control, Timestamp};

/// In which order results come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// That of the records.
    Ordered,
    /// As they become known, though none overtakes control, nor is overtaken by it.
    Unordered,
}

/// Names a call that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    segment: u64,
    time: Timestamp,
}

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output<R> {
    /// The result of a call with its record's event time.
    Result(R, Timestamp),
    /// Control.
    Control(Control),
}

/// Calls whose results may come out in any order, and what follows them.
#[derive(Debug)]
struct Segment<R> {
    /// How many calls have no result yet.
    running: usize,
    ready: VecDeque<(R, Timestamp)>,
    /// No call joins it any more.
    closed: bool,
    end: Option<Control>,
}

impl<R> Segment<R> {
    fn new() -> Self {
        Self { running: 0, ready: VecDeque::new(), closed: false, end: None }
    }
}

/// The calls of one operator, and the control that waits for them.
///
/// Invariants: `len` is the number of calls that have begun and whose results have not come out, at most `capacity`;
/// only the last segment is open.
#[derive(Debug)]
pub struct Pending<R> {
    order: Order,
    capacity: usize,
    segments: VecDeque<Segment<R>>,
    /// The number of the first segment.
    first: u64,
    len: usize,
}

impl<R> Pending<R> {
    /// Nothing, with room for so many calls at a time.
    #[must_use]
    pub fn new(order: Order, capacity: usize) -> Self {
        Self { order, capacity, segments: VecDeque::new(), first: 0, len: 0 }
    }

    /// Whether another call, or control, may join.
    #[must_use]
    pub fn has_room(&self) -> bool {
        // Control that piles up behind one slow call counts, too: each takes a segment.
        self.len < self.capacity && self.segments.len() <= 2 * self.capacity
    }

    /// Whether nothing is left to come out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.iter().all(|segment| segment.running == 0 && segment.ready.is_empty() && segment.end.is_none())
    }

    /// A call begins, for a record of this event time.
    pub fn begin(&mut self, time: Timestamp) -> Ticket {
        if self.segments.back().is_none_or(|last| last.closed) {
            self.segments.push_back(Segment::new());
        }
        self.len += 1;
        let segment = self.first + u64::try_from(self.segments.len()).expect("a usize fits") - 1;
        if let Some(last) = self.segments.back_mut() {
            last.running += 1;
            last.closed = self.order == Order::Ordered;
        }
        Ticket { segment, time }
    }

    /// The result of a call is known; a call has one result.
    pub fn complete(&mut self, ticket: Ticket, result: R) {
        let place = usize::try_from(ticket.segment - self.first).expect("it is among the segments");
        let segment = &mut self.segments[place];
        segment.running -= 1;
        segment.ready.push_back((result, ticket.time));
    }

    /// Control comes behind all calls so far. A watermark that follows another one at once replaces it.
    pub fn control(&mut self, control: Control) {
        if let (Some(last), Control::Watermark(_)) = (self.segments.back_mut(), control)
            && matches!(last.end, Some(Control::Watermark(_)))
        {
            last.end = Some(control);
            return;
        }
        if self.segments.back().is_none_or(|last| last.end.is_some()) {
            self.segments.push_back(Segment::new());
        }
        if let Some(last) = self.segments.back_mut() {
            last.closed = true;
            last.end = Some(control);
        }
    }

    /// What comes out next, if it is known.
    pub fn pop(&mut self) -> Option<Output<R>> {
        loop {
            let first = self.segments.front_mut()?;
            if let Some((result, time)) = first.ready.pop_front() {
                self.len -= 1;
                return Some(Output::Result(result, time));
            }
            if first.running > 0 || !first.closed {
                return None;
            }
            let end = first.end.take();
            self.segments.pop_front();
            self.first += 1;
            if let Some(control) = end {
                return Some(Output::Control(control));
            }
        }
    }
}

#[cfg(test)]
mod tests;
