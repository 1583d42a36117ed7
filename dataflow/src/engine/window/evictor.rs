//! Evictors: which elements are taken out of a window around its function, when its elements are kept.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Contents, Error, TimeWindow, positive};

/// A value as windows with an evictor keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped<T> {
    /// The record's timestamp; `i64::MIN` when it has none.
    pub timestamp: i64,
    /// The record.
    pub value: T,
}

/// Whether elements are evicted before or after the window's function has seen them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The function does not see what is evicted.
    Before,
    /// The function sees all, the next one does not.
    After,
}

/// Which elements to evict, decided by the user.
pub trait Evictor<T>: Send + Sync {
    /// Takes out elements before the window's function sees them.
    fn evict_before(&self, _elements: &mut Vec<Stamped<T>>, _window: TimeWindow, _watermark: i64) {}

    /// Takes out elements after the window's function has seen them.
    fn evict_after(&self, _elements: &mut Vec<Stamped<T>>, _window: TimeWindow, _watermark: i64) {}
}

/// The distance between two elements.
type Distance<T> = Arc<dyn Fn(&T, &T) -> f64 + Send + Sync>;

/// An evictor: one of the built-in ones, or the user's own.
#[derive(Clone)]
pub struct AnyEvictor<T> {
    order: Order,
    kind: Kind<T>,
}

#[derive(Clone)]
enum Kind<T> {
    Count(usize),
    Time(i64),
    Delta(f64, Distance<T>),
    Custom(Arc<dyn Evictor<T>>),
}

impl<T> AnyEvictor<T> {
    /// Keeps the last elements, this many.
    ///
    /// # Errors
    /// It is zero.
    pub fn count(keep: usize, order: Order) -> Result<Self, Error> {
        if keep == 0 {
            return Err(Error::NotPositive { what: "evictor count", value: 0 });
        }
        Ok(Self { order, kind: Kind::Count(keep) })
    }

    /// Keeps the elements that are less than this many milliseconds older than the newest.
    ///
    /// # Errors
    /// It is not positive.
    pub fn time(keep: i64, order: Order) -> Result<Self, Error> {
        Ok(Self { order, kind: Kind::Time(positive("evictor time", keep)?) })
    }

    /// Keeps the elements whose distance to the last one is below the threshold; the function gets an element and the
    /// last one.
    ///
    /// # Errors
    /// The threshold is not a number.
    pub fn delta(
        threshold: f64,
        order: Order,
        distance: impl Fn(&T, &T) -> f64 + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        if threshold.is_nan() {
            return Err(Error::ThresholdNotANumber { threshold });
        }
        Ok(Self { order, kind: Kind::Delta(threshold, Arc::new(distance)) })
    }

    /// The user's own, which is asked before and after the function.
    pub fn custom(evictor: impl Evictor<T> + 'static) -> Self {
        Self { order: Order::Before, kind: Kind::Custom(Arc::new(evictor)) }
    }

    /// Calls the window's function on a fired window's elements, and evicts before and after it.
    ///
    /// A window that has no elements left from earlier is not passed on.
    pub fn around(
        &self,
        window: TimeWindow,
        mut contents: Contents<'_, Vec<Stamped<T>>>,
        watermark: i64,
        function: impl FnOnce(TimeWindow, &[Stamped<T>]),
    ) {
        let elements = contents.get_mut();
        if elements.is_empty() {
            return;
        }
        self.evict(Order::Before, elements, window, watermark);
        function(window, elements);
        self.evict(Order::After, elements, window, watermark);
    }

    fn evict(&self, order: Order, elements: &mut Vec<Stamped<T>>, window: TimeWindow, watermark: i64) {
        match &self.kind {
            Kind::Custom(evictor) => match order {
                Order::Before => evictor.evict_before(elements, window, watermark),
                Order::After => evictor.evict_after(elements, window, watermark),
            },
            Kind::Count(_) | Kind::Time(_) | Kind::Delta(..) if order != self.order => {}
            Kind::Count(keep) => {
                elements.drain(..elements.len().saturating_sub(*keep));
            }
            Kind::Time(keep) => {
                let newest = elements.iter().map(|element| element.timestamp).max();
                let has_time = elements.first().is_some_and(|element| element.timestamp != i64::MIN);
                if let Some(newest) = newest.filter(|_| has_time) {
                    elements.retain(|element| i128::from(newest) - i128::from(element.timestamp) < i128::from(*keep));
                }
            }
            Kind::Delta(threshold, distance) => {
                if let Some(last) = elements.pop() {
                    elements.retain(|element| distance(&element.value, &last.value) < *threshold);
                    // As for all the others, a distance to itself that reaches the threshold evicts it.
                    let keeps_last = distance(&last.value, &last.value) < *threshold;
                    elements.extend(Some(last).filter(|_| keeps_last));
                }
            }
        }
    }
}

