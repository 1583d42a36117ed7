//! Windows and joins that cannot work: what the user is told.

use std::time::Duration;

use tidemill::{Collector, Error, ProcessWindowFunction, Trigger, UserError, WindowContext, Windows};

use crate::{Event, environment, event, ms, timed, untimed};

#[test]
fn a_session_gap_of_nothing_fails_the_job_with_advice() {
    let env = environment(1);
    let windows = Windows::dynamic_session(|event: &Event| ms(event.value));
    timed(&env, &[event(1, 0, 0)]).key_by(|event| event.key).window(windows).count().discard();
    let Error::JobFailed { failure, .. } = env.execute("no gap").unwrap_err() else { panic!("it failed") };
    assert!(failure.message.contains("shorter than a millisecond"), "{failure}");
    assert_eq!(failure.operator.as_deref(), Some("Window Count"));
}

#[test]
fn records_without_event_time_fail_the_job_with_advice() {
    let env = environment(2);
    untimed(&env, &[event(1, 0, 0)]).key_by(|event| event.key).window(Windows::tumbling(ms(1))).count().discard();
    let Error::JobFailed { failure, .. } = env.execute("no time").unwrap_err() else { panic!("it failed") };
    assert!(failure.message.contains("call assign_timestamps_and_watermarks"), "{failure}");

    let keyed = || untimed(&env, &[event(1, 0, 0)]).key_by(|event| event.key);
    keyed().interval_join(keyed(), 0, 1).process(|left, _| *left).discard();
    let Error::JobFailed { failure, .. } = env.execute("no time").unwrap_err() else { panic!("it failed") };
    assert!(failure.message.contains("call assign_timestamps_and_watermarks"), "{failure}");
}

#[test]
fn senseless_windows_are_refused_by_execute() {
    let env = environment(1);
    let keyed = || timed(&env, &[]).key_by(|event| event.key);
    let check = |message: &str| {
        let error = env.execute("senseless").unwrap_err();
        assert!(matches!(error, Error::Flow(_)), "{error}");
        assert!(error.to_string().contains(message), "{error}");
    };
    keyed().window(Windows::tumbling(ms(0))).count().discard();
    check("operator \"Window Count\": set the size of a window: 0 is not allowed");
    keyed().window(Windows::sliding(ms(1), ms(0))).count().discard();
    check("set the slide of a window: 0 is not allowed");
    keyed().window(Windows::session(Duration::from_micros(999))).count().discard();
    check("set the gap of a window: 0 is not allowed");
    keyed().window(Windows::tumbling(ms(5)).offset(ms(5))).count().discard();
    check("set the offset of a window: 5 is not allowed");
    keyed().count_window(0).count().discard();
    check("set the trigger count of a window: 0 is not allowed");
    keyed().count_window_sliding(0, 1).count().discard();
    check("set the evictor count of a window: 0 is not allowed");
    keyed().window(Windows::session(ms(1))).fold(0, |count, _| *count += 1).discard();
    check("use fold_merging");
    keyed().window(Windows::session(ms(1))).trigger(Trigger::delta(1.0, |_| 0.0)).count().discard();
    check("use a delta trigger on session windows: it cannot merge");
    keyed().interval_join(keyed(), 0, 0).lower_bound_exclusive().process(|left, _| *left).discard();
    check("no pair fits");
    // What was wrong does not stay wrong.
    keyed().window(Windows::tumbling(ms(1))).count().discard();
    env.execute("sensible").unwrap();
}

#[test]
fn a_panic_or_an_error_in_a_window_function_fails_the_job_and_names_the_operator() {
    #[derive(Clone)]
    struct Refuses;
    impl ProcessWindowFunction<u64, Event> for Refuses {
        type Out = u64;
        fn process(
            &mut self,
            _: &[Event],
            _: &mut WindowContext<'_, u64>,
            _: &mut Collector<u64>,
        ) -> Result<(), UserError> {
            Err("not today".into())
        }
    }
    let env = environment(1);
    let keyed = || timed(&env, &[event(1, 1, 1), event(1, 2, 2)]).key_by(|event| event.key);
    keyed().window(Windows::tumbling(ms(10))).process(Refuses).discard();
    let Error::JobFailed { failure, .. } = env.execute("error").unwrap_err() else { panic!("it failed") };
    assert_eq!((failure.operator.as_deref(), &*failure.message), (Some("Window Process"), "not today"));
    keyed().window(Windows::tumbling(ms(10))).reduce(|_, _| panic!("on purpose")).discard();
    let Error::JobFailed { failure, .. } = env.execute("panic").unwrap_err() else { panic!("it failed") };
    assert_eq!(failure.operator.as_deref(), Some("Window Reduce"));
}
