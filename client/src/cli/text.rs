//! What commands print for people.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use tidemill_model::job::JobStatus;
use tidemill_model::time::Timestamp;

use super::checkpoints;
use super::cluster::{Answers, leading};
use super::json::{role, status_failure};
use super::local_cluster::{Layout, ProcessName};
use crate::job_client::{
    ClusterStatus, Consistency, Error, Freshness, JobDetails, JobSummary, MemberStatus, TaskManagerStatus,
};

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// The list of jobs.
pub(super) fn jobs(jobs: &[JobSummary]) -> String {
    if jobs.is_empty() {
        return "no jobs\n".to_owned();
    }
    let row =
        |job: &JobSummary| vec![job.id.to_string(), job.status.to_string(), moment(job.submitted), job.name.clone()];
    table(&["JOB", "STATUS", "SUBMITTED (UTC)", "NAME"], jobs.iter().map(row))
}

/// What a stale or a lease read rests on; nothing for a linearizable one.
pub(super) fn freshness(freshness: &Freshness) -> String {
    let (node, index) = (freshness.node, freshness.applied_index);
    match (freshness.consistency, freshness.age) {
        (Consistency::Linearizable, _) => String::new(),
        (Consistency::Lease, _) => format!("\nBy the leader's lease, from node {node} at log index {index}\n"),
        (Consistency::Stale, Some(age)) => format!(
            "\nStale: from node {node} at log index {index}, which last heard of a leader {} ago\n",
            duration(age)
        ),
        (Consistency::Stale, None) => {
            format!("\nStale: from node {node} at log index {index}, which has heard of no leader since its start\n")
        }
    }
}

/// The coordinators.
pub(super) fn members(members: &[MemberStatus]) -> String {
    let row = |member: &MemberStatus| {
        let own = member.own.as_ref().ok();
        vec![
            member.node.id.to_string(),
            member.node.name.clone(),
            role(&member.node).to_owned(),
            own.map_or_else(dash, |own| own.applied_index.to_string()),
            member.lag.map_or_else(dash, |lag| lag.to_string()),
            member.node.answered.map_or_else(dash, |ago| format!("{} ago", duration(ago))),
            member.node.raft_address.clone(),
            member.node.client_address.clone(),
        ]
    };
    let header = ["NODE", "NAME", "ROLE", "APPLIED", "LAG", "ANSWERED", "RAFT", "CLIENT"];
    let mut text = table(&header, members.iter().map(row));
    for member in members {
        let name = &member.node.name;
        match &member.own {
            Ok(own) => own.alarms.iter().for_each(|alarm| text += &format!("\nALARM {name}: {alarm}\n")),
            Err(error) => text += &format!("\n{name}: {error}\n"),
        }
    }
    text
}

/// One job.
pub(super) fn job(job: &JobDetails, now: Timestamp) -> String {
    let mut text = format!("Job {} {:?}\n", job.id, job.name);
    let mut field = |name: &str, value: String| writeln!(text, "{name:<12}{value}").expect("a String takes all text");
    field("Status", job.status.to_string());
    if let Some(failure) = status_failure(&job.status) {
        field("Failure", failure.to_string());
    }
    if let Some(reason) = &job.waiting_reason {
        field("Waits", reason.clone());
    }
    if let JobStatus::Finished(result) = &job.status {
        field("Net runtime", duration(result.net_runtime));
        for (name, value) in &result.accumulators {
            field("Counter", format!("{name} = {value}"));
        }
    }
    field("Submitted", format!("{} UTC ({} ago)", moment(job.submitted), duration(now.since(job.submitted))));
    let restored = job.restored_checkpoint.map_or(String::new(), |id| format!(", from checkpoint {id}"));
    field("Restarts", format!("{}{restored}", job.restarts));
    if let Some(latest) = job.latest_checkpoint {
        field("Checkpoints", format!("{} completed, the newest is {latest}", job.checkpoints_completed));
    }
    if let Some(recovery) = checkpoints::recovery(job, now).filter(|_| !job.status.is_terminal()) {
        field("Recovery", recovery);
    }
    // Observed, not replicated: with the executors the figures go.
    if !job.status.is_terminal() {
        field("Records", format!("{} in, {} out", job.records_in, job.records_out));
    }
    let history = job.history.iter().map(|entry| {
        let cause = entry.cause.as_ref().map(ToString::to_string).unwrap_or_default();
        vec![moment(entry.at), entry.status.clone(), cause]
    });
    writeln!(text, "\n{}", table(&["SINCE (UTC)", "STATUS", "CAUSE"], history)).expect("a String takes all text");
    let attempts = job.attempts.iter().map(|attempt| {
        let id = attempt.report.attempt;
        let name = job.graph.vertex(id.vertex.vertex).map(tidemill_model::job_graph::JobVertex::name);
        vec![
            name.unwrap_or_else(|| id.vertex.vertex.to_string()),
            id.vertex.subtask.to_string(),
            id.attempt.to_string(),
            attempt.report.state.name().to_owned(),
            attempt.task_manager.as_ref().map_or_else(dash, ToString::to_string),
            attempt.slot.map_or_else(dash, |slot| slot.to_string()),
            attempt.process_id.map_or_else(dash, |pid| pid.to_string()),
        ]
    });
    text + &table(&["VERTEX", "SUB-TASK", "ATTEMPT", "STATE", "TASK MANAGER", "SLOT", "PID"], attempts)
}

