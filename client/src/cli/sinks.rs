//! `tidemill sinks pending`: what sinks have written and not yet published.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tidemill_model::id::{CheckpointId, JobId};

use super::arguments::ClusterArguments;
use super::error::Error;
use super::jobs::{client, print};
use super::text::table;
use crate::job_client::{NewestCommit, PendingSink, PendingSinks};

/// `sinks`.
#[derive(Debug, Subcommand)]
pub(super) enum SinksCommand {
    /// Show the transactions of a job's sinks that are prepared and not known to be committed.
    #[command(after_help = "\
A sink prepares what it has written at each checkpoint, and publishes it when that checkpoint is completed. Shown is what \
the newest completed checkpoint knows: what waits for it until all sinks have confirmed that they have published it, and \
what waits for the end of the job. What was written since is in transactions that only the tasks know; a failure takes \
them back, and writes them again.

Nobody has to do anything about a transaction that is shown: whoever runs next commits it, also after failures.")]
    Pending(PendingCommand),
}

/// `sinks pending`.
#[derive(Debug, Args)]
pub(super) struct PendingCommand {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// The job, as `tidemill list` shows it.
    #[arg(value_name = "JOB")]
    job: JobId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub(super) async fn run(given: Option<Vec<String>>, command: SinksCommand) -> Result<ExitCode, Error> {
    let SinksCommand::Pending(PendingCommand { cluster, job, json }) = command;
    let pending = client(cluster.resolve(given)?).pending_sinks(job).await?;
    print(&if json { format!("{}\n", value(&pending)) } else { text(&pending) })
}

/// For people.
fn text(pending: &PendingSinks) -> String {
    let PendingSinks { job, status, newest, transactions } = pending;
    let mut text = match newest {
        _ if status.is_terminal() => format!("Job {job} has ended: {status}. Its sinks have nothing open.\n"),
        None => format!("Job {job} is {status} and has no completed checkpoint: nothing of its sinks is prepared.\n"),
        Some(NewestCommit { checkpoint, confirmed: true }) => format!(
            "Job {job} is {status}. All that its sinks wrote up to checkpoint {checkpoint} is committed, and confirmed.\n"
        ),
        Some(NewestCommit { checkpoint, confirmed: false }) => format!(
            "Job {job} is {status}. Checkpoint {checkpoint} is completed, and not all sinks have confirmed that they have \
             committed what waited for it.\n"
        ),
    };
    if !transactions.is_empty() {
        let row = |PendingSink { vertex, operator, transaction }: &PendingSink| {
            vec![
                operator.clone(),
                vertex.subtask.to_string(),
                transaction.waits_for.map_or_else(|| "the end".to_owned(), |checkpoint| checkpoint.to_string()),
                transaction.what.clone(),
            ]
        };
        text += &format!("\n{}", table(&["SINK", "SUBTASK", "WAITS FOR", "TRANSACTION"], transactions.iter().map(row)));
    }
    text
}

/// For scripts.
fn value(pending: &PendingSinks) -> Value {
    let transaction = |pending: &PendingSink| {
        json!({
            "sink": pending.operator,
            "vertex": pending.vertex.vertex.0,
            "subtask": pending.vertex.subtask.0,
            "waits_for": pending.transaction.waits_for.map(|CheckpointId(id)| id),
            "transaction": pending.transaction.what,
        })
    };
    json!({
        "job": pending.job.to_string(),
        "status": pending.status.name(),
        "newest": pending.newest.map(|newest| newest.checkpoint.0),
        "confirmed": pending.newest.is_some_and(|newest| newest.confirmed),
        "transactions": pending.transactions.iter().map(transaction).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use tidemill_dataflow::runtime::sink::PendingTransaction;
    use tidemill_model::id::{ExecutionVertexId, JobVertexId, SubtaskIndex};
    use tidemill_model::job::JobStatus;

    use super::*;

    fn pending(status: JobStatus, confirmed: bool) -> PendingSinks {
        let transaction = |subtask, waits_for: Option<u64>, what: &str| PendingSink {
            vertex: ExecutionVertexId { vertex: JobVertexId(2), subtask: SubtaskIndex(subtask) },
            operator: "sink".to_owned(),
            transaction: PendingTransaction { waits_for: waits_for.map(CheckpointId), what: what.to_owned() },
        };
        PendingSinks {
            job: "0190f3a1b2c37d4e8f00112233445566".parse().unwrap(),
            status,
            newest: Some(NewestCommit { checkpoint: CheckpointId(7), confirmed }),
            transactions: vec![transaction(0, Some(7), "/out/part-0-3, now .part"), transaction(1, None, "batch 5")],
        }
    }

    #[test]
    fn people_see_what_waits_for_what() {
        expect![[r#"
            Job 0190f3a1b2c37d4e8f00112233445566 is RUNNING. Checkpoint 7 is completed, and not all sinks have confirmed that they have committed what waited for it.

            SINK  SUBTASK  WAITS FOR  TRANSACTION
            sink  0        7          /out/part-0-3, now .part
            sink  1        the end    batch 5
        "#]].assert_eq(&text(&pending(JobStatus::Running, false)));
        let nothing = PendingSinks { transactions: Vec::new(), ..pending(JobStatus::Running, true) };
        expect![[r#"
            Job 0190f3a1b2c37d4e8f00112233445566 is RUNNING. All that its sinks wrote up to checkpoint 7 is committed, and confirmed.
        "#]].assert_eq(&text(&nothing));
        let ended = PendingSinks { status: JobStatus::Canceled, ..nothing };
        expect![[r#"
            Job 0190f3a1b2c37d4e8f00112233445566 has ended: CANCELED. Its sinks have nothing open.
        "#]]
        .assert_eq(&text(&ended));
    }

    #[test]
    fn scripts_get_the_same() {
        expect![[r#"{"confirmed":false,"job":"0190f3a1b2c37d4e8f00112233445566","newest":7,"status":"RUNNING","transactions":[{"sink":"sink","subtask":0,"transaction":"/out/part-0-3, now .part","vertex":2,"waits_for":7},{"sink":"sink","subtask":1,"transaction":"batch 5","vertex":2,"waits_for":null}]}"#]].assert_eq(&value(&pending(JobStatus::Running, false)).to_string());
    }
}
