//! Keyed process functions: timers of both domains, with everything that can be done to them.

use serde::{Deserialize, Serialize};
use tidemill::testing::TestEvent::{EndOfInput, Record, Watermark};
use tidemill::testing::{TestHarness, TestStream};
use tidemill::{Collector, KeyedContext, KeyedProcessFunction, OutputTag, TimeDomain, Timer, UserError};

/// What a record tells the function to do with its key's timers.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Act {
    Set(i64),
    Delete(i64),
    SetByClock(i64),
    DeleteByClock(i64),
}

/// Does what it is told, and reports each timer; one that is due sets another this much later.
#[derive(Clone)]
struct Timers {
    again: Option<i64>,
    side: OutputTag<i64>,
}

impl KeyedProcessFunction<char, (char, Act)> for Timers {
    type Out = String;

    fn process(
        &mut self,
        (_, act): (char, Act),
        context: &mut KeyedContext<'_, char>,
        _out: &mut Collector<String>,
    ) -> Result<(), UserError> {
        match act {
            Act::Set(time) => context.set_event_timer(time),
            Act::Delete(time) => context.delete_event_timer(time),
            Act::SetByClock(time) => context.set_processing_timer(time),
            Act::DeleteByClock(time) => context.delete_processing_timer(time),
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        context: &mut KeyedContext<'_, char>,
        out: &mut Collector<String>,
    ) -> Result<(), UserError> {
        let (key, time) = (*context.key(), timer.time);
        match timer.domain {
            TimeDomain::Event => {
                assert_eq!(context.timestamp(), Some(time));
                out.emit(format!("{key}{time}"));
                if let Some(again) = self.again {
                    context.set_event_timer(time.saturating_add(again));
                }
            }
            TimeDomain::Processing => {
                assert_eq!(context.timestamp(), None);
                out.emit(format!("{key}{time} by clock"));
                if let Some(again) = self.again {
                    context.set_processing_timer(time.saturating_add(again));
                }
            }
        }
        context.output(&self.side, time);
        Ok(())
    }
}

type Harness = TestHarness<(char, Act), String>;

fn harness(again: Option<i64>) -> Harness {
    let function = Timers { again, side: OutputTag::new("side") };
    TestHarness::new(|acts: TestStream<(char, Act)>| acts.key_by(|act| act.0).process(function)).unwrap()
}

fn tell(harness: &mut Harness, acts: &[(char, Act)]) {
    for act in acts {
        harness.push(*act, 0).unwrap();
    }
}

/// What a watermark causes before it is passed on.
fn at_watermark(harness: &mut Harness, time: i64) -> Vec<String> {
    harness.watermark(time).unwrap();
    let records = harness.records();
    assert_eq!(harness.take_events().pop(), Some(Watermark(time)), "timers come before the watermark");
    records
}

fn at_clock(harness: &mut Harness, time: i64) -> Vec<String> {
    harness.set_processing_time(time).unwrap();
    let records = harness.records();
    drop(harness.take_events());
    records
}

#[test]
fn event_timers_come_in_the_order_of_their_times_when_the_watermark_has_passed() {
    let mut harness = harness(None);
    tell(&mut harness, &[('b', Act::Set(20)), ('a', Act::Set(10)), ('a', Act::Set(-5)), ('c', Act::Set(11))]);
    assert_eq!(harness.events(), []);
    assert_eq!(at_watermark(&mut harness, 9), ["a-5"]);
    assert_eq!(at_watermark(&mut harness, 19), ["a10", "c11"]);
    assert_eq!(at_watermark(&mut harness, 20), ["b20"]);
    assert_eq!(at_watermark(&mut harness, 1_000), [] as [&str; 0]);
}

#[test]
fn a_timer_emits_with_its_own_time_and_to_side_outputs() {
    let mut harness = harness(None);
    let side = harness.side_output(&OutputTag::<i64>::new("side"));
    tell(&mut harness, &[('a', Act::Set(10)), ('a', Act::SetByClock(3))]);
    harness.set_processing_time(3).unwrap();
    harness.watermark(15).unwrap();
    let events = [Record("a3 by clock".to_owned(), None), Record("a10".to_owned(), Some(10)), Watermark(15)];
    assert_eq!(harness.events(), events);
    assert_eq!(side.events(), [Record(3, None), Record(10, Some(10)), Watermark(15)]);
}

#[test]
fn a_timer_that_is_set_twice_comes_once_and_each_key_and_domain_has_its_own() {
    let mut harness = harness(None);
    tell(&mut harness, &[('a', Act::Set(5)), ('a', Act::Set(5)), ('b', Act::Set(5)), ('a', Act::SetByClock(5))]);
    tell(&mut harness, &[('a', Act::SetByClock(5))]);
    let mut due = at_watermark(&mut harness, 5);
    due.sort();
    assert_eq!(due, ["a5", "b5"]);
    assert_eq!(at_clock(&mut harness, 5), ["a5 by clock"]);
}

#[test]
fn a_deleted_timer_does_not_come_and_deleting_what_is_not_set_does_nothing() {
    let mut harness = harness(None);
    tell(&mut harness, &[('a', Act::Set(5)), ('b', Act::Set(5)), ('a', Act::SetByClock(5)), ('a', Act::Delete(6))]);
    tell(&mut harness, &[('a', Act::Delete(5)), ('a', Act::Delete(5)), ('c', Act::Delete(5))]);
    assert_eq!(at_watermark(&mut harness, 5), ["b5"]);
    tell(&mut harness, &[('b', Act::DeleteByClock(5)), ('a', Act::DeleteByClock(5))]);
    assert_eq!(at_clock(&mut harness, 10), [] as [&str; 0]);
    tell(&mut harness, &[('a', Act::Set(7)), ('a', Act::Delete(7)), ('a', Act::Set(7))]);
    assert_eq!(at_watermark(&mut harness, 7), ["a7"], "what is set again after it was deleted comes");
}

#[test]
fn a_late_timer_comes_with_the_next_watermark() {
    let mut harness = harness(None);
    assert_eq!(at_watermark(&mut harness, 100), [] as [&str; 0]);
    tell(&mut harness, &[('a', Act::Set(50)), ('a', Act::Set(i64::MIN + 1))]);
    assert_eq!(harness.events(), []);
    assert_eq!(at_watermark(&mut harness, 101), [format!("a{}", i64::MIN + 1), "a50".to_owned()]);
}

#[test]
fn a_timer_by_clock_that_is_due_already_comes_at_once_without_new_input() {
    let mut harness = harness(None);
    harness.set_processing_time(100).unwrap();
    tell(&mut harness, &[('a', Act::SetByClock(100)), ('a', Act::SetByClock(-1)), ('a', Act::SetByClock(101))]);
    assert_eq!(harness.records(), ["a100 by clock", "a-1 by clock"]);
    drop(harness.take_events());
    assert_eq!(at_clock(&mut harness, 102), ["a101 by clock"]);
}

#[test]
fn a_clock_that_jumps_over_many_timers_calls_them_in_their_order_and_one_set_back_calls_none() {
    let mut harness = harness(None);
    tell(&mut harness, &[('c', Act::SetByClock(30)), ('a', Act::SetByClock(10)), ('b', Act::SetByClock(20))]);
    assert_eq!(at_clock(&mut harness, 25), ["a10 by clock", "b20 by clock"]);
    assert_eq!(at_clock(&mut harness, 5), [] as [&str; 0]);
    assert_eq!(at_clock(&mut harness, 29), [] as [&str; 0]);
    assert_eq!(at_clock(&mut harness, 30), ["c30 by clock"]);
}

#[test]
fn a_timer_that_is_set_by_a_timer_comes_too_as_far_as_time_has_come() {
    let mut harness = harness(Some(10));
    tell(&mut harness, &[('a', Act::Set(5)), ('b', Act::SetByClock(5))]);
    assert_eq!(at_watermark(&mut harness, 27), ["a5", "a15", "a25"]);
    assert_eq!(at_clock(&mut harness, 15), ["b5 by clock", "b15 by clock"]);
    assert_eq!(at_clock(&mut harness, 24), [] as [&str; 0]);
    assert_eq!(at_watermark(&mut harness, 35), ["a35"]);
}

#[test]
fn at_the_end_each_timer_that_was_set_before_comes_once_even_when_it_sets_another() {
    let mut harness = harness(Some(10));
    tell(&mut harness, &[('a', Act::Set(5)), ('a', Act::Set(i64::MAX)), ('b', Act::SetByClock(1_000))]);
    harness.end_input().unwrap();
    let record = |text: &str, time| Record(text.to_owned(), time);
    let events = [
        record("a5", Some(5)),
        record(&format!("a{}", i64::MAX), Some(i64::MAX)),
        Watermark(i64::MAX),
        record("b1000 by clock", None),
        EndOfInput,
    ];
    assert_eq!(harness.events(), events, "the timers for 15, for 1010 and for the end of time again do not come");
}
