//! Assigners: which windows a record belongs to.

use super::time_window::floor;
use super::{Error, TimeDomain, TimeWindow, positive};

/// Which windows a record belongs to, checked when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigner {
    pub(super) domain: TimeDomain,
    pub(super) kind: Kind,
}

/// The kinds of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Windows of one size at regular distances: tumbling ones have a slide of their size.
    Aligned(Aligned),
    /// Windows that grow with their records; without a gap each record brings its own.
    Session { gap: Option<i64> },
    /// One window for everything.
    Global,
}

/// Windows of `size` that start at each multiple of `slide`, moved by `offset`.
///
/// Invariant: size and slide are positive, `0 <= offset < slide`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aligned {
    pub(super) size: i64,
    pub(super) slide: i64,
    pub(super) offset: i64,
}

impl Assigner {
    /// Windows of `size` in event time, one after the other, moved by `offset`.
    ///
    /// # Errors
    /// The size is not positive, or the offset not smaller than it.
    pub fn tumbling(size: i64, offset: i64) -> Result<Self, Error> {
        positive("size", size)?;
        Self::aligned(size, size, offset)
    }

    /// Windows of `size` in event time that start every `slide`, moved by `offset`.
    ///
    /// They overlap when the slide is smaller than the size; when it is larger, records between them are in none.
    ///
    /// # Errors
    /// The size or the slide is not positive, or the offset not smaller than the slide.
    pub fn sliding(size: i64, slide: i64, offset: i64) -> Result<Self, Error> {
        positive("size", size)?;
        positive("slide", slide)?;
        Self::aligned(size, slide, offset)
    }

    /// Windows in event time that end when no record came for `gap`.
    ///
    /// # Errors
    /// The gap is not positive.
    pub fn session(gap: i64) -> Result<Self, Error> {
        let gap = Some(positive("gap", gap)?);
        Ok(Self { domain: TimeDomain::Event, kind: Kind::Session { gap } })
    }

    /// Windows in event time that end when no record came for the gap that the last ones brought with them.
    #[must_use]
    pub fn dynamic_session() -> Self {
        Self { domain: TimeDomain::Event, kind: Kind::Session { gap: None } }
    }

    /// One window for everything, which only a trigger fires.
    #[must_use]
    pub fn global() -> Self {
        Self { domain: TimeDomain::Event, kind: Kind::Global }
    }

    /// The same windows in processing time.
    #[must_use]
    pub fn in_processing_time(self) -> Self {
        Self { domain: TimeDomain::Processing, ..self }
    }

    /// Which clock places records into windows and ends these.
    #[must_use]
    pub fn domain(&self) -> TimeDomain {
        self.domain
    }

    /// Whether windows may become one.
    #[must_use]
    pub fn merges(&self) -> bool {
        matches!(self.kind, Kind::Session { .. })
    }

    fn aligned(size: i64, slide: i64, offset: i64) -> Result<Self, Error> {
        if offset.unsigned_abs() >= slide.unsigned_abs() {
            return Err(Error::OffsetTooLarge { offset, limit: slide });
        }
        let offset = offset.rem_euclid(slide);
        Ok(Self { domain: TimeDomain::Event, kind: Kind::Aligned(Aligned { size, slide, offset }) })
    }
}

impl Aligned {
    /// The windows that this time is in, the earliest first.
    pub(super) fn windows(self, time: i64) -> impl Iterator<Item = TimeWindow> + Clone {
        let (size, slide) = (i128::from(self.size), i128::from(self.slide));
        let last = floor(time, self.slide, self.offset);
        // How often the slide fits between the last start and the earliest start whose window still has the time.
        let room = last + size - 1 - i128::from(time);
        let earlier = if room < 0 { -1 } else { room / slide };
        let mut start = last - earlier * slide;
        std::iter::from_fn(move || {
            let window = (start <= last).then(|| TimeWindow::clamped(start, start + size))?;
            start += slide;
            Some(window)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(assigner: Assigner, time: i64) -> Vec<(i64, i64)> {
        let Kind::Aligned(aligned) = assigner.kind else { panic!("not aligned") };
        aligned.windows(time).map(|window| (window.start, window.end)).collect()
    }

    #[test]
    fn a_time_is_in_one_tumbling_window() {
        let table = [
            (10, 0, 0, (0, 10)),
            (10, 0, 9, (0, 10)),
            (10, 0, -1, (-10, 0)),
            (10, 3, 2, (-7, 3)),
            (10, -3, 7, (7, 17)),
            (10, 0, i64::MAX, (i64::MAX - 7, i64::MAX)),
            (10, 0, i64::MIN + 1, (i64::MIN, i64::MIN + 8)),
            (i64::MAX, 0, -1, (-i64::MAX, 0)),
            (i64::MAX, 0, i64::MAX, (i64::MAX, i64::MAX)),
        ];
        for (size, offset, time, window) in table {
            assert_eq!(windows(Assigner::tumbling(size, offset).unwrap(), time), [window], "{size} {offset} {time}");
        }
    }

    #[test]
    fn a_time_is_in_all_sliding_windows_that_cover_it() {
        let table = [
            (10, 5, 0, 7, vec![(0, 10), (5, 15)]),
            (10, 5, 0, -1, vec![(-10, 0), (-5, 5)]),
            (10, 4, 1, 9, vec![(1, 11), (5, 15), (9, 19)]),
            (3, 10, 0, 12, vec![(10, 13)]),
            (3, 10, 0, 13, vec![]),
            (4, 2, 0, i64::MIN + 1, vec![(i64::MIN, i64::MIN + 2), (i64::MIN, i64::MIN + 4)]),
        ];
        for (size, slide, offset, time, expected) in table {
            let assigner = Assigner::sliding(size, slide, offset).unwrap();
            assert_eq!(windows(assigner, time), expected, "{size} {slide} {offset} {time}");
        }
    }

    #[test]
    fn senseless_windows_are_refused_with_what_is_allowed() {
        let table = [
            (Assigner::tumbling(0, 0), "set the size of a window: 0 is not allowed, it must be positive"),
            (Assigner::tumbling(-1, 0), "set the size of a window: -1 is not allowed, it must be positive"),
            (Assigner::sliding(5, 0, 0), "set the slide of a window: 0 is not allowed, it must be positive"),
            (
                Assigner::sliding(i64::MIN, 1, 0),
                "set the size of a window: -9223372036854775808 is not allowed, it must be positive",
            ),
            (Assigner::session(0), "set the gap of a window: 0 is not allowed, it must be positive"),
            (
                Assigner::tumbling(10, 10),
                "set the offset of a window: 10 is not allowed, it must lie between -10 and 10, both excluded",
            ),
            (
                Assigner::sliding(10, 5, -5),
                "set the offset of a window: -5 is not allowed, it must lie between -5 and 5, both excluded",
            ),
        ];
        for (result, message) in table {
            assert_eq!(result.unwrap_err().to_string(), message);
        }
        assert!(Assigner::tumbling(10, i64::MIN).is_err());
        assert!(Assigner::tumbling(10, -9).is_ok() && Assigner::sliding(10, 5, 4).is_ok());
    }
}
