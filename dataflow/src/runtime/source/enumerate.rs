//! The hidden sub-task in which a source's splits are found, and how it hands them to the readers.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tidemill_model::execution::Failure;
use tidemill_model::job_graph::Partitioning;

use super::{Boundedness, Discovery, Error, FromSplits, Source, SplitEnumerator, Times};
use crate::flow::{FlowBuilder, OperatorIndex, OutputPort, VertexIndex};
use crate::push::{Stopped, blame};
use crate::record::{Control, END_OF_TIME, NO_TIME};
use crate::runtime::clock::Stopwatch;
use crate::runtime::output::OutputChannel;
use crate::runtime::sink::UserError;
use crate::runtime::task::{Task, TaskContext};

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
    let enumerated = source.clone();
    builder.run_task(hidden, (vertex, Partitioning::Custom), move |context| {
        EnumeratorTask::open(&enumerated, operator, context)
    });
    (vertex, operator, FromSplits::new(source, times, operator))
}

/// The name of the state that says which splits were handed out.
const POSITION: &str = "position";

/// What the hidden sub-task keeps: the enumerator's state, the splits that nobody has, and whether all were found.
type Position<E> = (<E as SplitEnumerator>::State, Vec<<E as SplitEnumerator>::Split>, bool);

/// The hidden sub-task of a source.
///
/// Splits wait here, where a checkpoint finds them, until a reader has room: it takes barriers meanwhile.
struct EnumeratorTask<S: Source> {
    enumerator: S::Enumerator,
    found: VecDeque<S::Split>,
    /// Whether all splits were found.
    done: bool,
    /// Whether the readers were told that they have all splits that there are at present.
    settled: bool,
    channels: Vec<OutputChannel<S::Split>>,
    /// The reader whose turn it is.
    next: usize,
    /// The name of the readers' operator, for whom it speaks.
    operator: Rc<str>,
    context: TaskContext,
}

/// How many sub-tasks get the splits that are found here.
fn reader_count(context: &TaskContext) -> u32 {
    let edges = context.flow().output_edges(context.attempt().vertex.vertex, OutputPort::MAIN);
    edges.map(|edge| context.flow().consumers(edge, context.subtask()).len()).sum::<usize>().try_into().unwrap_or(1)
}

#[cold]
fn failure(context: &TaskContext, operator: &str, reason: UserError) -> Failure {
    let error = Error::Discover { source_name: operator.to_owned(), reason };
    context.failure(error.kind(), Some(operator), error.to_string())
}

impl<S: Source> EnumeratorTask<S> {
    fn open(source: &S, operator: OperatorIndex, context: &TaskContext) -> Result<Self, Failure> {
        let operator = context.operator_name(operator);
        let readers = reader_count(context);
        let position = context.restored_values::<Position<S::Enumerator>>(&context.first_uid().state(POSITION))?.pop();
        let (state, found, done) = match position {
            Some((state, found, done)) => (Some(state), found, done),
            None => (None, Vec::new(), false),
        };
        let enumerator = blame(&operator, || source.enumerator(readers, state))
            .map_err(|reason| failure(context, &operator, reason))?;
        let edge = context.outputs(OutputPort::MAIN)?.pop().expect("the builder makes an edge with the task");
        Ok(Self {
            enumerator,
            found: found.into(),
            done,
            settled: false,
            channels: edge.channels,
            next: 0,
            operator,
            context: context.clone(),
        })
    }

    fn say(&mut self, control: Control) -> Result<(), Stopped> {
        self.channels.iter_mut().try_for_each(|channel| channel.control(control, &self.context))
    }

    /// The reader with the fewest splits waiting, if it has room; of several the one whose turn it is.
    fn with_room(&self) -> Option<usize> {
        let count = self.channels.len();
        let in_turn = (0..count).map(|offset| (self.next + offset) % count);
        let waiting = in_turn.map(|channel| (channel, self.channels[channel].waiting()));
        let (channel, waiting) = waiting.min_by_key(|(_, waiting)| *waiting)?;
        (waiting < WAITING_SPLITS_MAX).then_some(channel)
    }

    /// Hands a split to a reader that has room, if there are both.
    fn hand_out(&mut self) -> Result<bool, Stopped> {
        let Some(channel) = self.with_room() else { return Ok(false) };
        let Some(split) = self.found.pop_front() else { return Ok(false) };
        self.next = (channel + 1) % self.channels.len();
        self.channels[channel].push(split, NO_TIME, &self.context)?;
        self.channels[channel].flush(&self.context)?;
        Ok(true)
    }

    /// Looks for splits; answers how long to wait when there are none at present.
    fn discover(&mut self) -> Result<Option<Duration>, Stopped> {
        let enumerator = &mut self.enumerator;
        let found = blame(&self.operator, || enumerator.discover())
            .map_err(|reason| self.context.fail(failure(&self.context, &self.operator, reason)))?;
        match found {
            Discovery::Splits(splits) => {
                if std::mem::take(&mut self.settled) {
                    self.say(Control::Active)?;
                }
                self.found.extend(splits);
                Ok(None)
            }
            Discovery::Wait(time) => {
                if !std::mem::replace(&mut self.settled, true) {
                    self.say(Control::Idle)?;
                }
                Ok(Some(time))
            }
            Discovery::Done => {
                self.done = true;
                Ok(None)
            }
        }
    }

    #[cold]
    fn on_checkpoint_news(&mut self) -> Result<(), Stopped> {
        if let Some(checkpoint) = self.context.take_completed() {
            self.context.confirm(checkpoint);
        }
        if let Some(checkpoint) = self.context.wanted_trigger() {
            let enumerator = &self.enumerator;
            let state = blame(&self.operator, || enumerator.state());
            let position: Position<S::Enumerator> = (state, self.found.iter().cloned().collect(), self.done);
            self.context.keep_value(self.context.first_uid().state(POSITION), position);
            self.say(Control::Barrier(checkpoint))?;
            self.context.barrier_passed(checkpoint);
        }
        Ok(())
    }

    /// Waits for so long, and takes part in checkpoints meanwhile.
    fn wait(&mut self, time: Duration) -> Result<(), Stopped> {
        let watch = Stopwatch::start();
        loop {
            let left = time.saturating_sub(watch.elapsed());
            self.context.wait(left)?;
            if self.context.has_checkpoint_news() {
                self.on_checkpoint_news()?;
            }
            if watch.elapsed() >= time || self.context.is_draining() {
                return Ok(());
            }
        }
    }
}

impl<S: Source> Task for EnumeratorTask<S> {
    fn run(&mut self) -> Result<(), Stopped> {
        if self.context.had_finished() {
            return self.say(Control::FinishedBefore);
        }
        let mut pause = PAUSE.0;
        while !(self.done && self.found.is_empty() || self.context.is_draining()) {
            self.context.poll()?;
            if self.context.has_checkpoint_news() {
                self.on_checkpoint_news()?;
            }
            if self.found.is_empty() {
                if let Some(time) = self.discover()? {
                    self.wait(time)?;
                }
            } else if self.hand_out()? {
                pause = PAUSE.0;
            } else {
                // Nothing tells when a reader takes a split: channels wake their senders only when they were full.
                self.wait(pause)?;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
        self.say(Control::Watermark(END_OF_TIME))?;
        self.say(Control::EndOfInput)
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
