//! Side outputs: further streams that leave an operator, each with a type of its own.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use tidemill_model::execution::{Failure, FailureKind};

use crate::flow::{OperatorIndex, OutputPort};
use crate::push::{Push, Stopped};
use crate::record::{Control, Data, Timestamp};
use crate::runtime::partition::PortPartitioner;
use crate::runtime::task::TaskContext;

/// The name and record type of a side output.
#[derive(Debug)]
pub struct OutputTag<T> {
    name: String,
    records: PhantomData<fn() -> T>,
}

impl<T> OutputTag<T> {
    /// The tag of this name; within one operator a name has one type.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), records: PhantomData }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<T> Clone for OutputTag<T> {
    fn clone(&self) -> Self {
        Self::new(self.name.clone())
    }
}

/// The sending end of a side output, whatever its record type.
pub(crate) trait SidePort {
    fn control(&mut self, control: Control) -> Result<(), Stopped>;
    fn flush(&mut self) -> Result<(), Stopped>;
    fn as_any(&mut self) -> &mut dyn Any;
}

impl<T: Data> SidePort for PortPartitioner<T> {
    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        Push::control(self, control)
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        Push::flush(self)
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Opens the port of a side output, in a sub-task.
pub(crate) type SidePortFactory =
    Arc<dyn Fn(OutputPort, &TaskContext) -> Result<Box<dyn SidePort>, Failure> + Send + Sync>;

/// The factory for records of type `T`.
pub(crate) fn open_side_port<T: Data>() -> SidePortFactory {
    Arc::new(|port, context| Ok(Box::new(PortPartitioner::<T>::new(port, context)?)))
}

/// The side outputs of one operator that lead somewhere.
pub(crate) struct SideOutputs {
    ports: Vec<(String, Box<dyn SidePort>)>,
    operator: OperatorIndex,
    /// A record could not be sent: the operator stops when the user's function returns.
    stopped: Option<Stopped>,
    context: TaskContext,
}

impl SideOutputs {
    pub(crate) fn open(operator: OperatorIndex, context: &TaskContext) -> Result<Self, Failure> {
        let open =
            |(tag, port, factory): (&str, OutputPort, &SidePortFactory)| Ok((tag.to_owned(), factory(port, context)?));
        let ports = context.flow().side_outputs(operator).map(open).collect::<Result<_, Failure>>()?;
        Ok(Self { ports, operator, stopped: None, context: context.clone() })
    }

    /// Sends a record to a side output; one that leads nowhere forgets it.
    pub(crate) fn emit<T: Data>(&mut self, tag: &OutputTag<T>, record: T, time: Timestamp) {
        if self.stopped.is_some() {
            // The cancellation was read: to wait for room again would be to wait for ever.
            return;
        }
        let Some((_, port)) = self.ports.iter_mut().find(|(name, _)| *name == tag.name) else { return };
        let sent = match port.as_any().downcast_mut::<PortPartitioner<T>>() {
            Some(port) => port.push(record, time),
            None => Err(self.mismatch(&tag.name, std::any::type_name::<T>())),
        };
        if let Err(stopped) = sent {
            self.stopped = Some(stopped);
        }
    }

    #[cold]
    fn mismatch(&self, tag: &str, given: &str) -> Stopped {
        let message = format!(
            "emit to side output {tag:?}: a record of type {given}, but side_output() was called with a tag of another type"
        );
        let operator = self.context.operator_name(self.operator);
        self.context.fail(self.context.failure(FailureKind::InvalidInput, Some(&operator), message))
    }

    /// Says whether everything could be sent.
    pub(crate) fn check(&mut self) -> Result<(), Stopped> {
        self.stopped.take().map_or(Ok(()), Err)
    }

    pub(crate) fn control(&mut self, control: Control) -> Result<(), Stopped> {
        self.ports.iter_mut().try_for_each(|(_, port)| port.control(control))
    }

    pub(crate) fn flush(&mut self) -> Result<(), Stopped> {
        self.ports.iter_mut().try_for_each(|(_, port)| port.flush())
    }
}
