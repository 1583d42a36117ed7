//! How a program's streams become vertices and edges: chains, exchanges, groups; and that each of them runs.

use tidemill::{Environment, Error, OutputTag};

fn environment(parallelism: &str) -> Result<Environment, Error> {
    Environment::with_arguments(["-p", parallelism])
}

fn sorted<T: Ord>(mut records: Vec<T>) -> Vec<T> {
    records.sort();
    records
}

#[test]
fn exchanges_may_follow_each_other_directly() -> Result<(), Error> {
    let env = environment("2")?;
    let small = env.generate_sequence(0..50, None).rebalance();
    let large = env.generate_sequence(50..100, None).set_parallelism(1);
    let both =
        small.union(large).partition_custom(|number, consumers| usize::from(*number % 2 == 1) % consumers).share();
    let counts = both.stream().key_by(|number| number % 2).count().collect();
    let all = both.stream().rescale().union(both.stream().shuffle()).global().collect();
    let result = env.execute("exchanges")?;
    assert_eq!(sorted(result.collected(&counts)?), [(0, 50), (1, 50)]);
    let twice: Vec<u64> = (0..100).flat_map(|number| [number, number]).collect();
    assert_eq!(sorted(result.collected(&all)?), twice);
    Ok(())
}

#[test]
fn readers_of_a_shared_stream_may_have_another_parallelism() -> Result<(), Error> {
    let env = environment("2")?;
    let numbers = env.generate_sequence(0..100, None).share();
    let same = numbers.stream().map(|number| number).collect();
    let more = numbers.stream().map(|number| number).set_parallelism(3).collect();
    let fewer = numbers.stream().map(|number| number).set_parallelism(1).collect();
    // Nobody reads this one.
    drop(numbers.stream().map(|number| number));
    let result = env.execute("share")?;
    for handle in [&same, &more, &fewer] {
        assert_eq!(sorted(result.collected(handle)?), (0..100).collect::<Vec<u64>>());
    }
    Ok(())
}

/// Sends odd numbers to a side output.
#[derive(Clone)]
struct Odd(OutputTag<u64>);

impl tidemill::ProcessFunction<u64> for Odd {
    type Out = u64;

    fn process(
        &mut self,
        number: u64,
        context: &mut tidemill::ProcessContext<'_>,
        out: &mut tidemill::Collector<u64>,
    ) -> Result<(), tidemill::UserError> {
        if number % 2 == 1 {
            context.output(&self.0, number);
        } else {
            out.emit(number);
        }
        Ok(())
    }
}

#[test]
fn a_side_output_follows_its_operator_to_another_vertex() -> Result<(), Error> {
    let env = environment("2")?;
    let tag = OutputTag::new("odd");
    let even = env.generate_sequence(0..100, None).process(Odd(tag.clone()));
    let odd = even.side_output(&tag).collect();
    let even = even.set_parallelism(3).collect();
    let result = env.execute("side output")?;
    assert_eq!(sorted(result.collected(&odd)?), (0..100).filter(|number| number % 2 == 1).collect::<Vec<u64>>());
    assert_eq!(sorted(result.collected(&even)?), (0..100).filter(|number| number % 2 == 0).collect::<Vec<u64>>());

    let unused = env.generate_sequence(0..100, None).process(Odd(tag.clone()));
    unused.side_output(&tag).discard();
    drop(unused);
    let error = env.execute("main output unused").map(|_| ()).map_err(|error| error.to_string());
    let advice = "side output \"odd\" of operator \"Process\" is used, but the operator's main output leads nowhere";
    assert!(error.is_err_and(|error| error.contains(advice)));
    Ok(())
}

#[test]
fn chains_and_groups_are_in_the_plan() -> Result<(), Error> {
    let env = environment("2")?;
    let numbers = env.generate_sequence(0..10, None).map(|number| number).start_new_chain();
    let numbers = numbers.filter(|_| true).disable_chaining().map(|number| number).slot_sharing_group("heavy");
    let numbers = numbers.key_by(|number| *number).count().collect();
    assert_eq!(env.execute("groups")?.collected(&numbers)?.len(), 10);

    let left = env.generate_sequence(0..5, None);
    let right = env.generate_sequence(5..10, None).set_parallelism(1).co_locate_with(&left);
    left.union(right).discard();
    let error = env.execute("different parallelism").map(|_| ()).map_err(|error| error.to_string());
    assert!(error.is_err_and(|error| error.contains("co-locat")));
    Ok(())
}