/// One cluster; for a local one its processes as well.
pub(super) fn cluster(answers: &Answers, layout: Option<&Layout>) -> String {
    let leader = leading(answers);
    let mut text = match leader {
        Some(status) => {
            let epoch = status.epoch.map_or_else(dash, |epoch| epoch.to_string());
            let name = status.leader().map_or_else(dash, |node| node.name.clone());
            format!("Cluster {}: led by {name}, epoch {epoch}\n\n", status.cluster)
        }
        None => format!("{}\n\n", leaderless(answers)),
    };
    let header = ["COORDINATOR", "CLIENT", "RAFT", "ROLE", "APPLIED", "STATE"];
    text += &table(&header, answers.iter().map(|(address, answer)| coordinator(address, answer.as_ref().ok())));
    for (address, answer) in answers {
        match answer {
            Ok(status) => status.alarms.iter().for_each(|alarm| text += &format!("\nALARM {address}: {alarm}\n")),
            Err(error) => text += &format!("\n{address}: {error}\n"),
        }
    }
    if let Some(status) = leader {
        text += &leader_knowledge(status);
    }
    if let Some(layout) = layout {
        let process = |name: ProcessName| {
            let process = layout.process(name);
            let running = process.is_some_and(super::local_cluster::ProcessIdentity::is_running);
            let pid = process.map_or_else(dash, |process| process.pid.to_string());
            vec![name.to_string(), pid, if running { "running" } else { "not running" }.to_owned()]
        };
        text += "\n";
        text += &table(&["PROCESS", "PID", "STATE"], layout.names().map(process));
    }
    text
}

/// Why nobody leads.
fn leaderless(answers: &Answers) -> &'static str {
    if answers.iter().any(|(_, answer)| answer.is_ok()) {
        "The cluster has no leader at the moment"
    } else if answers.iter().all(|(_, answer)| *answer == Err(Error::NotInitialized)) {
        "The coordinators wait for `tidemill cluster init`"
    } else {
        "No coordinator answered"
    }
}

/// What `cluster start` prints.
pub(super) fn started(layout: &Layout, dir: &Path) -> String {
    let process = |name: ProcessName| {
        let pid = layout.process(name).map_or_else(dash, |process| process.pid.to_string());
        let (main, http) = match name {
            ProcessName::Coordinator(number) => {
                let entry =
                    number.checked_sub(1).and_then(|index| layout.coordinators.get(usize::try_from(index).ok()?));
                (entry.map(|entry| entry.client_port), entry.map(|entry| entry.http_port))
            }
            ProcessName::TaskManager(number) => {
                let entry =
                    number.checked_sub(1).and_then(|index| layout.task_managers.get(usize::try_from(index).ok()?));
                (entry.map(|entry| entry.data_port), entry.map(|entry| entry.http_port))
            }
        };
        let address = |port: Option<u16>| port.map_or_else(dash, |port| format!("127.0.0.1:{port}"));
        vec![name.to_string(), pid, address(main), address(http)]
    };
    let addresses = layout.addresses().join(",");
    let dir = dir.display();
    let mut text = table(&["PROCESS", "PID", "ADDRESS", "HTTP"], layout.names().map(process));
    write!(
        text,
        "\nlogs        {dir}/logs\nuse it      export TIDEMILL_COORDINATORS={addresses}\n\
         or          tidemill list --coordinators {addresses}\nstop it     tidemill cluster stop --dir {dir}\n"
    )
    .expect("a String takes all text");
    text
}

