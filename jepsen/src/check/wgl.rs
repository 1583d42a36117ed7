//! Linearizability by the algorithm of Wing, Gong and Lowe: a search for an order, with a memo of what has been tried.
//!
//! A configuration is the set of operations that have been put in order, and the state which that leaves; the same one
//! is never searched twice. Histories are to be split by key first (`P-compositionality`): the search is exponential in
//! the number of operations that run at the same time.

use std::collections::HashSet;
use std::hash::Hash;

/// What an object does, one operation at a time.
pub trait Model {
    /// What it remembers.
    type State: Clone + Eq + Hash;
    /// What it is asked.
    type Input;
    /// What it answers.
    type Output;

    /// Its first state.
    fn init(&self) -> Self::State;

    /// The state after an operation, none if it cannot have been answered so. `None` as output: the answer is unknown.
    fn step(&self, state: &Self::State, input: &Self::Input, output: Option<&Self::Output>) -> Option<Self::State>;
}

/// One operation of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation<I, O> {
    /// Not before this did it take effect.
    pub call: u64,
    /// Not after this; [`u64::MAX`] when nobody knows.
    pub latest: u64,
    /// What was asked.
    pub input: I,
    /// What was answered; none: unknown.
    pub output: Option<O>,
}

/// What the search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Linearizability {
    /// There is such an order.
    Linearizable,
    /// There is none.
    Not {
        /// The longest sequence that fits, as indices of operations.
        longest: Vec<usize>,
        /// The operation that had to come next and fits nowhere behind it.
        stuck: usize,
    },
    /// The search was given up.
    Exhausted,
}

/// Searches for an order of the operations that the model allows and real time permits, in at most `steps` steps.
pub fn check<M: Model>(model: &M, operations: &[Operation<M::Input, M::Output>], steps: u64) -> Linearizability {
    Search::new(model, operations).run(steps)
}

/// Where an entry of the timeline leads: a doubly linked list over indices, so that entries are lifted out and put back.
struct Timeline {
    /// Operation and whether this is its end.
    entries: Vec<(usize, bool)>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Where each operation's call and end are; no end: it may take effect at any time.
    places: Vec<(usize, Option<usize>)>,
}

/// The entry before the first: a place for the list's head.
const HEAD: usize = 0;

impl Timeline {
    fn new(intervals: &[(u64, u64)]) -> Self {
        let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(intervals.len() * 2);
        for (operation, &(call, latest)) in intervals.iter().enumerate() {
            events.push((call, false, operation));
            if latest != u64::MAX {
                events.push((latest, true, operation));
            }
        }
        // Of two events at the same time, a call comes first: the operations may have been concurrent.
        events.sort_unstable();
        let count = events.len() + 1;
        let mut places = vec![(HEAD, None); intervals.len()];
        let mut entries = vec![(usize::MAX, false)];
        for (index, &(_, is_end, operation)) in events.iter().enumerate() {
            entries.push((operation, is_end));
            if is_end { places[operation].1 = Some(index + 1) } else { places[operation].0 = index + 1 }
        }
        let next = (1..=count).collect();
        let previous = (0..count).map(|index| index.saturating_sub(1)).collect();
        Self { entries, next, previous, places }
    }

    fn unlink(&mut self, entry: usize) {
        let (previous, next) = (self.previous[entry], self.next[entry]);
        self.next[previous] = next;
        if let Some(slot) = self.previous.get_mut(next) {
            *slot = previous;
        }
    }

    fn link(&mut self, entry: usize) {
        let (previous, next) = (self.previous[entry], self.next[entry]);
        self.next[previous] = entry;
        if let Some(slot) = self.previous.get_mut(next) {
            *slot = entry;
        }
    }

    fn lift(&mut self, operation: usize) {
        let (call, end) = self.places[operation];
        self.unlink(call);
        if let Some(end) = end {
            self.unlink(end);
        }
    }

    /// Puts back what was lifted last: the reverse order of `lift`.
    fn put_back(&mut self, operation: usize) {
        let (call, end) = self.places[operation];
        if let Some(end) = end {
            self.link(end);
        }
        self.link(call);
    }
}

struct Search<'a, M: Model> {
    model: &'a M,
    operations: &'a [Operation<M::Input, M::Output>],
    timeline: Timeline,
    /// Operations with a known end that are not in order yet.
    open: usize,
    done: Vec<u64>,
    seen: HashSet<(Vec<u64>, M::State)>,
    stack: Vec<(usize, M::State)>,
    longest: Vec<usize>,
    stuck: usize,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, operations: &'a [Operation<M::Input, M::Output>]) -> Self {
        let intervals: Vec<(u64, u64)> = operations.iter().map(|op| (op.call, op.latest)).collect();
        Self {
            model,
            operations,
            timeline: Timeline::new(&intervals),
            open: operations.iter().filter(|op| op.latest != u64::MAX).count(),
            done: vec![0; operations.len().div_ceil(64)],
            seen: HashSet::new(),
            stack: Vec::new(),
            longest: Vec::new(),
            stuck: 0,
        }
    }

    fn run(mut self, steps: u64) -> Linearizability {
        let mut state = self.model.init();
        let mut entry = self.timeline.next[HEAD];
        for _ in 0..steps {
            if self.open == 0 {
                return Linearizability::Linearizable;
            }
            let (operation, is_end) = self.timeline.entries[entry];
            if is_end {
                // Its time is up, and it fits nowhere before: what was put in order last must have come otherwise.
                self.note_stuck(operation);
                let Some((last, before)) = self.stack.pop() else {
                    return Linearizability::Not { longest: self.longest, stuck: self.stuck };
                };
                state = before;
                self.mark(last, false);
                self.timeline.put_back(last);
                entry = self.timeline.next[self.timeline.places[last].0];
            } else if let Some(after) = self.fits(operation, &state) {
                self.timeline.lift(operation);
                self.stack.push((operation, std::mem::replace(&mut state, after)));
                entry = self.timeline.next[HEAD];
            } else {
                entry = self.timeline.next[entry];
            }
        }
        Linearizability::Exhausted
    }

    /// The state behind the operation, if it fits here and that has not been tried.
    fn fits(&mut self, operation: usize, state: &M::State) -> Option<M::State> {
        let op = &self.operations[operation];
        let after = self.model.step(state, &op.input, op.output.as_ref())?;
        self.mark(operation, true);
        if self.seen.insert((self.done.clone(), after.clone())) {
            return Some(after);
        }
        self.mark(operation, false);
        None
    }

    fn mark(&mut self, operation: usize, is_done: bool) {
        let bit = 1_u64 << (operation % 64);
        if is_done {
            self.done[operation / 64] |= bit;
        } else {
            self.done[operation / 64] &= !bit;
        }
        if self.operations[operation].latest != u64::MAX {
            self.open = if is_done { self.open - 1 } else { self.open + 1 };
        }
    }

    fn note_stuck(&mut self, operation: usize) {
        if self.stack.len() >= self.longest.len() {
            self.longest = self.stack.iter().map(|(operation, _)| *operation).collect();
            self.stuck = operation;
        }
    }
}
