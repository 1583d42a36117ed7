//! The sub-tasks that read splits: which split is read next, how long nobody has anything, how far event time is.

mod waiting;

use std::collections::VecDeque;
use std::rc::Rc;

use tidemill_model::execution::{Failure, FailureKind};
use tidemill_model::job::RuntimeMode;

use self::waiting::Waiting;
use super::split_output::{End, Output, Target};
use super::watermark_group::{AlignedSubtask, GroupMember};
use super::{Error, Reading, Source, SplitReader, SplitTimes, Times};
use crate::engine::split_watermarks::SplitWatermarks;
use crate::flow::OperatorIndex;
use crate::function::SideOutputs;
use crate::pipe::{Pipe, Placement};
use crate::push::{Push, Stopped, blame};
use crate::record::{Control, END_OF_TIME, Timestamp};
use crate::runtime::gate::{InputTask, Turn};
use crate::runtime::sink::UserError;
use crate::runtime::task::{Task, TaskContext};

/// How often watermarks are sent at most, as behind `assign_timestamps_and_watermarks`.
const WATERMARK_INTERVAL_MS: Timestamp = 200;

/// The records of a source whose splits arrive over an exchange.
pub struct FromSplits<S, W> {
    source: S,
    times: W,
    operator: OperatorIndex,
}

impl<S, W> FromSplits<S, W> {
    pub(super) fn new(source: S, times: W, operator: OperatorIndex) -> Self {
        Self { source, times, operator }
    }
}

impl<S: Source, W: Times<S::Out>> Pipe for FromSplits<S, W> {
    type Out = S::Out;
    type Placed = Self;

    fn fuse<N: Push<S::Out> + 'static>(&self, next: N, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        let splits = context.restored_values::<Vec<S::Split>>(&context.first_uid().state(SPLITS))?;
        let waiting = Waiting::new(splits.into_iter().flatten().collect());
        let input = InputTask::new(context.input_gate::<S::Split>()?, waiting);
        Ok(Box::new(SplitTask {
            source: self.source.clone(),
            times: self.times.clone(),
            operator: context.operator_name(self.operator),
            input,
            open: VecDeque::new(),
            opened: 0,
            // In batch mode all that matters is that the end comes.
            timed: W::ASSIGNS && context.mode() == RuntimeMode::Streaming,
            next_interval: Timestamp::MIN,
            target: Target {
                watermarks: SplitWatermarks::default(),
                sides: SideOutputs::open(self.operator, context)?,
                next,
            },
            context: context.clone(),
        }))
    }

    fn place(self, placement: &mut Placement<'_>) -> Self {
        placement.whole_vertex();
        self
    }
}

/// The name of the state that says which splits a sub-task has, and how far it has read them.
const SPLITS: &str = "splits";

/// A split that is being read.
struct OpenSplit<R, C> {
    number: u64,
    reader: R,
    times: C,
    /// When it said that it may have more; none: it has.
    resume_at: Option<Timestamp>,
    /// Whether a record came since the last look at the clock.
    seen: bool,
    /// When the clock was looked at and a record had come.
    last_record: Timestamp,
    /// What it is in the group that its source is in.
    member: Option<GroupMember>,
    /// A watermark that the group knows and downstream does not yet.
    unsaid: Option<Timestamp>,
}

impl<R, C> OpenSplit<R, C> {
    /// Whether it has to wait for others of its group.
    fn is_paused(&self) -> bool {
        self.member.as_ref().is_some_and(GroupMember::is_paused)
    }
}

/// A chain that begins with the readers of splits.
struct SplitTask<S: Source, W: Times<S::Out>, N> {
    source: S,
    times: W,
    operator: Rc<str>,
    input: InputTask<S::Split, Waiting<S::Split>>,
    /// The one whose turn it is first.
    open: VecDeque<OpenSplit<S::Reader, W::Split>>,
    /// How many splits were opened so far.
    opened: u64,
    /// Whether it sends watermarks.
    timed: bool,
    next_interval: Timestamp,
    target: Target<N>,
    context: TaskContext,
}

impl<S: Source, W: Times<S::Out>, N: Push<S::Out>> SplitTask<S, W, N> {
    #[cold]
    fn fail(&self, error: &Error) -> Stopped {
        self.context.fail(self.context.failure(error.kind(), Some(&self.operator), error.to_string()))
    }

    /// Opens splits while there are some and there is room; one more is taken, to learn whether it is the last.
    fn open_splits(&mut self) -> Result<(), Stopped> {
        loop {
            if self.input.next().splits.is_empty() {
                if self.input.ended() || !self.input.try_step(Turn::Come)? {
                    break;
                }
                self.on_barrier()?;
            } else if self.open.len() < self.source.open_splits_max().max(1) {
                let split = self.input.pop();
                split.map_or(Ok(()), |split| self.open_split(split))?;
            } else {
                break;
            }
        }
        if let Some(settled) = self.input.next().said.take()
            && self.timed
        {
            let said = self.target.watermarks.set_settled(settled);
            self.target.say(said)?;
        }
        if let Some(aligned) = self.context.aligned() {
            aligned.set_awaits_splits(self.target.watermarks.awaits_splits());
        }
        Ok(())
    }

