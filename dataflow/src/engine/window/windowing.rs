//! Windowing as a job defines it, and the state that it keeps for one key.

use serde::{Deserialize, Serialize};

use super::assigner::{Assigner, Kind};
use super::key_panes::KeyPanes;
use super::key_windows::KeyEntries;
use super::panes::Panes;
use super::{Added, AnyTrigger, Error, Host, Now, TimeDomain, TimeWindow};

/// Whether windows may share what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Contents can be merged, and nobody changes what a fired window holds: overlapping windows share panes.
    Panes,
    /// Each window has contents of its own, as evictors need it.
    Windows,
}

/// Which windows there are, when they fire, and for how long they are kept.
#[derive(Debug, Clone)]
pub struct Windowing<T> {
    assigner: Assigner,
    trigger: AnyTrigger<T>,
    lateness: i64,
    /// Present when the fast path serves.
    panes: Option<Panes>,
}

/// What one key keeps of its windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyWindows<A> {
    form: Form<A>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Form<A> {
    Nothing,
    Panes(KeyPanes<A>),
    Entries(KeyEntries<A>),
}

impl<T: Clone> Windowing<T> {
    /// Windows that fire by this trigger, or by their own default, and are kept for `lateness` milliseconds of event
    /// time after their end.
    ///
    /// # Errors
    /// A setting of the trigger or the lateness is senseless, or the windows merge and the trigger cannot.
    pub fn new(
        assigner: Assigner,
        trigger: Option<AnyTrigger<T>>,
        lateness: i64,
        sharing: Sharing,
    ) -> Result<Self, Error> {
        if lateness < 0 {
            return Err(Error::NegativeLateness { lateness });
        }
        let panes = match (assigner.kind, &trigger) {
            (Kind::Aligned(aligned), None) => {
                let panes = Panes::new(aligned, assigner.domain, lateness);
                Some(panes).filter(|panes| panes.single() || sharing == Sharing::Panes)
            }
            (Kind::Aligned(_) | Kind::Session { .. } | Kind::Global, _) => None,
        };
        let trigger = trigger.unwrap_or_else(|| match assigner.kind {
            Kind::Global => AnyTrigger::Never,
            Kind::Aligned(_) | Kind::Session { .. } => AnyTrigger::default_of(assigner.domain),
        });
        trigger.check()?;
        if matches!(assigner.kind, Kind::Session { .. }) && !trigger.can_merge() {
            return Err(Error::TriggerCannotMerge { trigger: trigger.name() });
        }
        Ok(Self { assigner, trigger, lateness, panes })
    }

    /// One window after the other of this many records each.
    ///
    /// # Errors
    /// The count is zero.
    pub fn count(count: u64) -> Result<Self, Error> {
        Self::new(Assigner::global(), Some(AnyTrigger::Count(count).purging()), 0, Sharing::Windows)
    }

    /// A window that fires with every `slide` records; an evictor bounds how many records it looks back on.
    ///
    /// # Errors
    /// The slide is zero.
    pub fn count_sliding(slide: u64) -> Result<Self, Error> {
        Self::new(Assigner::global(), Some(AnyTrigger::Count(slide)), 0, Sharing::Windows)
    }

    /// Puts a record into its windows and emits those that fire at once.
    ///
    /// In processing time the clock decides on the windows, not the timestamp.
    #[inline]
    pub fn add<A: Clone>(
        &self,
        keys: &mut KeyWindows<A>,
        value: T,
        timestamp: i64,
        now: Now,
        host: &mut impl Host<T, A>,
    ) -> Added<T> {
        self.add_with_gap(keys, value, timestamp, 0, now, host)
    }

    /// The same for a record that brings its own session gap; other windows do not look at it.
    #[inline]
    pub fn add_with_gap<A: Clone>(
        &self,
        keys: &mut KeyWindows<A>,
        value: T,
        timestamp: i64,
        gap: i64,
        now: Now,
        host: &mut impl Host<T, A>,
    ) -> Added<T> {
        let time = match self.assigner.domain {
            TimeDomain::Event => timestamp,
            TimeDomain::Processing => now.processing_time,
        };
        let Some(panes) = &self.panes else {
            return self.add_to_entries(keys, value, (time, timestamp, gap), now, host);
        };
        if time == i64::MIN {
            return Added::NoTimestamp(value);
        }
        if matches!(keys.form, Form::Nothing) {
            keys.form = Form::Panes(KeyPanes::default());
        }
        match &mut keys.form {
            Form::Panes(state) => state.add(panes, value, time, now.watermark, host),
            Form::Entries(_) | Form::Nothing => Added::Foreign(value),
        }
    }

