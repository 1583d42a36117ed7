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

#[test]
fn a_side_output_follows_its_operator_to_another_vertex() -> Result<(), Error> {
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
