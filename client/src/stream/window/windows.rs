//! Which windows there are: of a fixed length, sessions, or one for everything.

use std::time::Duration;

use tidemill_dataflow::engine::window::{Assigner, Error};
use tidemill_dataflow::operator::window::{NoGap, SessionGap};

/// Which windows records are put into.
///
/// Windows go by event time unless they are said to be [in processing time](Self::in_processing_time). Lengths are
/// whole milliseconds. Lengths that make no sense are an error of [`execute`](crate::Environment::execute).
///
/// ```
/// use std::time::Duration;
/// use tidemill::Windows;
///
/// let hours = Windows::tumbling(Duration::from_secs(3600));
/// let hours_each_minute = Windows::sliding(Duration::from_secs(3600), Duration::from_secs(60));
/// let visits = Windows::session(Duration::from_secs(30 * 60));
/// # let _ = (hours, hours_each_minute, visits);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Windows<W> {
    pub(super) kind: W,
    processing_time: bool,
}

/// Windows of one length at regular distances.
///
/// ```
/// use std::time::Duration;
/// use tidemill::Windows;
///
/// let minutes: Windows<tidemill::stream::RegularWindows> = Windows::tumbling(Duration::from_secs(60));
/// # let _ = minutes;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegularWindows {
    size: i64,
    slide: i64,
    sliding: bool,
    offset: i64,
}

/// Windows that end when no record came for some time.
///
/// ```
/// use std::time::Duration;
/// use tidemill::Windows;
///
/// let visits: Windows<tidemill::stream::SessionWindows> = Windows::session(Duration::from_secs(60));
/// # let _ = visits;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionWindows {
    gap: i64,
}

/// Sessions whose records say how long they may be followed by none.
///
/// ```
/// use std::time::Duration;
/// use tidemill::Windows;
/// use tidemill::stream::DynamicSessionWindows;
///
/// fn visits() -> Windows<DynamicSessionWindows<impl Fn(&u64) -> Duration>> {
///     Windows::dynamic_session(|seconds: &u64| Duration::from_secs(*seconds))
/// }
/// # let _ = visits();
/// ```
#[derive(Debug, Clone, Copy)]
pub struct DynamicSessionWindows<F> {
    gap: F,
}

/// One window for everything.
///
/// ```
/// use tidemill::Windows;
///
/// let everything: Windows<tidemill::stream::GlobalWindow> = Windows::global();
/// # let _ = everything;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GlobalWindow;

/// A kind of windows for records of type `T`.
pub trait WindowKind<T> {
    /// What finds the gap of dynamic sessions.
    type Gap: SessionGap<T>;

    /// The engine's form of it in event time.
    ///
    /// # Errors
    /// A length makes no sense.
    fn assigner(&self) -> Result<Assigner, Error>;

    /// What finds the gap of dynamic sessions.
    fn into_gap(self) -> Self::Gap;
}

impl Windows<RegularWindows> {
    /// One window after the other, each this long; the first begins at the epoch.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let minutes = tidemill::Windows::tumbling(Duration::from_secs(60));
    /// # let _ = minutes;
    /// ```
    #[must_use]
    pub fn tumbling(size: Duration) -> Self {
        let size = millis(size);
        Self::of(RegularWindows { size, slide: size, sliding: false, offset: 0 })
    }

    /// Windows of this size, one of which begins every `slide`.
    ///
    /// A record is in several when the slide is shorter than the size, and may be in none when it is longer.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let last_minute = tidemill::Windows::sliding(Duration::from_secs(60), Duration::from_secs(1));
    /// # let _ = last_minute;
    /// ```
    #[must_use]
    pub fn sliding(size: Duration, slide: Duration) -> Self {
        Self::of(RegularWindows { size: millis(size), slide: millis(slide), sliding: true, offset: 0 })
    }

