//! Which coordinator to ask next: a pure state machine over the refusals of those that were asked.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::error::Error;

/// The longest first pause between two rounds; doubles with each round.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause: an election takes 100 to 300 ms, so a longer one would only add delay.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How often one round follows a named leader: two followers that name each other must not spin.
const REDIRECTS_PER_ROUND: u32 = 3;

/// Who can answer a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Only the leader.
    Leader,
    /// Every coordinator that reaches the leader.
    Reader,
    /// Whoever has the answer.
    Anyone,
}

/// Why one coordinator did not answer, though another may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It follows, perhaps somebody it can name.
    NotLeader {
        /// The leader's address.
        leader: Option<String>,
    },
    /// It knows that nobody leads.
    NoLeader(String),
    /// It belongs to no cluster yet.
    NotInitialized,
    /// It does not have the thing, but others may.
    NotFound(String),
    /// No answer.
    Unreachable(String),
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask this coordinator.
    Try(String),
    /// Everybody was asked: give up if the deadline has passed, else wait up to this long.
    Pause(Duration),
}

/// One search for a coordinator that answers.
#[derive(Debug)]
pub(crate) struct LeaderSearch {
    coordinators: Vec<String>,
    /// Who is still to be asked in this round.
    queue: VecDeque<String>,
    redirects: u32,
    pause_max: Duration,
    /// Each coordinator's last refusal.
    refusals: BTreeMap<String, Refusal>,
}

impl LeaderSearch {
    /// A search that asks `preferred` first, then the others from the `start`-th on.
    pub(crate) fn new(coordinators: Vec<String>, preferred: Option<String>, start: usize) -> Self {
        let count = coordinators.len().max(1);
        let mut queue: VecDeque<String> = coordinators.iter().cloned().collect();
        queue.rotate_left(if queue.is_empty() { 0 } else { start % count });
        let mut search = Self { coordinators, queue, redirects: 0, pause_max: FIRST_PAUSE, refusals: BTreeMap::new() };
        if let Some(preferred) = preferred {
            search.put_first(preferred);
        }
        search
    }

    /// The next step; a pause begins a new round.
    pub(crate) fn step(&mut self) -> Step {
        if let Some(address) = self.queue.pop_front() {
            return Step::Try(address);
        }
        self.queue = self.coordinators.iter().cloned().collect();
        self.redirects = 0;
        let pause_max = self.pause_max;
        self.pause_max = LONGEST_PAUSE.min(pause_max * 2);
        Step::Pause(pause_max)
    }

    /// Takes note of a refusal; an error when it is certain that no coordinator will answer otherwise.
    pub(crate) fn refused(&mut self, by: &str, refusal: Refusal) -> Result<(), Error> {
        if let Refusal::NotLeader { leader: Some(leader) } = &refusal
            && leader != by
            && self.redirects < REDIRECTS_PER_ROUND
        {
            self.redirects += 1;
            self.put_first(leader.clone());
        }
        self.refusals.insert(by.to_owned(), refusal);
        // A single uninitialized coordinator may be a wiped replica of a living cluster.
        if self.all_said(|refusal| matches!(refusal, Refusal::NotInitialized)) {
            return Err(Error::NotInitialized);
        }
        if self.all_said(|refusal| matches!(refusal, Refusal::NotFound(_))) {
            return Err(self.give_up());
        }
        Ok(())
    }

    /// The error that sums up what the coordinators said.
    pub(crate) fn give_up(&self) -> Error {
        let (mut no_leader, mut unreachable, mut not_found, mut not_initialized) = (None, None, None, false);
        for (address, refusal) in &self.refusals {
            match refusal {
                Refusal::NotLeader { leader: None } => no_leader = Some(format!("{address} follows nobody")),
                Refusal::NotLeader { leader: Some(leader) } => {
                    no_leader = Some(format!("{address} names {leader}, which does not lead"));
                }
                Refusal::NoLeader(reason) => no_leader = Some(format!("{address}: {reason}")),
                Refusal::NotInitialized => not_initialized = true,
                Refusal::NotFound(message) => not_found = Some(message.clone()),
                Refusal::Unreachable(reason) => unreachable = Some(format!("{address}: {reason}")),
            }
        }
        let coordinators = self.coordinators.clone();
        match (no_leader, not_found, not_initialized) {
            (Some(last), _, _) => Error::NoLeader { coordinators, last },
            (None, Some(message), _) => Error::NotFound(message),
            (None, None, true) => Error::NotInitialized,
            (None, None, false) => {
                let last = unreachable.unwrap_or_else(|| "no addresses were given".to_owned());
                Error::AllUnreachable { coordinators, last }
            }
        }
    }

