//! The hidden sub-task in which a source's splits are found, and how it hands them to the readers.

use std::rc::Rc;
use std::time::Duration;

use tidemill_model::execution::Failure;
use tidemill_model::job_graph::Partitioning;

use super::{
    Boundedness, Discovery, Error, FromSplits, PlainReader, PlainSource, Reading, Source, SplitEnumerator, Times,
};
use crate::flow::{FlowBuilder, OperatorIndex, OutputPort, VertexIndex};
use crate::pipe::FromSource;
use crate::push::{Push, Stopped, blame};
use crate::record::{Control, Data, NO_TIME, Timestamp};
use crate::runtime::output::OutputChannel;
use crate::runtime::task::TaskContext;

/// The most splits that wait for one reader, beside one that it has taken: enough that it always finds one, few enough
/// that a slow one does not keep work from others.
const WAITING_SPLITS_MAX: usize = 1;

/// How long the enumerator sleeps when all readers have enough, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(10));

/// Adds a source to a program: the vertex of its readers, and the hidden one that finds their splits.
pub fn add_source<S: Source, W: Times<S::Out>>(
    builder: &mut FlowBuilder,
    (name, details): (&str, Vec<String>),
    parallelism: u32,
    source: S,
    times: W,
) -> (VertexIndex, OperatorIndex, FromSplits<S, W>) {
    let hidden = builder.add_vertex(1);
    builder.add_operator(hidden, "Splits", details.clone());
    let vertex = builder.add_vertex(parallelism);
    let operator = builder.add_operator(vertex, name, details);
    builder.mark_has_side_outputs(operator);
    if source.boundedness() == Boundedness::Unbounded {
        builder.mark_unbounded(operator);
    }
    if W::ASSIGNS {
        builder.mark_assigns_time(operator);
    }
    builder.hide(hidden, vertex);
    let splits = FromSource::new(Splits { source: source.clone(), operator });
    builder.end_in_exchange(hidden, splits, (vertex, Partitioning::Custom), SplitPartitioner::<S::Split>::new);
    (vertex, operator, FromSplits::new(source, times, operator))
}

/// The splits of a source, as records.
#[derive(Clone)]
struct Splits<S> {
    source: S,
    /// The readers, for whom it speaks.
    operator: OperatorIndex,
}

struct SplitsReader<E> {
    enumerator: E,
    /// Whether the readers were told that they have all splits that there are at present.
    settled: bool,
    operator: Rc<str>,
}

impl<S: Source> PlainSource for Splits<S> {
    type Out = S::Split;
    type Reader = SplitsReader<S::Enumerator>;

    fn open(&self, context: &TaskContext) -> Result<Self::Reader, Failure> {
        let operator = context.operator_name(self.operator);
        let readers = reader_count(context);
        let enumerator = blame(&operator, || self.source.enumerator(readers))
            .map_err(|reason| failure(context, &operator, reason))?;
        Ok(SplitsReader { enumerator, settled: false, operator })
    }
}

/// How many sub-tasks get the splits that are found here.
fn reader_count(context: &TaskContext) -> u32 {
    let edges = context.flow().output_edges(context.attempt().vertex.vertex, OutputPort::MAIN);
    edges.map(|edge| context.flow().consumers(edge, context.subtask()).len()).sum::<usize>().try_into().unwrap_or(1)
}

#[cold]
fn failure(context: &TaskContext, operator: &str, reason: crate::runtime::sink::UserError) -> Failure {
    let error = Error::Discover { source_name: operator.to_owned(), reason };
    context.failure(error.kind(), Some(operator), error.to_string())
}

impl<T, E: SplitEnumerator<Split = T>> PlainReader<T> for SplitsReader<E> {
    fn read<N: Push<T>>(&mut self, next: &mut N, context: &TaskContext) -> Result<Reading, Stopped> {
        let enumerator = &mut self.enumerator;
        let found = blame(&self.operator, || enumerator.discover())
            .map_err(|reason| context.fail(failure(context, &self.operator, reason)))?;
        match found {
            Discovery::Splits(splits) => {
                if std::mem::take(&mut self.settled) {
                    next.control(Control::Active)?;
                }
                splits.into_iter().try_for_each(|split| next.push(split, NO_TIME))?;
                Ok(Reading::More)
            }
            Discovery::Wait(time) => {
                if !std::mem::replace(&mut self.settled, true) {
                    next.control(Control::Idle)?;
                }
                Ok(Reading::Wait(time))
            }
            Discovery::Done => Ok(Reading::Ended),
        }
    }
}

/// Hands each split to the reader with the fewest waiting.
struct SplitPartitioner<S> {
    channels: Vec<OutputChannel<S>>,
    next: usize,
    context: TaskContext,
}

impl<S: Data> SplitPartitioner<S> {
    fn new(context: &TaskContext) -> Result<Self, Failure> {
        let edge = context.outputs(OutputPort::MAIN)?.pop().expect("the builder makes an edge with each exchange");
        Ok(Self { channels: edge.channels, next: 0, context: context.clone() })
    }

    /// The reader with the fewest splits waiting, and how many; of several the one whose turn it is.
    fn emptiest(&self) -> (usize, usize) {
        let count = self.channels.len();
        let in_turn = (0..count).map(|offset| (self.next + offset) % count);
        let waiting = in_turn.map(|channel| (channel, self.channels[channel].waiting()));
        waiting.min_by_key(|(_, waiting)| *waiting).expect("a vertex has sub-tasks")
    }
}

impl<S: Data> Push<S> for SplitPartitioner<S> {
    fn push(&mut self, split: S, time: Timestamp) -> Result<(), Stopped> {
        let mut pause = PAUSE.0;
        let chosen = loop {
            let (channel, waiting) = self.emptiest();
            if waiting < WAITING_SPLITS_MAX {
                break channel;
            }
            // Nothing tells when a reader takes a split: channels wake their senders only when they were full.
            self.context.wait(pause)?;
            pause = (pause * 2).min(PAUSE.1);
        };
        self.next = (chosen + 1) % self.channels.len();
        self.channels[chosen].push(split, time, &self.context)?;
        self.channels[chosen].flush(&self.context)
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        self.channels.iter_mut().try_for_each(|channel| channel.control(control, &self.context))
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FileSplits, NoTimes, TextSource};
    use super::*;
    use crate::runtime::counter::Counters;
    use crate::runtime::sink::DiscardSink;
    use tidemill_model::job::RuntimeMode;

    #[test]
    fn the_hidden_vertex_is_where_its_readers_are_and_its_uid_follows_theirs() {
        let mut builder = FlowBuilder::new(Counters::default());
        let source = TextSource::new(FileSplits::once("in".into()));
        let (vertex, operator, pipe) = add_source(&mut builder, ("Source", Vec::new()), 3, source, NoTimes);
        builder.set_uid(operator, "lines");
        builder.set_slot_sharing_group(vertex, "heavy");
        builder.add_operator(vertex, "Sink", Vec::new());
        builder.end_in_sink(vertex, pipe, DiscardSink);
        let flow = builder.build(RuntimeMode::Automatic).unwrap();
        let [hidden, readers] = flow.graph().vertices.as_slice() else { panic!("{}", flow.graph()) };
        assert_eq!((hidden.parallelism, readers.parallelism), (1, 3));
        assert_eq!(hidden.operators[0].uid, "lines-splits");
        assert_eq!((&hidden.slot_sharing_group.0, &readers.slot_sharing_group.0), (&"heavy".into(), &"heavy".into()));
        assert_eq!(flow.mode(), RuntimeMode::Batch);
    }
}