    /// Has windows begin this much later, such as days of a time zone: those of UTC-8 begin 8 hours later.
    ///
    /// It must be less than the size of tumbling windows and the slide of sliding ones.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let hour = Duration::from_secs(3600);
    /// let days_in_california = tidemill::Windows::tumbling(24 * hour).offset(8 * hour);
    /// # let _ = days_in_california;
    /// ```
    #[must_use]
    pub fn offset(mut self, offset: Duration) -> Self {
        self.kind.offset = millis(offset);
        self
    }
}

impl Windows<SessionWindows> {
    /// Windows that end when no record of the key came for `gap`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let visits = tidemill::Windows::session(Duration::from_secs(30 * 60));
    /// # let _ = visits;
    /// ```
    #[must_use]
    pub fn session(gap: Duration) -> Self {
        Self::of(SessionWindows { gap: millis(gap) })
    }
}

impl<F> Windows<DynamicSessionWindows<F>> {
    /// Windows that end when no record of the key came for the time that the last ones ask for, a millisecond at
    /// least.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let visits = tidemill::Windows::dynamic_session(|click: &(String, u64)| Duration::from_secs(click.1));
    /// # let _ = visits;
    /// ```
    #[must_use]
    pub fn dynamic_session<T>(gap: F) -> Self
    where
        F: Fn(&T) -> Duration,
    {
        Self::of(DynamicSessionWindows { gap })
    }
}

impl Windows<GlobalWindow> {
    /// One window for everything, which fires when a [trigger](super::WindowedStream::trigger) says so, and else never.
    ///
    /// ```
    /// let everything = tidemill::Windows::global();
    /// # let _ = everything;
    /// ```
    #[must_use]
    pub fn global() -> Self {
        Self::of(GlobalWindow)
    }
}

impl<W> Windows<W> {
    fn of(kind: W) -> Self {
        Self { kind, processing_time: false }
    }

    /// The same windows by the clock: records are in those of the time at which they arrive.
    ///
    /// Windows that are open at the end of input fire then.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let seconds = tidemill::Windows::tumbling(Duration::from_secs(1)).in_processing_time();
    /// # let _ = seconds;
    /// ```
    #[must_use]
    pub fn in_processing_time(self) -> Self {
        Self { processing_time: true, ..self }
    }

    /// The engine's form.
    pub(super) fn assigner<T>(&self) -> Result<Assigner, Error>
    where
        W: WindowKind<T>,
    {
        let assigner = self.kind.assigner()?;
        Ok(if self.processing_time { assigner.in_processing_time() } else { assigner })
    }
}

impl<T> WindowKind<T> for RegularWindows {
    type Gap = NoGap;

    fn assigner(&self) -> Result<Assigner, Error> {
        let Self { size, slide, sliding, offset } = *self;
        if sliding { Assigner::sliding(size, slide, offset) } else { Assigner::tumbling(size, offset) }
    }

    fn into_gap(self) -> NoGap {
        NoGap
    }
}

impl<T> WindowKind<T> for SessionWindows {
    type Gap = NoGap;

    fn assigner(&self) -> Result<Assigner, Error> {
        Assigner::session(self.gap)
    }

    fn into_gap(self) -> NoGap {
        NoGap
    }
}

impl<T> WindowKind<T> for GlobalWindow {
    type Gap = NoGap;

    fn assigner(&self) -> Result<Assigner, Error> {
        Ok(Assigner::global())
    }

    fn into_gap(self) -> NoGap {
        NoGap
    }
}

impl<T, F: Fn(&T) -> Duration + Clone + Send + Sync + 'static> WindowKind<T> for DynamicSessionWindows<F> {
    type Gap = Self;

    fn assigner(&self) -> Result<Assigner, Error> {
        Ok(Assigner::dynamic_session())
    }

    fn into_gap(self) -> Self {
        self
    }
}

impl<T, F: Fn(&T) -> Duration + Clone + Send + Sync + 'static> SessionGap<T> for DynamicSessionWindows<F> {
    #[inline]
    fn gap(&mut self, record: &T) -> i64 {
        millis((self.gap)(record))
    }
}

/// Whole milliseconds; what is too long is as long as can be.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