fn coordinator(address: &str, status: Option<&ClusterStatus>) -> Vec<String> {
    let Some(status) = status else {
        return vec![dash(), address.to_owned(), dash(), "no answer".to_owned(), dash(), dash()];
    };
    let own = status.nodes.iter().find(|node| node.id == status.node);
    vec![
        own.map_or_else(dash, |node| node.name.clone()),
        address.to_owned(),
        own.map_or_else(dash, |node| node.raft_address.clone()),
        if status.from_leader() { "leader" } else { "follower" }.to_owned(),
        status.applied_index.to_string(),
        format!("{:016x}", status.state_checksum),
    ]
}

fn leader_knowledge(status: &ClusterStatus) -> String {
    let managers = status.task_managers.iter().map(|manager| {
        vec![
            manager.name.to_string(),
            manager.data_address.clone(),
            manager.slots.to_string(),
            manager.free_slots.to_string(),
            draining(manager).to_owned(),
            size(manager.slot_memory_bytes),
            format!("{} ago", duration(manager.heartbeat_age)),
            manager.process_id.to_string(),
        ]
    });
    let header = ["TASK MANAGER", "DATA", "SLOTS", "FREE", "DRAINING", "MEMORY/SLOT", "HEARTBEAT", "PID"];
    let mut text = format!("\n{}", table(&header, managers));
    if !status.takeovers.is_empty() {
        let takeovers = status.takeovers.iter().map(|takeover| {
            let (adopted, restarted) = (takeover.tasks_adopted.to_string(), takeover.tasks_restarted.to_string());
            vec![takeover.epoch.to_string(), takeover.job.to_string(), adopted, restarted]
        });
        text += "\n";
        text += &table(&["TAKEOVER (EPOCH)", "JOB", "ADOPTED", "RESTARTED"], takeovers);
    }
    text
}

/// The task managers, and who has slots there.
pub(super) fn task_managers(managers: &[TaskManagerStatus]) -> String {
    if managers.is_empty() {
        return "no task managers\n".to_owned();
    }
    let row = |manager: &TaskManagerStatus| {
        let jobs: Vec<String> = manager.jobs.iter().map(ToString::to_string).collect();
        vec![
            manager.id.to_string(),
            manager.name.to_string(),
            manager.data_address.clone(),
            manager.slots.to_string(),
            manager.free_slots.to_string(),
            draining(manager).to_owned(),
            if jobs.is_empty() { dash() } else { jobs.join(" ") },
        ]
    };
    table(&["ID", "NAME", "DATA", "SLOTS", "FREE", "DRAINING", "JOBS"], managers.iter().map(row))
}

fn draining(manager: &TaskManagerStatus) -> &'static str {
    if manager.draining { "yes" } else { "no" }
}

/// Columns as wide as their widest cell, two blanks apart.
pub(super) fn table<const N: usize>(header: &[&str; N], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = std::iter::once(header.map(str::to_owned).to_vec()).chain(rows).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A point in time in UTC, to the millisecond.
pub(super) fn moment(time: Timestamp) -> String {
    let (seconds, millis) = (time.0 / 1000, time.0 % 1000);
    let (days, second) = (seconds / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millis:03}")
}

/// Year, month and day of a day since 1970-01-01, counted in years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// A duration in the two units that matter.
pub(super) fn duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds}.{:01} s", millis / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..SECONDS_PER_DAY => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        SECONDS_PER_DAY.. => format!("{} d {} h", seconds / SECONDS_PER_DAY, seconds / 3600 % 24),
    }
}

/// A size in bytes in the largest unit that it fills.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        1_048_576.. => format!("{} MiB", bytes / 1_048_576),
    }
}

fn dash() -> String {
    "-".to_owned()
}
