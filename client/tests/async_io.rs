//! Asynchronous calls in an embedded cluster: their order, their number, and what becomes of those that fail.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::{AsyncOptions, Collector, Environment, Error, ProcessContext, UserError, WatermarkStrategy};
use tidemill_model::execution::FailureKind;
use tokio::sync::Semaphore;

fn environment(parallelism: u32, mode: &str) -> Environment {
    let mode = format!("execution.runtime-mode={mode}");
    let parallelism = parallelism.to_string();
    Environment::with_arguments(["-p", &parallelism, "-D", &mode, "-D", "restart-strategy.type=none"]).unwrap()
}

fn failure<T: std::fmt::Debug>(result: Result<T, Error>) -> tidemill_model::execution::Failure {
    let error = result.unwrap_err();
    let Error::JobFailed { failure, .. } = error else { panic!("{error}") };
    failure
}

/// Lets others run a few times.
async fn dawdle(times: u64) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

#[test]
fn ordered_calls_keep_the_order_and_unordered_ones_all_records() {
    for mode in ["batch", "streaming"] {
        for parallelism in 1..=3 {
            for options in [AsyncOptions::ordered(7), AsyncOptions::unordered(7), AsyncOptions::ordered(1)] {
                let env = environment(parallelism, mode);
                let ordered = options != AsyncOptions::unordered(7);
                let doubled = env.generate_sequence(0..5_000, None).map_async(options, |number| async move {
                    dawdle(number * 31 % 17).await;
                    Ok(number * 2)
                });
                let doubled = doubled.collect();
                let mut doubled = env.execute("doubled").unwrap().collected(&doubled).unwrap();
                if !(ordered && parallelism == 1) {
                    doubled.sort_unstable();
                }
                assert_eq!(doubled, (0..5_000).map(|number| number * 2).collect::<Vec<u64>>());
            }
        }
    }
}

#[test]
fn as_many_calls_run_as_there_is_room_for_and_no_more() {
    for options in [AsyncOptions::ordered(8), AsyncOptions::unordered(8)] {
        let env = environment(1, "streaming");
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        // Nobody goes on before eight are there.
        let barrier = Arc::new(tokio::sync::Barrier::new(8));
        let seen = Arc::clone(&most);
        let numbers = env.generate_sequence(0..800, None).map_async(options, move |number| {
            let (running, most, barrier) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&barrier));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                barrier.wait().await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(number)
            }
        });
        let numbers = numbers.collect();
        assert_eq!(env.execute("room").unwrap().collected(&numbers).unwrap().len(), 800);
        assert_eq!(seen.load(Ordering::SeqCst), 8);
    }
}

#[test]
fn unordered_results_pass_a_slow_call() {
    let env = environment(1, "streaming");
    let gate = Arc::new(Semaphore::new(0));
    let numbers = env.generate_sequence(0..1_000, None).map_async(AsyncOptions::unordered(4), move |number: u64| {
        let gate = Arc::clone(&gate);
        async move {
            match number {
                0 => drop(gate.acquire().await?),
                // With the order kept, there would be no room for this call before the first one has ended.
                500 => gate.add_permits(1),
                _ => {}
            }
            Ok(number)
        }
    });
    let numbers = numbers.collect();
    let numbers = env.execute("slow").unwrap().collected(&numbers).unwrap();
    assert!(numbers.iter().position(|number| *number == 0).unwrap() > 400);
    assert_eq!(numbers.iter().copied().collect::<BTreeSet<_>>(), (0..1_000).collect());
}

/// A watermark with every tenth record.
#[derive(Clone)]
struct EveryTenth;

impl tidemill::WatermarkGenerator<u64> for EveryTenth {
    fn on_record(&mut self, record: &u64, time: i64) -> Option<i64> {
        (record % 10 == 9).then_some(time)
    }

    fn on_interval(&mut self) -> Option<i64> {
        None
    }
}

#[derive(Clone)]
struct TimeAndWatermark;

impl tidemill::ProcessFunction<u64> for TimeAndWatermark {
    type Out = (u64, i64, i64);

    fn process(
        &mut self,
        number: u64,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        out.emit((number, context.timestamp().unwrap(), context.watermark()));
        Ok(())
    }
}

