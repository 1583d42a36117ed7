//! The ends of chains: which consumer each record goes to.

use std::borrow::Borrow;
use std::rc::Rc;

use tidemill_model::execution::Failure;
use tidemill_model::key::{Key, KeyHash};
use tidemill_model::key_group::KeyGroup;

use crate::flow::OutputPort;
use crate::key_selector::KeySelector;
use crate::push::{Push, Stopped, blame_on};
use crate::record::{Control, Data, Timestamp};
use crate::runtime::output::{OutputChannel, OutputEdge};
use crate::runtime::task::TaskContext;

/// The channels of the only edge behind a chain's main port.
fn only_edge<T: Data>(context: &TaskContext) -> Result<OutputEdge<T>, Failure> {
    Ok(context.outputs(OutputPort::MAIN)?.pop().expect("the builder makes an edge with each exchange"))
}

/// The end of a chain whose records are distributed by their keys' groups.
pub(crate) struct HashPartitioner<T, S> {
    channels: Vec<OutputChannel<T>>,
    /// The consumer of each key group.
    routes: Vec<u32>,
    selector: S,
    operator: Rc<str>,
    context: TaskContext,
}

impl<T: Data, S: KeySelector<T>> HashPartitioner<T, S> {
    /// `operator` is blamed when the selector panics.
    pub(crate) fn new(selector: S, operator: Rc<str>, context: &TaskContext) -> Result<Self, Failure> {
        let OutputEdge { channels, max_parallelism } = only_edge(context)?;
        let consumers = u32::try_from(channels.len()).expect("at most MAX_PARALLELISM_LIMIT sub-tasks");
        let route = |group| KeyGroup(group).subtask(consumers, max_parallelism).0;
        let routes = (0..max_parallelism).map(route).collect();
        Ok(Self { channels, routes, selector, operator, context: context.clone() })
    }

    /// Sends a record whose key's hash is known.
    #[inline(always)]
    pub(crate) fn push_hashed(&mut self, hash: KeyHash, record: T, time: Timestamp) -> Result<(), Stopped> {
        let max_parallelism = u32::try_from(self.routes.len()).expect("made from a u32 range");
        let group = KeyGroup::of(hash, max_parallelism);
        let consumer = self.routes[group.0 as usize];
        self.channels[consumer as usize].push(record, time, &self.context)
    }
}

impl<T: Data, S: KeySelector<T>> Push<T> for HashPartitioner<T, S> {
    #[inline(always)]
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        if let [only] = self.channels.as_mut_slice() {
            return only.push(record, time, &self.context);
        }
        let selector = &mut self.selector;
        let hash = blame_on(&self.operator, &record, || Borrow::<S::Key>::borrow(&selector.select(&record)).key_hash());
        self.push_hashed(hash, record, time)
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        self.channels.iter_mut().try_for_each(|channel| channel.control(control, &self.context))
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.channels.iter_mut().try_for_each(|channel| channel.flush(&self.context))
    }
}

/// Chooses a consumer for each record.
pub(crate) trait Route<T> {
    /// An index below `consumers`, which is not 0.
    fn consumer(&mut self, record: &T, consumers: usize) -> usize;
}

/// The next one each time: rebalance, rescale, and (with one consumer) forward.
pub(crate) struct RoundRobin {
    next: usize,
}

impl RoundRobin {
    /// Producers start at different consumers, so that few records do not all go to the first.
    pub(crate) fn new(context: &TaskContext) -> Self {
        Self { next: usize::try_from(context.subtask().0).unwrap_or(0) }
    }
}

impl<T> Route<T> for RoundRobin {
    #[inline(always)]
    fn consumer(&mut self, _record: &T, consumers: usize) -> usize {
        // The first start may lie behind the last consumer.
        let chosen = if self.next < consumers { self.next } else { self.next % consumers };
        self.next = chosen + 1;
        chosen
    }
}

/// Any one, by chance.
pub(crate) struct Shuffle {
    state: u64,
}

impl Shuffle {
    /// Each sub-task draws other numbers.
    pub(crate) fn new(context: &TaskContext) -> Self {
        Self { state: u64::from(context.subtask().0) }
    }
}

impl<T> Route<T> for Shuffle {
    #[inline(always)]
    fn consumer(&mut self, _record: &T, consumers: usize) -> usize {
        // Hashes of consecutive numbers are as good as random ones here.
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let high = self.state.key_hash().0 >> 32;
        let chosen = (high * u64::try_from(consumers).unwrap_or(u64::MAX)) >> 32;
        usize::try_from(chosen).unwrap_or(0)
    }
}

