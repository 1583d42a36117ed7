//! The ends of streams under test: inputs that are fed by hand, outputs that are looked at.

use tidemill_dataflow::flow::{OperatorIndex, VertexIndex};
use tidemill_dataflow::function::OutputTag;
use tidemill_dataflow::harness::{FromTest, ToTest};
use tidemill_dataflow::pipe::{Input, Pipe};
use tidemill_dataflow::record::Data;

use super::DataStream;
use crate::environment::Environment;

/// The end of a stream, from which side outputs can still be led.
pub(crate) struct StreamEnd {
    vertex: VertexIndex,
    operator: OperatorIndex,
}

impl Environment {
    /// The stream of what a test feeds.
    pub(crate) fn fed_stream<T: Data>(&self, pipe: FromTest<T>) -> DataStream<FromTest<T>> {
        let (vertex, operator) = self.build(|builder| {
            let vertex = builder.add_vertex(1);
            let types = vec![std::any::type_name::<T>().to_owned()];
            let operator = builder.add_operator(vertex, "Source: test", types);
            builder.mark_assigns_time(operator);
            (vertex, operator)
        });
        DataStream { environment: self.clone(), pipe, vertex, operator }
    }

    /// A side output of the last operator before a stream's end.
    pub(crate) fn side_output_at<T: Data>(&self, end: &StreamEnd, tag: &OutputTag<T>) -> DataStream<Input<T>> {
        let StreamEnd { vertex, operator } = *end;
        DataStream { environment: self.clone(), pipe: Input::<T>::new(), vertex, operator }.side_output(tag)
    }
}

impl<P: Pipe> DataStream<P> {
    pub(crate) fn end_parallelism(&self) -> u32 {
        self.environment.build(|builder| builder.parallelism(self.vertex))
    }

    /// Ends in a sink that a test looks into.
    pub(crate) fn observe(self, sink: ToTest<P::Out>) -> StreamEnd {
        let Self { environment, pipe, vertex, operator } = self;
        environment.build(|builder| {
            let types = vec![std::any::type_name::<P::Out>().to_owned()];
            let sink_operator = builder.add_operator(vertex, "Sink: test", types);
            builder.mark_needs_time(sink_operator);
            builder.end_in_sink(vertex, pipe, sink);
        });
        StreamEnd { vertex, operator }
    }
}
