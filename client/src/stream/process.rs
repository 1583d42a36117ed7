//! `process`: functions with side outputs and a view of time; keyed, with state and timers, too.

use tidemill_dataflow::function::{KeyedProcessFunction, OutputTag, ProcessFunction};
use tidemill_dataflow::key_selector::KeySelector;
use tidemill_dataflow::operator::{KeyedProcess, Process};
use tidemill_dataflow::pipe::{Input, Pipe};
use tidemill_dataflow::record::Data;
use tidemill_model::job_graph::Partitioning;

use super::{DataStream, KeyedStream, keyed_types, types};

impl<P: Pipe> DataStream<P> {
    /// Calls a function that may emit to side outputs and sees event time.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use tidemill::{Collector, OutputTag, ProcessContext, UserError};
    ///
    /// #[derive(Clone)]
    /// struct Split {
    ///     odd: OutputTag<String>,
    /// }
    ///
    /// impl tidemill::ProcessFunction<u64> for Split {
    ///     type Out = u64;
    ///
    ///     fn process(
    ///         &mut self, number: u64, context: &mut ProcessContext<'_>, out: &mut Collector<u64>,
    ///     ) -> Result<(), UserError> {
    ///         if number % 2 == 0 { out.emit(number) } else { context.output(&self.odd, format!("{number} is odd")) }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # let env = tidemill::Environment::from_args()?;
    /// let odd = OutputTag::new("odd");
    /// let even = env.generate_sequence(0..4, None).process(Split { odd: odd.clone() });
    /// let odd = even.side_output(&odd).collect();
    /// let even = even.collect();
    /// let result = env.execute("split")?;
    /// # let (mut even, mut odd) = (result.collected(&even)?, result.collected(&odd)?);
    /// # (even.sort(), odd.sort());
    /// assert_eq!(even, [0, 2]);
    /// assert_eq!(odd, ["1 is odd", "3 is odd"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn process<F: ProcessFunction<P::Out>>(self, function: F) -> DataStream<Process<P, F>> {
        self.process_as("Process", function)
    }

    pub(super) fn process_as<F: ProcessFunction<P::Out>>(self, name: &str, function: F) -> DataStream<Process<P, F>> {
        let types = types::<P::Out, F::Out>();
        let stream = self.then(name, types, |pipe, operator| Process::new(pipe, function, operator));
        stream.environment.build(|builder| {
            builder.mark_needs_time(stream.operator);
            builder.mark_has_side_outputs(stream.operator);
        });
        stream
    }

    /// A side output of the last operator, which is one that has them: `process`, a window, an interval join. What it
    /// emits to tags that nobody asks for is forgotten.
    ///
    /// The main output must lead somewhere, too: end it in [`discard`](Self::discard) if it is not of interest. See
    /// [`process`](Self::process) for an example of a function that emits to one.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// use tidemill::{OutputTag, WatermarkStrategy, Windows};
    ///
    /// let late = OutputTag::new("late");
    /// let times = env.generate_sequence(0..4, None);
    /// let times = times.assign_timestamps_and_watermarks(WatermarkStrategy::monotonous(|time: &u64| *time as i64));
    /// let window = Windows::tumbling(std::time::Duration::from_secs(1));
    /// let counts = times.key_by(|_| 0).window(window).late_output(&late).reduce(|sum, number| *sum += number);
    /// let late = counts.side_output(&late).collect();
    /// let counts = counts.collect();
    /// let result = env.execute("late records")?;
    /// assert_eq!((result.collected(&counts)?, result.collected(&late)?), (vec![6], vec![]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn side_output<T: Data>(&self, tag: &OutputTag<T>) -> DataStream<Input<T>> {
        let environment = self.environment.clone();
        let target = environment.build(|builder| {
            let target = builder.add_vertex(builder.parallelism(self.vertex));
            builder.link_side_output(self.operator, tag, target, Partitioning::Forward);
            target
        });
        DataStream::arriving(environment, target, self.operator)
    }
}

impl<P: Pipe, S: KeySelector<P::Out>> KeyedStream<P, S> {
    /// Calls a function that keeps state and sets timers for each key.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// use tidemill::{Collector, KeyedContext, StateRegistry, Timer, UserError, ValueState};
    ///
    /// /// Counts each key's records, and emits the count when all have come.
    /// #[derive(Clone, Default)]
    /// struct CountAtTheEnd {
    ///     count: ValueState<u64>,
    /// }
    ///
    /// impl tidemill::KeyedProcessFunction<u64, u64> for CountAtTheEnd {
    ///     type Out = (u64, u64);
    ///
    ///     fn open(&mut self, states: &mut StateRegistry<'_, u64>) -> Result<(), UserError> {
    ///         self.count = states.value("count")?;
    ///         Ok(())
    ///     }
    ///
    ///     fn process(
    ///         &mut self, _: u64, context: &mut KeyedContext<'_, u64>, _: &mut Collector<Self::Out>,
    ///     ) -> Result<(), UserError> {
    ///         *self.count.get_or_insert_with(context, || 0) += 1;
    ///         context.set_event_timer(1_000_000);
    ///         Ok(())
    ///     }
    ///
    ///     fn on_timer(
    ///         &mut self, _: Timer, context: &mut KeyedContext<'_, u64>, out: &mut Collector<Self::Out>,
    ///     ) -> Result<(), UserError> {
    ///         let count = self.count.clear(context).unwrap_or_default();
    ///         out.emit((*context.key(), count));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # let env = tidemill::Environment::from_args()?;
    /// let numbers = env.generate_sequence(0..10, None).key_by(|number| number % 2);
    /// let counts = numbers.process(CountAtTheEnd::default()).collect();
    /// # let mut counts = env.execute("counts")?.collected(&counts)?;
    /// # counts.sort();
    /// assert_eq!(counts, [(0, 5), (1, 5)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn process<F>(self, function: F) -> DataStream<KeyedProcess<P::Out, S, F>>
    where
        F: KeyedProcessFunction<S::Key, P::Out>,
    {
        let types = keyed_types::<S::Key, P::Out, F::Out>();
        let pipe = |selector, operator| KeyedProcess::new(selector, function, operator);
        let stream = self.exchanged("Keyed Process", types, pipe);
        stream.environment.build(|builder| {
            builder.mark_needs_time(stream.operator);
            builder.mark_has_side_outputs(stream.operator);
        });
        stream
    }
}