    fn put_first(&mut self, address: String) {
        self.queue.retain(|other| *other != address);
        self.queue.push_front(address);
    }

    fn all_said(&self, said: impl Fn(&Refusal) -> bool) -> bool {
        self.coordinators.iter().all(|address| self.refusals.get(address).is_some_and(&said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(preferred: Option<&str>) -> LeaderSearch {
        let coordinators = ["a:1", "b:1", "c:1"].map(str::to_owned).to_vec();
        LeaderSearch::new(coordinators, preferred.map(str::to_owned), 0)
    }

    fn tried(search: &mut LeaderSearch) -> String {
        match search.step() {
            Step::Try(address) => address,
            Step::Pause(pause) => panic!("paused {pause:?}"),
        }
    }

    fn unreachable() -> Refusal {
        Refusal::Unreachable("connection refused".to_owned())
    }

    #[test]
    fn the_remembered_leader_is_asked_first_and_nobody_twice_in_a_round() {
        let mut search = search(Some("b:1"));
        assert_eq!(["b:1", "a:1", "c:1"].map(str::to_owned), [(); 3].map(|()| tried(&mut search)));
        assert_eq!(search.step(), Step::Pause(FIRST_PAUSE));
    }

    #[test]
    fn a_named_leader_is_asked_next_even_when_it_is_not_in_the_list() {
        let mut search = search(None);
        let first = tried(&mut search);
        search.refused(&first, Refusal::NotLeader { leader: Some("new:1".to_owned()) }).unwrap();
        assert_eq!(tried(&mut search), "new:1");
    }

    #[test]
    fn two_coordinators_that_name_each_other_end_in_a_pause() {
        let mut search = search(None);
        let mut asked = 0;
        while let Step::Try(address) = search.step() {
            let other = if address == "a:1" { "b:1" } else { "a:1" };
            search.refused(&address, Refusal::NotLeader { leader: Some(other.to_owned()) }).unwrap();
            asked += 1;
        }
        assert!(asked <= 3 + REDIRECTS_PER_ROUND, "asked {asked}");
    }

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let mut search = search(None);
        let mut pauses = Vec::new();
        while pauses.len() < 7 {
            if let Step::Pause(pause) = search.step() {
                pauses.push(pause.as_millis());
            }
        }
        assert_eq!(pauses, [20, 40, 80, 160, 320, 500, 500]);
    }

    #[test]
    fn one_uninitialized_coordinator_proves_nothing_but_all_of_them_do() {
        let mut search = search(None);
        search.refused("a:1", Refusal::NotInitialized).unwrap();
        search.refused("b:1", unreachable()).unwrap();
        search.refused("c:1", Refusal::NotInitialized).unwrap();
        assert_eq!(search.give_up(), Error::NotInitialized);
        assert_eq!(search.refused("b:1", Refusal::NotInitialized), Err(Error::NotInitialized));
    }

    #[test]
    fn giving_up_says_whether_anybody_answered() {
        let mut search = search(None);
        search.refused("a:1", unreachable()).unwrap();
        assert!(matches!(search.give_up(), Error::AllUnreachable { last, .. } if last == "a:1: connection refused"));
        search.refused("b:1", Refusal::NoLeader("no quorum".to_owned())).unwrap();
        assert!(matches!(search.give_up(), Error::NoLeader { last, .. } if last == "b:1: no quorum"));
    }

    #[test]
    fn without_any_address_the_error_says_so() {
        let mut search = LeaderSearch::new(Vec::new(), None, 5);
        assert!(matches!(search.step(), Step::Pause(_)));
        assert!(search.give_up().to_string().contains("no addresses were given"));
    }
}