/// The first one.
pub(crate) struct Global;

impl<T> Route<T> for Global {
    #[inline(always)]
    fn consumer(&mut self, _record: &T, _consumers: usize) -> usize {
        0
    }
}

/// What a user's function says; the operator is blamed when it panics.
pub(crate) struct Custom<F> {
    function: F,
    operator: Rc<str>,
}

impl<F> Custom<F> {
    pub(crate) fn new(function: F, operator: Rc<str>) -> Self {
        Self { function, operator }
    }
}

impl<T: Data, F: FnMut(&T, usize) -> usize> Route<T> for Custom<F> {
    #[inline(always)]
    fn consumer(&mut self, record: &T, consumers: usize) -> usize {
        let function = &mut self.function;
        blame_on(&self.operator, record, || {
            let chosen = function(record, consumers);
            assert!(chosen < consumers, "the partitioner chose consumer {chosen} of {consumers}, counted from 0");
            chosen
        })
    }
}

/// The end of a chain whose records go to one consumer each, as `R` says.
pub(crate) struct RoutePartitioner<T, R> {
    channels: Vec<OutputChannel<T>>,
    route: R,
    context: TaskContext,
}

impl<T: Data, R: Route<T>> RoutePartitioner<T, R> {
    pub(crate) fn new(route: R, context: &TaskContext) -> Result<Self, Failure> {
        Ok(Self { channels: only_edge(context)?.channels, route, context: context.clone() })
    }
}

impl<T: Data, R: Route<T>> Push<T> for RoutePartitioner<T, R> {
    #[inline(always)]
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        let chosen = self.route.consumer(&record, self.channels.len());
        self.channels[chosen].push(record, time, &self.context)
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        self.channels.iter_mut().try_for_each(|channel| channel.control(control, &self.context))
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.channels.iter_mut().try_for_each(|channel| channel.flush(&self.context))
    }
}

/// The end of a chain, or a side output, whose records go to a consumer of every edge behind a port.
///
/// A port without edges takes records and forgets them: nobody asked for them.
pub(crate) struct PortPartitioner<T> {
    edges: Vec<(Vec<OutputChannel<T>>, RoundRobin)>,
    context: TaskContext,
}

impl<T: Data> PortPartitioner<T> {
    pub(crate) fn new(port: OutputPort, context: &TaskContext) -> Result<Self, Failure> {
        let edges = context.outputs(port)?.into_iter();
        let edges = edges.map(|edge| (edge.channels, RoundRobin::new(context))).collect();
        Ok(Self { edges, context: context.clone() })
    }

    fn channels(&mut self) -> impl Iterator<Item = &mut OutputChannel<T>> {
        self.edges.iter_mut().flat_map(|(channels, _)| channels)
    }
}

impl<T: Data> Push<T> for PortPartitioner<T> {
    #[inline]
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        let Some(((channels, route), others)) = self.edges.split_last_mut() else { return Ok(()) };
        for (channels, route) in others {
            let chosen = route.consumer(&record, channels.len());
            channels[chosen].push(record.clone(), time, &self.context)?;
        }
        let chosen = route.consumer(&record, channels.len());
        channels[chosen].push(record, time, &self.context)
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        let context = self.context.clone();
        self.channels().try_for_each(|channel| channel.control(control, &context))
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        let context = self.context.clone();
        self.channels().try_for_each(|channel| channel.flush(&context))
    }
}

/// The end of a chain whose records all go to every consumer.
pub(crate) struct BroadcastPartitioner<T> {
    channels: Vec<OutputChannel<T>>,
    context: TaskContext,
}

impl<T: Data> BroadcastPartitioner<T> {
    pub(crate) fn new(context: &TaskContext) -> Result<Self, Failure> {
        Ok(Self { channels: only_edge(context)?.channels, context: context.clone() })
    }
}

impl<T: Data> Push<T> for BroadcastPartitioner<T> {
    #[inline]
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        let Some((last, others)) = self.channels.split_last_mut() else { return Ok(()) };
        for channel in others {
            channel.push(record.clone(), time, &self.context)?;
        }
        last.push(record, time, &self.context)
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        self.channels.iter_mut().try_for_each(|channel| channel.control(control, &self.context))
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.channels.iter_mut().try_for_each(|channel| channel.flush(&self.context))
    }
}