    /// A timer of this key has come: emits the windows that fire, forgets those whose time is over.
    pub fn on_timer<A: Clone>(
        &self,
        keys: &mut KeyWindows<A>,
        domain: TimeDomain,
        time: i64,
        now: Now,
        host: &mut impl Host<T, A>,
    ) {
        match (&self.panes, &mut keys.form) {
            (Some(panes), Form::Panes(state)) if panes.domain == domain => state.on_timer(panes, time, host),
            (None, Form::Entries(state)) => state.on_timer(self, (domain, time), now, host),
            (Some(_), Form::Panes(_) | Form::Entries(_)) | (None, Form::Panes(_)) | (_, Form::Nothing) => {}
        }
    }

    /// Whether this state was made by windows that are kept in the same way; to be asked after a restore.
    #[must_use]
    pub fn fits<A>(&self, keys: &KeyWindows<A>) -> bool {
        match keys.form {
            Form::Nothing => true,
            Form::Panes(_) => self.panes.is_some(),
            Form::Entries(_) => self.panes.is_none(),
        }
    }

    /// The timers that these windows wait for: after a restore they are set again.
    #[must_use]
    pub fn armed<A>(&self, keys: &KeyWindows<A>) -> Vec<(TimeDomain, i64)> {
        match &keys.form {
            Form::Nothing => Vec::new(),
            Form::Panes(state) => state.armed().map(|time| (self.assigner.domain, time)).collect(),
            Form::Entries(state) => state.armed().collect(),
        }
    }

    fn add_to_entries<A>(
        &self,
        keys: &mut KeyWindows<A>,
        value: T,
        (time, timestamp, gap): (i64, i64, i64),
        now: Now,
        host: &mut impl Host<T, A>,
    ) -> Added<T> {
        let gap = match self.assigner.kind {
            Kind::Session { gap: fixed } => fixed.unwrap_or(gap),
            Kind::Aligned(_) | Kind::Global => 1,
        };
        if gap <= 0 {
            return Added::BadGap(value);
        }
        if time == i64::MIN && self.assigner.kind != Kind::Global {
            return Added::NoTimestamp(value);
        }
        if matches!(keys.form, Form::Nothing) {
            keys.form = Form::Entries(KeyEntries::default());
        }
        match &mut keys.form {
            Form::Entries(state) => state.add(self, value, (time, timestamp, gap), now, host),
            Form::Panes(_) | Form::Nothing => Added::Foreign(value),
        }
    }
}

impl<T> Windowing<T> {
    /// Which clock ends the windows.
    #[must_use]
    pub fn domain(&self) -> TimeDomain {
        self.assigner.domain
    }

    /// Whether there is one window that never ends, so that triggers may go on for ever.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        self.assigner.kind == Kind::Global
    }

    /// Whether the user's own code decides when windows fire.
    #[must_use]
    pub fn has_custom_trigger(&self) -> bool {
        self.trigger.is_custom()
    }

    pub(super) fn kind(&self) -> Kind {
        self.assigner.kind
    }

    pub(super) fn trigger(&self) -> &AnyTrigger<T> {
        &self.trigger
    }

    /// When a window is forgotten, if ever.
    pub(super) fn forgets(&self, window: TimeWindow) -> Option<i64> {
        let lateness = match self.assigner.domain {
            TimeDomain::Event => self.lateness,
            TimeDomain::Processing => 0,
        };
        Some(window.max_timestamp().saturating_add(lateness)).filter(|time| *time < i64::MAX)
    }

    /// Whether a window of time has been forgotten: nothing comes into it any more.
    pub(super) fn is_late(&self, window: TimeWindow, now: Now) -> bool {
        self.assigner.domain == TimeDomain::Event && self.forgets(window).unwrap_or(i64::MAX) <= now.watermark
    }
}

impl<A> KeyWindows<A> {
    /// Whether there is nothing to keep for the key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.form {
            Form::Nothing => true,
            Form::Panes(state) => state.is_empty(),
            Form::Entries(state) => state.is_empty(),
        }
    }
}

#[cfg(test)]
impl<A> KeyWindows<A> {
    pub(super) fn check_invariants(&self, sessions: bool) {
        match &self.form {
            Form::Nothing => {}
            Form::Panes(state) => state.check_invariants(),
            Form::Entries(state) => state.check_invariants(sessions),
        }
    }
}

impl<A> Default for KeyWindows<A> {
    fn default() -> Self {
        Self { form: Form::Nothing }
    }
}