#[test]
fn streams_may_part_and_meet_any_number_of_times() -> Result<(), Error> {
    let env = environment("1")?;
    let mut numbers = env.generate_sequence(0..3, None).rebalance();
    for _ in 0..40 {
        let shared = numbers.share();
        numbers = shared.stream().filter(|_| true).union(shared.stream().filter(|_| false));
    }
    let numbers = numbers.collect();
    assert_eq!(env.execute("diamonds")?.collected(&numbers)?, [0, 1, 2]);
    Ok(())
}

/// Why a program cannot be built, or run.
fn refusal(env: &Environment) -> String {
    env.execute("refused").map(|_| ()).map_err(|error| error.to_string()).expect_err("it makes no sense")
}

#[test]
fn a_side_output_of_an_operator_that_has_none_is_refused_and_does_not_hang() -> Result<(), Error> {
    let env = environment("2")?;
    let numbers = env.generate_sequence(0..10, None).map(|number| number);
    numbers.side_output(&OutputTag::<u64>::new("odd")).discard();
    numbers.discard();
    let first = refusal(&env);
    assert!(first.contains("operator \"Map\" has no side outputs, but \"odd\" is used"), "{first}");

    // Each would wait for records of its own type, of which the other has none.
    let env = environment("2")?;
    let numbers = env.generate_sequence(0..10, None).process(Odd(OutputTag::new("odd")));
    numbers.side_output(&OutputTag::<u64>::new("odd")).discard();
    numbers.side_output(&OutputTag::<String>::new("odd")).discard();
    numbers.discard();
    let refusal = refusal(&env);
    assert!(refusal.contains("side output \"odd\" is read as u64 and as alloc::string::String"), "{refusal}");

    // Nobody reads this one.
    let env = environment("2")?;
    let numbers = env.generate_sequence(0..10, None).map(|number| number);
    drop(numbers.side_output(&OutputTag::<u64>::new("odd")));
    numbers.discard();
    env.execute("unused")?;
    Ok(())
}

#[test]
fn co_location_follows_an_operator_to_another_vertex() -> Result<(), Error> {
    let env = environment("2")?;
    let left = env.generate_sequence(0..5, None).map(|number| number);
    let right = env.generate_sequence(5..10, None).map(|number| number).co_locate_with(&left).set_parallelism(1);
    left.union(right).discard();
    let first = refusal(&env);
    assert!(first.contains("co-locat"), "{first}");

    let left = env.generate_sequence(0..5, None).map(|number| number);
    let right = env.generate_sequence(5..10, None).map(|number| number).co_locate_with(&left);
    left.set_parallelism(1).union(right).discard();
    let second = refusal(&env);
    assert!(second.contains("co-locat"), "{second}");
    Ok(())
}

#[test]
fn a_stream_may_be_co_located_with_several() -> Result<(), Error> {
    let env = environment("2")?;
    let one = env.generate_sequence(0..5, None).set_parallelism(1);
    let two = env.generate_sequence(0..5, None);
    let both = env.generate_sequence(5..10, None).set_parallelism(1).co_locate_with(&one).co_locate_with(&two);
    one.union(two).union(both).discard();
    let refusal = refusal(&env);
    assert!(refusal.contains("co-locat"), "{refusal}");
    Ok(())
}

#[test]
#[should_panic(expected = "a stream is used in a program that it is not of")]
fn streams_of_two_environments_do_not_meet() {
    let [one, other] = ["1", "1"].map(|parallelism| environment(parallelism).expect("the arguments are right"));
    let both = one.generate_sequence(0..5, None).union(other.generate_sequence(0..5, None));
    both.discard();
}

#[test]
#[should_panic(expected = "a stream is used in a program that it is not of")]
fn a_stream_of_an_earlier_job_is_not_taken_into_the_next() {
    let env = environment("1").expect("the arguments are right");
    let numbers = env.generate_sequence(0..5, None).share();
    numbers.stream().discard();
    env.execute("first").map(|_| ()).expect("the first job runs");
    env.generate_sequence(0..5, None).discard();
    numbers.stream().discard();
}

#[test]
fn a_stream_without_an_operator_of_its_own_cannot_be_named() -> Result<(), Error> {
    let env = environment("1")?;
    let numbers = env.generate_sequence(0..10, None).uid("numbers").share();
    numbers.stream().uid("reader").discard();
    let error = env.execute("uids").map(|_| ()).map_err(|error| error.to_string());
    assert!(error.is_err_and(|error| error.contains("uid(\"reader\")")));
    Ok(())
}
