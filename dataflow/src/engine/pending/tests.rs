//! Orders of completion against what may come out.

use super::*;

fn drain(pending: &mut Pending<&'static str>) -> Vec<Output<&'static str>> {
    std::iter::from_fn(|| pending.pop()).collect()
}

fn watermark(time: Timestamp) -> Output<&'static str> {
    Output::Control(Control::Watermark(time))
}

#[test]
fn ordered_results_come_out_in_the_order_of_their_records() {
    let mut pending = Pending::new(Order::Ordered, 3);
    let tickets = [1, 2, 3].map(|time| pending.begin(time));
    assert!(!pending.has_room());
    pending.complete(tickets[2], "c");
    pending.complete(tickets[1], "b");
    assert_eq!(drain(&mut pending), []);
    pending.complete(tickets[0], "a");
    let results = [("a", 1), ("b", 2), ("c", 3)].map(|(result, time)| Output::Result(result, time));
    assert_eq!(drain(&mut pending), results);
    assert!(pending.has_room() && pending.is_empty());
}

#[test]
fn unordered_results_come_out_at_once_but_do_not_overtake_control() {
    let mut pending = Pending::new(Order::Unordered, 4);
    let (first, second) = (pending.begin(1), pending.begin(2));
    pending.control(Control::Watermark(2));
    let third = pending.begin(3);
    pending.complete(second, "b");
    pending.complete(third, "c");
    assert_eq!(drain(&mut pending), [Output::Result("b", 2)]);
    pending.complete(first, "a");
    assert_eq!(drain(&mut pending), [Output::Result("a", 1), watermark(2), Output::Result("c", 3)]);
    assert!(pending.is_empty());
}

#[test]
fn control_waits_for_the_records_before_it_in_either_order() {
    for order in [Order::Ordered, Order::Unordered] {
        let mut pending = Pending::new(order, 2);
        let ticket = pending.begin(1);
        pending.control(Control::Idle);
        pending.control(Control::Active);
        pending.control(Control::Barrier(7));
        assert_eq!(drain(&mut pending), []);
        pending.complete(ticket, "a");
        let control = [Control::Idle, Control::Active, Control::Barrier(7)].map(Output::Control);
        assert_eq!(drain(&mut pending), [&[Output::Result("a", 1)][..], &control[..]].concat());
        assert!(pending.is_empty());
    }
}

#[test]
fn control_without_records_before_it_comes_out_at_once() {
    let mut pending = Pending::new(Order::Unordered, 1);
    pending.control(Control::Watermark(1));
    assert_eq!(drain(&mut pending), [watermark(1)]);
    let ticket = pending.begin(2);
    pending.complete(ticket, "a");
    assert_eq!(drain(&mut pending), [Output::Result("a", 2)]);
    pending.control(Control::Watermark(2));
    assert_eq!(drain(&mut pending), [watermark(2)]);
}

#[test]
fn watermarks_behind_a_slow_call_become_one_and_other_control_is_bounded() {
    let mut pending = Pending::new(Order::Unordered, 2);
    let ticket = pending.begin(0);
    for time in 0..100 {
        pending.control(Control::Watermark(time));
    }
    assert!(pending.has_room());
    let mut count = 0;
    while pending.has_room() {
        pending.control(Control::Barrier(count));
        count += 1;
    }
    assert!(count < 10, "{count}");
    pending.complete(ticket, "a");
    let all = drain(&mut pending);
    assert_eq!(all[..2], [Output::Result("a", 0), watermark(99)]);
    assert_eq!(all.len() as u64, 2 + count);
    assert!(pending.has_room());
}

/// Many random histories: nothing is lost, control stays between its records, and ordered means ordered.
#[test]
fn every_history_keeps_its_order() {
    for seed in 0..200u64 {
        let order = if seed % 2 == 0 { Order::Ordered } else { Order::Unordered };
        let mut state = seed;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut pending = Pending::new(order, 8);
        let (mut running, mut out, mut next, mut barriers) = (Vec::new(), Vec::new(), 0i64, Vec::new());
        while next < 200 || !pending.is_empty() {
            let room = next < 200 && pending.has_room();
            if room && random(5) == 0 {
                pending.control(Control::Barrier(u64::try_from(next).unwrap()));
                barriers.push(next);
            } else if room && random(2) == 0 {
                running.push((pending.begin(next), next));
                next += 1;
            } else if !running.is_empty() {
                let index = usize::try_from(random(running.len() as u64)).unwrap();
                let (ticket, number) = running.swap_remove(index);
                pending.complete(ticket, number);
            }
            out.extend(std::iter::from_fn(|| pending.pop()));
        }
        let mut numbers = Vec::new();
        let mut seen = Vec::new();
        for output in out {
            match output {
                Output::Result(number, time) => {
                    assert_eq!(number, time);
                    assert!(seen.last().is_none_or(|barrier| number >= *barrier), "seed {seed}");
                    numbers.push(number);
                }
                Output::Control(Control::Barrier(before)) => {
                    let before = i64::try_from(before).unwrap();
                    let mut sorted = numbers.clone();
                    sorted.sort_unstable();
                    assert_eq!(sorted, (0..before).collect::<Vec<_>>(), "seed {seed}");
                    seen.push(before);
                }
                Output::Control(other) => panic!("seed {seed}: {other:?}"),
            }
        }
        assert_eq!(seen, barriers, "seed {seed}");
        if order == Order::Unordered {
            numbers.sort_unstable();
        }
        assert_eq!(numbers, (0..200).collect::<Vec<_>>(), "seed {seed}");
    }
}
