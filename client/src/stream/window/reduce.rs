//! Windows that reduce their records to one of the same type.

use std::ops::AddAssign;

use tidemill_dataflow::key_selector::KeySelector;
use tidemill_dataflow::operator::window::{AggregateWindow, Eviction, Reducing};
use tidemill_dataflow::pipe::Pipe;

use super::WindowedStream;
use super::windows::WindowKind;
use crate::stream::DataStream;

impl<P: Pipe, S: KeySelector<P::Out>, W: WindowKind<P::Out>, E: Eviction<P::Out>> WindowedStream<P, S, W, E> {
    /// Reduces a window's records to one, by a function that takes the later into the former.
    ///
    /// Windows that overlap, and sessions, reduce what was reduced: the order in which records are grouped must not
    /// matter.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::with_arguments(["-p", "1"])?;
    /// let words = env.from_collection(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]).key_by(|_| ());
    /// let joined = words.count_window(3).reduce(|words, word| words.push_str(&word)).collect();
    /// assert_eq!(env.execute("join")?.collected(&joined)?, ["abc"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn reduce<F>(self, function: F) -> DataStream<impl Pipe<Out = P::Out> + use<P, S, W, E, F>>
    where
        F: FnMut(&mut P::Out, P::Out) + Clone + Send + Sync + 'static,
    {
        self.reduce_as("Window Reduce", function)
    }

    /// Sums one field of a window's records; the other fields are those of the first record.
    ///
    /// A sum that overflows its type panics, and so fails the job, where the program checks for overflow.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let sales = env.from_collection(vec![("tea".to_owned(), 3), ("tea".to_owned(), 2)]).key_by_ref(|sale| &sale.0);
    /// let totals = sales.count_window(2).sum(|sale| &mut sale.1).collect();
    /// assert_eq!(env.execute("sum")?.collected(&totals)?, [("tea".to_owned(), 5)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn sum<N, F>(self, field: F) -> DataStream<impl Pipe<Out = P::Out> + use<P, S, W, E, N, F>>
    where
        N: AddAssign + Copy,
        F: Fn(&mut P::Out) -> &mut N + Clone + Send + Sync + 'static,
    {
        self.reduce_as("Window Sum", move |sum, mut record| *field(sum) += *field(&mut record))
    }

    /// The least value of one field in a window; the other fields are those of the first record.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let prices = env.from_collection(vec![("tea".to_owned(), 3), ("tea".to_owned(), 2)]).key_by_ref(|price| &price.0);
    /// let least = prices.count_window(2).min(|price| &mut price.1).collect();
    /// assert_eq!(env.execute("min")?.collected(&least)?, [("tea".to_owned(), 2)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn min<N, F>(self, field: F) -> DataStream<impl Pipe<Out = P::Out> + use<P, S, W, E, N, F>>
    where
        N: PartialOrd + Clone,
        F: Fn(&mut P::Out) -> &mut N + Clone + Send + Sync + 'static,
    {
        self.reduce_as("Window Min", move |least, mut record| {
            let (least, value) = (field(least), field(&mut record));
            if *value < *least {
                least.clone_from(value);
            }
        })
    }

    /// The greatest value of one field in a window; the other fields are those of the first record.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let prices = env.from_collection(vec![("tea".to_owned(), 2), ("tea".to_owned(), 3)]).key_by_ref(|price| &price.0);
    /// let greatest = prices.count_window(2).max(|price| &mut price.1).collect();
    /// assert_eq!(env.execute("max")?.collected(&greatest)?, [("tea".to_owned(), 3)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn max<N, F>(self, field: F) -> DataStream<impl Pipe<Out = P::Out> + use<P, S, W, E, N, F>>
    where
        N: PartialOrd + Clone,
        F: Fn(&mut P::Out) -> &mut N + Clone + Send + Sync + 'static,
    {
        self.reduce_as("Window Max", move |greatest, mut record| {
            let (greatest, value) = (field(greatest), field(&mut record));
            if *value > *greatest {
                greatest.clone_from(value);
            }
        })
    }

    /// The record with the least value in a window; of several the first that came.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let words = env.from_collection(vec!["abc".to_owned(), "a".to_owned()]).key_by(|_| ());
    /// let shortest = words.count_window(2).min_by(|word| word.len()).collect();
    /// assert_eq!(env.execute("shortest")?.collected(&shortest)?, ["a"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn min_by<N, F>(self, value: F) -> DataStream<impl Pipe<Out = P::Out> + use<P, S, W, E, N, F>>
    where
        N: PartialOrd,
        F: Fn(&P::Out) -> N + Clone + Send + Sync + 'static,
    {
        self.reduce_as("Window Min By", move |least, record| {
            if value(&record) < value(least) {
                *least = record;
            }
        })
    }

    /// The record with the greatest value in a window; of several the first that came.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let words = env.from_collection(vec!["a".to_owned(), "abc".to_owned()]).key_by(|_| ());
    /// let longest = words.count_window(2).max_by(|word| word.len()).collect();
    /// assert_eq!(env.execute("longest")?.collected(&longest)?, ["abc"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_by<N, F>(self, value: F) -> DataStream<impl Pipe<Out = P::Out> + use<P, S, W, E, N, F>>
    where
        N: PartialOrd,
        F: Fn(&P::Out) -> N + Clone + Send + Sync + 'static,
    {
        self.reduce_as("Window Max By", move |greatest, record| {
            if value(&record) > value(greatest) {
                *greatest = record;
            }
        })
    }

    fn reduce_as<F>(self, name: &str, function: F) -> DataStream<impl Pipe<Out = P::Out> + use<P, S, W, E, F>>
    where
        F: FnMut(&mut P::Out, P::Out) + Clone + Send + Sync + 'static,
    {
        self.operate(name, AggregateWindow::new(Reducing(function), |_: &S::Key, _, reduced| reduced))
    }
}
