//! One job as this task manager hosts it: its generations, and which attempts were here before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidemill_model::id::{AttemptNumber, ExecutionAttemptId, ExecutionVertexId};
use tidemill_model::job::JobSpec;

use super::generation::Generation;

/// How many ended generations are remembered, to refuse their data connections at once; those of older ones are told
/// to dial again, in vain.
const REMEMBERED_GENERATIONS: usize = 64;

/// A job's generations: attempt numbers that live at once, since a failover replaces one region's attempts only.
#[derive(Debug, Default)]
pub(crate) struct HostedJob {
    /// Each with an executor process of its own.
    pub(crate) generations: BTreeMap<AttemptNumber, Generation>,
    /// Promise `no-zombie`: the highest number deployed here of each sub-task, kept until the job is released.
    known: BTreeMap<ExecutionVertexId, AttemptNumber>,
    /// Generations that were ended, the newest of them.
    retired: BTreeSet<AttemptNumber>,
}

impl HostedJob {
    /// The generation of this number, made if need be.
    pub(crate) fn generation(&mut self, spec: JobSpec, number: AttemptNumber) -> &mut Generation {
        self.retired.remove(&number);
        self.generations.entry(number).or_insert_with(|| Generation::new(Arc::new(spec), number))
    }

    /// The newest number with anything here.
    pub(crate) fn newest(&self) -> Option<AttemptNumber> {
        self.generations.keys().next_back().copied()
    }

    /// The number that stands against publishing what this attempt staged: a higher one of the same sub-task.
    pub(crate) fn higher(&self, vertex: ExecutionVertexId, number: AttemptNumber) -> Option<AttemptNumber> {
        self.known.get(&vertex).copied().filter(|&known| known > number)
    }

    /// The number that stands against running this attempt: a higher one, or its own when its generation was ended.
    pub(crate) fn superseded(&self, vertex: ExecutionVertexId, number: AttemptNumber) -> Option<AttemptNumber> {
        let ended = self.known.get(&vertex) == Some(&number) && !self.generations.contains_key(&number);
        self.higher(vertex, number).or(ended.then_some(number))
    }

    /// Remembers that these were deployed.
    pub(crate) fn know(&mut self, attempts: &[ExecutionAttemptId]) {
        self.known.extend(attempts.iter().map(|id| (id.vertex, id.attempt)));
    }

    /// Takes out the generations of which nothing is left to do, all but the newest: that one may have to finalize.
    pub(crate) fn take_settled(&mut self) -> Vec<Generation> {
        let newest = self.newest();
        let settled: Vec<AttemptNumber> = self
            .generations
            .iter()
            .filter(|(number, generation)| Some(**number) != newest && generation.is_settled())
            .map(|(&number, _)| number)
            .collect();
        self.retired.extend(&settled);
        while self.retired.len() > REMEMBERED_GENERATIONS {
            self.retired.pop_first();
        }
        settled.iter().filter_map(|number| self.generations.remove(number)).collect()
    }

    /// Whether a generation was ended here.
    pub(crate) fn has_retired(&self, number: AttemptNumber) -> bool {
        self.retired.contains(&number)
    }
}
