//! What the checked objects do: a register, and a job as its clients see it.

use super::wgl::Model;
use crate::history::{Answer, CallKind};

/// A register that may never have been written.
#[derive(Debug, Clone, Copy)]
pub struct Register;

impl Model for Register {
    type State = Option<i64>;
    type Input = CallKind;
    type Output = Answer;

    fn init(&self) -> Option<i64> {
        None
    }

    fn step(&self, state: &Option<i64>, input: &CallKind, output: Option<&Answer>) -> Option<Option<i64>> {
        match (input, output) {
            (CallKind::Read, None) => Some(*state),
            (CallKind::Read, Some(Answer::Value(value))) => (value == state).then_some(*state),
            (CallKind::Write { value }, None | Some(Answer::Done)) => Some(Some(*value)),
            (CallKind::Cas { expect, value }, None) => Some(if expect == state { Some(*value) } else { *state }),
            (CallKind::Cas { expect, value }, Some(Answer::Swapped(swapped))) => {
                let next = if *swapped { Some(*value) } else { *state };
                ((expect == state) == *swapped).then_some(next)
            }
            (CallKind::Cas { expect, .. }, Some(Answer::Mismatch(found))) => {
                (found == state && found != expect).then_some(*state)
            }
            // An answer to another question is never right.
            (
                CallKind::Read
                | CallKind::Write { .. }
                | CallKind::Cas { .. }
                | CallKind::Append { .. }
                | CallKind::ReadList
                | CallKind::Submit
                | CallKind::Cancel
                | CallKind::Get
                | CallKind::List,
                _,
            ) => None,
        }
    }
}

/// How a job stands for its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Nobody submitted it yet.
    Absent,
    /// Accepted; it waits or runs.
    Active,
    /// A cancellation is decided.
    Cancelling,
    /// It was cancelled, and that is final.
    Canceled,
    /// It ended by itself, and that is final.
    Ended,
}

/// A job: `Absent`, then active, then cancelled or ended; no edge leads back, and none leads out of an end.
///
/// The steps from `Cancelling` to `Canceled` and from `Active` to `Ended` are the cluster's own: a status that is seen
/// proves that they were taken.
#[derive(Debug, Clone, Copy)]
pub struct Job;

impl Model for Job {
    type State = JobState;
    type Input = CallKind;
    type Output = Answer;

    fn init(&self) -> JobState {
        JobState::Absent
    }

    fn step(&self, state: &JobState, input: &CallKind, output: Option<&Answer>) -> Option<JobState> {
        match input {
            CallKind::Submit => submit(*state, output),
            CallKind::Cancel => cancel(*state, output),
            CallKind::Get => get(*state, output),
            CallKind::Read
            | CallKind::Write { .. }
            | CallKind::Cas { .. }
            | CallKind::Append { .. }
            | CallKind::ReadList
            | CallKind::List => None,
        }
    }
}

fn submit(state: JobState, output: Option<&Answer>) -> Option<JobState> {
    let created = state == JobState::Absent;
    let next = if created { JobState::Active } else { state };
    match output {
        None => Some(next),
        Some(Answer::Created(answer)) => (*answer == created).then_some(next),
        Some(_) => None,
    }
}

fn cancel(state: JobState, output: Option<&Answer>) -> Option<JobState> {
    match (state, output) {
        (JobState::Absent, None | Some(Answer::NotFound)) => Some(JobState::Absent),
        (JobState::Active, None | Some(Answer::Done)) => Some(JobState::Cancelling),
        (JobState::Cancelling | JobState::Canceled, None | Some(Answer::Done)) => Some(state),
        // Refused, since it had ended by itself.
        (JobState::Active | JobState::Ended, Some(Answer::Status(_))) => Some(JobState::Ended),
        (JobState::Ended, None) => Some(state),
        (
            JobState::Absent | JobState::Active | JobState::Cancelling | JobState::Canceled | JobState::Ended,
            Some(_),
        ) => None,
    }
}

fn get(state: JobState, output: Option<&Answer>) -> Option<JobState> {
    let Some(answer) = output else { return Some(state) };
    let Answer::Status(status) = answer else {
        return (*answer == Answer::NotFound && state == JobState::Absent).then_some(state);
    };
    match (status.as_str(), state) {
        ("CREATED" | "RUNNING" | "RESTARTING", JobState::Active) => Some(JobState::Active),
        ("CANCELLING", JobState::Cancelling) => Some(JobState::Cancelling),
        ("CANCELED", JobState::Cancelling | JobState::Canceled) => Some(JobState::Canceled),
        ("COMMITTING" | "FINISHED" | "FAILING" | "FAILED", JobState::Active | JobState::Ended) => Some(JobState::Ended),
        (_, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(steps: &[(CallKind, Option<Answer>)]) -> Option<JobState> {
        steps.iter().try_fold(Job.init(), |state, (input, output)| Job.step(&state, input, output.as_ref()))
    }

    fn status(name: &str) -> Option<Answer> {
        Some(Answer::Status(name.to_owned()))
    }

    #[test]
    fn a_cancelled_job_never_runs_again() {
        let created = (CallKind::Submit, Some(Answer::Created(true)));
        let cancelled = (CallKind::Cancel, Some(Answer::Done));
        let steps = [created.clone(), cancelled.clone(), (CallKind::Get, status("CANCELED"))];
        assert_eq!(after(&steps), Some(JobState::Canceled));
        assert_eq!(after(&[created.clone(), cancelled.clone(), (CallKind::Get, status("RUNNING"))]), None);
        let back = [created, cancelled, (CallKind::Get, status("CANCELED")), (CallKind::Get, status("CANCELLING"))];
        assert_eq!(after(&back), None);
    }

    #[test]
    fn a_submission_makes_a_job_once() {
        let submit = |created| (CallKind::Submit, Some(Answer::Created(created)));
        assert_eq!(after(&[submit(true), submit(false)]), Some(JobState::Active));
        assert_eq!(after(&[submit(true), submit(true)]), None);
        assert_eq!(after(&[submit(false)]), None);
        assert_eq!(after(&[(CallKind::Get, Some(Answer::NotFound)), submit(true)]), Some(JobState::Active));
        assert_eq!(after(&[submit(true), (CallKind::Get, Some(Answer::NotFound))]), None);
    }

    #[test]
    fn a_register_answers_with_what_was_written() {
        let write = CallKind::Write { value: 3 };
        let written = Register.step(&None, &write, Some(&Answer::Done));
        assert_eq!(written, Some(Some(3)));
        assert_eq!(Register.step(&Some(3), &CallKind::Read, Some(&Answer::Value(None))), None);
        let swap = CallKind::Cas { expect: Some(3), value: 4 };
        assert_eq!(Register.step(&Some(3), &swap, Some(&Answer::Swapped(true))), Some(Some(4)));
        assert_eq!(Register.step(&Some(3), &swap, Some(&Answer::Swapped(false))), None);
        assert_eq!(Register.step(&Some(5), &swap, None), Some(Some(5)));
    }
}
