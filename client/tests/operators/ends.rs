//! The end of time: it comes behind all that the records before it cause, and not while an input may go on.

use tidemill::testing::TestJob;
use tidemill::{
    Collector, Error, KeyedContext, KeyedProcessFunction, RuntimeMode, Timer, UserError, WatermarkStrategy, Windows,
};

/// Tells of each record when the watermark has passed it by 10 ms.
#[derive(Clone)]
struct Later;

impl KeyedProcessFunction<i64, i64> for Later {
    type Out = i64;

    fn process(
        &mut self,
        record: i64,
        context: &mut KeyedContext<'_, i64>,
        _out: &mut Collector<i64>,
    ) -> Result<(), UserError> {
        context.set_event_timer(record + 10);
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        _context: &mut KeyedContext<'_, i64>,
        out: &mut Collector<i64>,
    ) -> Result<(), UserError> {
        out.emit(timer.time);
        Ok(())
    }
}

#[test]
fn records_of_an_idle_input_are_not_late_because_another_has_ended() -> Result<(), Error> {
    let mut job = TestJob::new()?;
    let ((short, short_stream), (long, long_stream)) = (job.input::<i64>(), job.input::<i64>());
    let output = job.output(short_stream.union(long_stream).key_by(|_| 0).process(Later));
    job.idle(&long)?;
    job.push(&short, 1, 1)?;
    job.end_input(&short)?;
    job.active(&long)?;
    job.push(&long, 5, 5)?;
    job.watermark(&long, 15)?;
    assert_eq!(output.records(), [11, 15]);
    job.end_input(&long)
}

#[test]
fn results_of_a_batch_are_not_late_in_the_windows_behind_them() -> Result<(), Error> {
    for mode in [RuntimeMode::Batch, RuntimeMode::Streaming] {
        let mut job = TestJob::new()?.with_runtime_mode(mode);
        let (input, stream) = job.input::<(u64, i64)>();
        let sums = stream.key_by(|record| record.0).reduce(|sum, record| sum.1 = sum.1.max(record.1));
        let timed = sums.assign_timestamps_and_watermarks(WatermarkStrategy::monotonous(|sum: &(u64, i64)| sum.1));
        let windows = timed.key_by(|_| 0u64).window(Windows::tumbling(std::time::Duration::from_secs(1)));
        let output = job.output(windows.reduce(|one, other| one.1 += other.1));
        for record in [(1, 10), (2, 20), (3, 1_500)] {
            job.push(&input, record, None)?;
        }
        job.end_input(&input)?;
        assert_eq!(output.records().iter().map(|sum| sum.1).collect::<Vec<_>>(), [30, 1_500], "{mode:?}");
    }
    Ok(())
}