    /// Takes what waits in the channel, though there is no room for further splits: a barrier may be behind them.
    fn look_for_barrier(&mut self) -> Result<(), Stopped> {
        while self.context.wanted_trigger().is_some() && self.input.look()? {
            self.on_barrier()?;
        }
        Ok(())
    }

    /// The enumerator's barrier has come: the splits before it are here, and those after it are not.
    fn on_barrier(&mut self) -> Result<(), Stopped> {
        self.input.take_reached().map_or(Ok(()), |checkpoint| self.pass_barrier(checkpoint))
    }

    #[cold]
    fn pass_barrier(&mut self, checkpoint: u64) -> Result<(), Stopped> {
        if self.context.takes_checkpoints() {
            let open = self.open.iter().map(|split| &split.reader);
            let mut splits: Vec<S::Split> = blame(&self.operator, || open.map(SplitReader::split).collect());
            splits.extend(self.input.next().splits.iter().cloned());
            self.context.keep_value(self.context.first_uid().state(SPLITS), splits);
        }
        self.target.say(vec![Control::Barrier(checkpoint)])?;
        self.context.barrier_passed(checkpoint);
        Ok(())
    }

    #[cold]
    fn on_checkpoint_news(&mut self) -> Result<(), Stopped> {
        self.input.abort(self.context.aborted());
        if let Some(checkpoint) = self.context.take_completed() {
            self.target.say(vec![Control::Completed(checkpoint)])?;
            self.context.confirm(checkpoint);
        }
        Ok(())
    }

    fn open_split(&mut self, split: S::Split) -> Result<(), Stopped> {
        let name = format!("{split:?}");
        let source = &self.source;
        let reader = blame(&self.operator, || source.reader(split)).map_err(|reason| {
            self.fail(&Error::Open { source_name: self.operator.as_ref().to_owned(), split: name, reason })
        })?;
        self.opened += 1;
        if self.timed {
            let said = self.target.watermarks.open(self.opened);
            self.target.say(said)?;
        }
        self.open.push_back(OpenSplit {
            number: self.opened,
            reader,
            times: self.times.begin(),
            resume_at: None,
            seen: false,
            last_record: self.context.processing_time(),
            member: self.context.aligned().map(AlignedSubtask::open_split),
            unsaid: None,
        });
        Ok(())
    }

    /// Brings the next split that has something to the front; if none has, answers when one may. Those that are paused
    /// are waited for without a time: the group wakes the task.
    fn turn(&mut self) -> Result<(), Timestamp> {
        let mut earliest = Timestamp::MAX;
        let mut now = None;
        for _ in 0..self.open.len() {
            let Some(split) = self.open.front() else { return Ok(()) };
            if !split.is_paused() {
                let Some(resume_at) = split.resume_at else { return Ok(()) };
                if resume_at <= *now.get_or_insert_with(|| self.context.processing_time()) {
                    return Ok(());
                }
                earliest = earliest.min(resume_at);
            }
            self.open.rotate_left(1);
        }
        Err(earliest)
    }

    /// Has the first split emit some records.
    fn read(&mut self) -> Result<(), Stopped> {
        let Some(mut split) = self.open.pop_front() else { return Ok(()) };
        let mut out = Output {
            target: &mut self.target,
            number: split.number,
            times: &mut split.times,
            timed: self.timed,
            assigns: W::ASSIGNS,
            count: 0,
            end: End::None,
            context: &self.context,
        };
        let reader = &mut split.reader;
        let reading = blame(&self.operator, || reader.read(&mut out));
        let (count, end) = (out.count, out.end);
        self.context.count_in(count);
        split.seen |= count > 0;
        match end {
            End::None => self.target.sides.check()?,
            End::Stopped(stopped) => return Err(stopped),
            End::NoTime => return Err(self.refuse_time()),
        }
        self.align(&mut split, count > 0);
        match reading.map_err(|reason| self.read_error(&split, reason))? {
            Reading::More => {
                split.resume_at = None;
                self.open.push_back(split);
            }
            Reading::Wait(time) => {
                let wait = Timestamp::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(Timestamp::MAX);
                split.resume_at = Some(self.context.processing_time().saturating_add(wait));
                self.open.push_back(split);
            }
            Reading::Ended if self.timed => {
                let said = self.target.watermarks.close(split.number);
                self.target.say(said)?;
            }
            Reading::Ended => {}
        }
        Ok(())
    }