#[test]
fn no_record_is_overtaken_by_a_watermark_nor_overtakes_one() {
    for options in [AsyncOptions::ordered(25), AsyncOptions::unordered(25)] {
        let env = environment(1, "streaming");
        let strategy = WatermarkStrategy::new(|number: &u64| i64::try_from(*number).unwrap(), EveryTenth);
        let numbers = env.generate_sequence(0..2_000, None).assign_timestamps_and_watermarks(strategy);
        let numbers = numbers.map_async(options, |number| async move {
            dawdle(number * 31 % 17).await;
            Ok(number)
        });
        let seen = numbers.process(TimeAndWatermark).collect();
        for (number, time, watermark) in env.execute("watermarks").unwrap().collected(&seen).unwrap() {
            assert_eq!(u64::try_from(time).unwrap(), number);
            let before = time / 10 * 10 - 1;
            assert_eq!(watermark, if before < 0 { i64::MIN } else { before });
        }
    }
}

#[test]
fn a_call_that_takes_too_long_fails_the_job() {
    let env = environment(2, "streaming");
    let options = AsyncOptions::unordered(10).with_timeout(Duration::from_millis(5));
    env.generate_sequence(0..100, None)
        .map_async(options, |_| std::future::pending::<Result<u64, UserError>>())
        .name("Never")
        .discard();
    let failure = failure(env.execute("never"));
    assert_eq!((failure.kind, failure.operator.as_deref()), (FailureKind::Io, Some("Never")));
    assert!(failure.message.starts_with("call asynchronous function: no answer within 5ms"), "{}", failure.message);
}

#[test]
fn a_call_that_fails_is_made_again_as_often_as_was_asked_for() {
    for (retries, enough) in [(2, true), (1, false)] {
        let env = environment(2, "streaming");
        let attempts = Arc::new(Mutex::new(BTreeMap::new()));
        let counted = Arc::clone(&attempts);
        let options = AsyncOptions::ordered(10).with_retries(retries, Duration::ZERO, Duration::from_millis(1));
        let numbers = env.generate_sequence(0..100, None).map_async(options, move |number: u64| {
            let attempt = *counted.lock().unwrap().entry(number).and_modify(|count| *count += 1).or_insert(1);
            async move { if attempt < 3 { Err(format!("attempt {attempt}").into()) } else { Ok(number) } }
        });
        let numbers = numbers.name("Fickle").collect();
        let result = env.execute("fickle");
        if enough {
            assert_eq!(result.unwrap().collected(&numbers).unwrap().len(), 100);
            assert!(attempts.lock().unwrap().values().all(|count| *count == 3));
        } else {
            let failure = failure(result);
            assert_eq!((failure.operator.as_deref(), failure.message.as_str()), (Some("Fickle"), "attempt 2"));
        }
    }
}

#[test]
fn a_panic_in_an_asynchronous_call_names_its_operator() {
    for in_future in [false, true] {
        let env = environment(2, "streaming");
        let numbers = env.generate_sequence(0..1_000, None).map_async(AsyncOptions::ordered(10), move |number: u64| {
            assert!(in_future || number != 777, "cannot take {number}");
            async move {
                dawdle(3).await;
                assert!(number != 777, "cannot take {number}");
                Ok(number)
            }
        });
        numbers.name("Fragile").discard();
        let failure = failure(env.execute("fragile"));
        assert_eq!((failure.kind, failure.operator.as_deref()), (FailureKind::Panic, Some("Fragile")));
        assert_eq!(failure.message, "cannot take 777");
    }
}

#[test]
fn a_failure_elsewhere_ends_a_task_whose_calls_never_end() {
    let env = environment(2, "streaming");
    let begun = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&begun);
    env.generate_sequence(0.., None)
        .map_async(AsyncOptions::ordered(3), move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<Result<u64, UserError>>()
        })
        .discard();
    env.generate_sequence(0.., None)
        .map(move |number| {
            assert!(begun.load(Ordering::SeqCst) < 6, "all are taken");
            number
        })
        .discard();
    let message = failure(env.execute("stuck")).message;
    assert!(message.starts_with("all are taken; record: "), "{message}");
}

#[test]
fn room_for_any_number_of_calls_may_be_asked_for() {
    for options in [AsyncOptions::ordered(usize::MAX), AsyncOptions::unordered(0)] {
        let env = environment(1, "batch");
        let numbers = env.generate_sequence(0..100, None).map_async(options, |number| async move { Ok(number) });
        let numbers = numbers.collect();
        assert_eq!(env.execute("room").unwrap().collected(&numbers).unwrap().len(), 100);
    }
}
