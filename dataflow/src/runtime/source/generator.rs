//! A source of what a function makes of consecutive numbers, at a given rate.

use std::rc::Rc;

use tidemill_model::execution::Failure;

use super::{PlainReader, PlainSource, Reading, SequenceSource};
use crate::flow::OperatorIndex;
use crate::push::{Push, Stopped, blame};
use crate::record::{Control, Data, Timestamp};
use crate::runtime::task::TaskContext;

/// Emits what a function makes of the numbers of a sequence.
#[derive(Debug, Clone)]
pub struct GeneratorSource<F> {
    numbers: SequenceSource,
    function: F,
    operator: OperatorIndex,
}

impl<F> GeneratorSource<F> {
    /// The source of `function`'s records.
    pub fn new(numbers: SequenceSource, function: F, operator: OperatorIndex) -> Self {
        Self { numbers, function, operator }
    }
}

/// The records of one sub-task.
pub struct Generator<R, F> {
    numbers: R,
    function: F,
    operator: Rc<str>,
}

impl<T: Data, F: FnMut(u64) -> T + Clone + Send + Sync + 'static> PlainSource for GeneratorSource<F> {
    type Out = T;
    type Reader = Generator<<SequenceSource as PlainSource>::Reader, F>;

    fn open(&self, context: &TaskContext, position: Option<u64>) -> Result<Self::Reader, Failure> {
        let (function, operator) = (self.function.clone(), context.operator_name(self.operator));
        Ok(Generator { numbers: self.numbers.open(context, position)?, function, operator })
    }
}

impl<T, R: PlainReader<u64>, F: FnMut(u64) -> T> PlainReader<T> for Generator<R, F> {
    type Position = R::Position;

    fn position(&self) -> R::Position {
        self.numbers.position()
    }

    fn read<N: Push<T>>(&mut self, next: &mut N, context: &TaskContext) -> Result<Reading, Stopped> {
        let Self { numbers, function, operator } = self;
        numbers.read(&mut Generated { function, operator, next }, context)
    }
}

/// Makes records of numbers on their way.
struct Generated<'a, F, N> {
    function: &'a mut F,
    operator: &'a Rc<str>,
    next: &'a mut N,
}

impl<T, F: FnMut(u64) -> T, N: Push<T>> Push<u64> for Generated<'_, F, N> {
    #[inline(always)]
    fn push(&mut self, number: u64, time: Timestamp) -> Result<(), Stopped> {
        let function = &mut self.function;
        let record = blame(self.operator, || function(number));
        self.next.push(record, time)
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        self.next.control(control)
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.next.flush()
    }
}