impl<T> fmt::Debug for AnyEvictor<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Count(keep) => write!(formatter, "count({keep}) {:?}", self.order),
            Kind::Time(keep) => write!(formatter, "time({keep}) {:?}", self.order),
            Kind::Delta(threshold, _) => write!(formatter, "delta({threshold}) {:?}", self.order),
            Kind::Custom(_) => formatter.write_str("user-defined"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the function sees, and what stays.
    fn around(evictor: &AnyEvictor<i64>, elements: &[(i64, i64)]) -> (Vec<i64>, Vec<i64>) {
        let mut kept: Vec<_> = elements.iter().map(|&(timestamp, value)| Stamped { timestamp, value }).collect();
        let values = |elements: &[Stamped<i64>]| elements.iter().map(|element| element.value).collect();
        let mut seen = Vec::new();
        evictor.around(TimeWindow::GLOBAL, Contents::Kept(&mut kept), 0, |_, elements| seen = values(elements));
        (seen, values(&kept))
    }

    #[test]
    fn evictors_take_out_what_their_rule_says_before_or_after_the_function() {
        let distance = |element: &i64, last: &i64| element.abs_diff(*last) as f64;
        let elements = [(1, 10), (5, 12), (3, 17), (4, 11)];
        let table = [
            (AnyEvictor::count(2, Order::Before), vec![17, 11], vec![17, 11]),
            (AnyEvictor::count(2, Order::After), vec![10, 12, 17, 11], vec![17, 11]),
            (AnyEvictor::count(9, Order::Before), vec![10, 12, 17, 11], vec![10, 12, 17, 11]),
            (AnyEvictor::time(2, Order::Before), vec![12, 11], vec![12, 11]),
            (AnyEvictor::time(3, Order::After), vec![10, 12, 17, 11], vec![12, 17, 11]),
            (AnyEvictor::time(i64::MAX, Order::Before), vec![10, 12, 17, 11], vec![10, 12, 17, 11]),
            (AnyEvictor::delta(2.0, Order::Before, distance), vec![10, 12, 11], vec![10, 12, 11]),
            (AnyEvictor::delta(0.0, Order::Before, distance), vec![], vec![]),
        ];
        for (evictor, seen, kept) in table {
            let evictor = evictor.unwrap();
            assert_eq!(around(&evictor, &elements), (seen, kept), "{evictor:?}");
        }
    }

    #[test]
    fn elements_without_time_are_not_evicted_by_time() {
        let evictor = AnyEvictor::time(1, Order::Before).unwrap();
        assert_eq!(around(&evictor, &[(i64::MIN, 1), (i64::MIN, 2)]), (vec![1, 2], vec![1, 2]));
        assert_eq!(around(&evictor, &[(i64::MIN + 1, 1), (i64::MAX, 2)]), (vec![2], vec![2]));
    }

    #[test]
    fn senseless_evictors_are_refused() {
        assert!(AnyEvictor::<()>::count(0, Order::Before).is_err());
        assert!(AnyEvictor::<()>::time(0, Order::Before).is_err());
        assert!(AnyEvictor::<()>::delta(f64::NAN, Order::Before, |_, _| 0.0).is_err());
    }

    #[test]
    fn a_users_evictor_is_asked_on_both_sides_and_an_empty_window_is_not_passed_on() {
        struct Ends;
        impl Evictor<i64> for Ends {
            fn evict_before(&self, elements: &mut Vec<Stamped<i64>>, _: TimeWindow, _: i64) {
                elements.remove(0);
            }
            fn evict_after(&self, elements: &mut Vec<Stamped<i64>>, _: TimeWindow, _: i64) {
                elements.pop();
            }
        }
        let evictor = AnyEvictor::custom(Ends);
        assert_eq!(around(&evictor, &[(1, 1), (2, 2), (3, 3)]), (vec![2, 3], vec![2]));
        assert_eq!(around(&evictor, &[]), (vec![], vec![]));
    }
}