    /// Tells the group of a split's source how far the split has come.
    fn align(&self, split: &mut OpenSplit<S::Reader, W::Split>, seen: bool) {
        let Some(member) = &split.member else { return };
        let times = &mut split.times;
        // Asked here as well: at intervals alone, a split could be far ahead before anybody noticed.
        split.unsaid = split.unsaid.max(blame(&self.operator, || times.on_interval()));
        if seen {
            member.set_idle(false);
        }
        member.report(self.target.watermarks.of(split.number).max(split.unsaid.unwrap_or(Timestamp::MIN)));
    }

    #[cold]
    fn read_error(&self, split: &OpenSplit<S::Reader, W::Split>, reason: UserError) -> Stopped {
        let split = blame(&self.operator, || format!("{:?}", split.reader.split()));
        self.fail(&Error::Read { source_name: self.operator.as_ref().to_owned(), split, reason })
    }

    #[cold]
    fn refuse_time(&self) -> Stopped {
        let message = "assign event time: i64::MIN stands for \"no time\"; give the record a later one".to_owned();
        self.context.fail(self.context.failure(FailureKind::InvalidInput, Some(&self.operator), message))
    }

    /// It is so late that an operator, or this task, wants to be called.
    fn on_time(&mut self, now: Timestamp) -> Result<(), Stopped> {
        self.target.next.control(Control::ProcessingTime(now))?;
        if self.timed && now >= self.next_interval {
            self.on_interval(now)?;
        }
        self.sleep_until_interval();
        Ok(())
    }

    /// Sends the watermarks that are due, and notices splits from which nothing has come for long.
    fn on_interval(&mut self, now: Timestamp) -> Result<(), Stopped> {
        let idle_after_ms = self.times.idle_after_ms();
        self.next_interval = now.saturating_add(interval(idle_after_ms));
        for split in &mut self.open {
            // Nor is one idle that is not let read.
            if std::mem::take(&mut split.seen) || split.is_paused() {
                split.last_record = now;
            }
            let times = &mut split.times;
            let unsaid = split.unsaid.take();
            if let Some(watermark) = blame(&self.operator, || times.on_interval()).max(unsaid) {
                split.member.iter().for_each(|member| member.report(watermark));
                let said = self.target.watermarks.advance(split.number, watermark);
                self.target.say(said)?;
            }
            let silent = now.saturating_sub(split.last_record);
            if idle_after_ms.is_some_and(|limit| silent >= limit) {
                split.member.iter().for_each(|member| member.set_idle(true));
                let said = self.target.watermarks.set_idle(split.number, true);
                self.target.say(said)?;
            }
        }
        Ok(())
    }

    fn sleep_until_interval(&self) {
        if self.timed {
            self.context.wake_at(self.next_interval);
        }
    }

    /// Waits for a split, or until one that is open may have more.
    fn wait(&mut self, until: Timestamp) -> Result<(), Stopped> {
        self.target.sides.flush()?;
        self.target.next.flush()?;
        if until < Timestamp::MAX {
            self.context.wake_at(until);
        }
        if self.input.next().splits.is_empty() || self.context.wanted_trigger().is_some() {
            self.input.wait()?;
            return self.on_barrier();
        }
        // No room for another one: those that come wait in their channel.
        self.context.until_due().map_or(Ok(()), |time| self.context.wait(time))
    }
}

/// The time between two looks at the clock.
fn interval(idle_after_ms: Option<Timestamp>) -> Timestamp {
    idle_after_ms.map_or(WATERMARK_INTERVAL_MS, |idle| WATERMARK_INTERVAL_MS.min(idle.max(1)))
}

impl<S: Source, W: Times<S::Out>, N: Push<S::Out>> Task for SplitTask<S, W, N> {
    fn run(&mut self) -> Result<(), Stopped> {
        if self.context.had_finished() {
            self.input.drain()?;
            return self.target.say(vec![Control::FinishedBefore]);
        }
        self.next_interval = self.context.processing_time().saturating_add(interval(self.times.idle_after_ms()));
        self.sleep_until_interval();
        loop {
            self.context.poll()?;
            if let Some(now) = self.context.take_due() {
                self.on_time(now)?;
            }
            if self.context.has_checkpoint_news() {
                self.on_checkpoint_news()?;
            }
            if self.context.is_draining() {
                self.input.drain()?;
                break;
            }
            self.open_splits()?;
            if self.input.ended() {
                if self.open.is_empty() && self.input.next().splits.is_empty() {
                    break;
                }
                // No barrier comes any more from the one who found the splits.
                if let Some(checkpoint) = self.context.wanted_trigger() {
                    self.pass_barrier(checkpoint)?;
                }
            } else if self.context.wanted_trigger().is_some() {
                self.look_for_barrier()?;
            }
            match self.turn() {
                Ok(()) => self.read()?,
                Err(until) => self.wait(until)?,
            }
        }
        self.target.say(vec![Control::Watermark(END_OF_TIME), Control::EndOfInput])
    }
}
