//! The local cluster's own rules, with shell scripts in the place of the servers.

use std::os::unix::fs::PermissionsExt;

use tidemill_proto::pb;

use super::*;
use crate::job_client::tests::standin::{Leadership, Standins};

/// A spec whose coordinators are this script.
fn spec(dir: &Path, script: &str) -> LocalClusterSpec {
    let program = dir.join("server");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    LocalClusterSpec {
        dir: dir.join("cluster"),
        coordinators: Some(1),
        task_managers: Some(1),
        slots: None,
        settings: Vec::new(),
        programs: Programs { coordinator: program.clone(), task_manager: program },
        kill_on_drop: true,
    }
}

const READY: &str = "echo tidemill-coordinator ready name=x client=y pid=$$; exec sleep 1000";

/// A cluster whose processes were never started.
fn stopped(spec: &LocalClusterSpec) -> LocalCluster {
    fs::create_dir_all(spec.dir.join("logs")).unwrap();
    let (layout, reserved) = plan(&spec.dir, spec).unwrap();
    layout.save(&spec.dir).unwrap();
    let mut cluster = LocalCluster::open(&spec.dir, spec.programs.clone()).unwrap();
    (cluster.kill_on_drop, cluster.reserved) = (true, reserved);
    cluster
}

#[tokio::test]
async fn a_cluster_is_initialized_once_and_complete_when_its_slots_are_registered() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(dir.path(), READY);
    let laid_out = stopped(&spec);
    let listener = tokio::net::TcpListener::bind(laid_out.addresses().remove(0)).await.unwrap();
    let standins = Standins::start_on(vec![listener], Leadership::NotInitialized);
    for life in 0..2 {
        let register = async {
            let process = loop {
                let layout = Layout::load(&spec.dir).unwrap().unwrap();
                if let Some(process) = layout.process(ProcessName::TaskManager(1)) {
                    break process.pid;
                }
                tokio::time::sleep(POLL).await;
            };
            let (id, slots) = (vec![8; 16].into(), 2);
            let manager = pb::TaskManagerStatus { id, slots, process_id: process, ..Default::default() };
            standins.world.task_managers.lock().unwrap().push(manager);
        };
        let (cluster, ()) = tokio::join!(LocalCluster::start(spec.clone()), register);
        let mut cluster = cluster.unwrap();
        assert_eq!(standins.calls("init_cluster").len(), 1, "in life {life}");
        assert_eq!(cluster.wait_for_leader().await.unwrap(), ProcessName::Coordinator(1));
        assert_eq!(cluster.stop().await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_process_that_ends_at_once_is_reported_with_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let error = LocalCluster::start(spec(dir.path(), "echo port taken >&2; exit 7")).await.unwrap_err().to_string();
    assert!(error.starts_with("start coordinator-1: it ended with exit status: 7"), "{error}");
    assert!(error.ends_with("\n  port taken"), "{error}");
}

#[tokio::test]
async fn a_process_can_be_killed_started_again_paused_and_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(dir.path(), READY);
    let mut cluster = stopped(&spec);
    let name = ProcessName::Coordinator(1);
    cluster.start_process(name).await.unwrap();
    let first = cluster.pid(name).unwrap();
    cluster.kill(name).await.unwrap();
    assert_eq!(cluster.pid(name), None);
    cluster.start_process(name).await.unwrap();
    assert_ne!(cluster.pid(name), Some(first));
    cluster.pause(name).unwrap();
    assert!(cluster.pid(name).is_some(), "a halted process is no ended one");
    assert_eq!(cluster.stop().await.unwrap(), [name]);
    assert_eq!(Layout::load(&spec.dir).unwrap().unwrap().running(), []);
}

#[tokio::test]
async fn a_running_cluster_is_not_started_twice_and_another_handle_can_stop_it() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(dir.path(), READY);
    let mut cluster = stopped(&spec);
    cluster.start_process(ProcessName::Coordinator(1)).await.unwrap();
    let error = LocalCluster::start(spec.clone()).await.unwrap_err();
    assert!(matches!(&error, Error::AlreadyRunning { processes, .. } if processes.starts_with("coordinator-1 pid")));
    let mut other = LocalCluster::open(&spec.dir, spec.programs.clone()).unwrap();
    other.stop().await.unwrap();
    assert_eq!(cluster.pid(ProcessName::Coordinator(1)), None);
}

#[tokio::test]
async fn dropping_the_handle_kills_everything_when_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = stopped(&spec(dir.path(), READY));
    cluster.start_process(ProcessName::Coordinator(1)).await.unwrap();
    let process = cluster.layout.process(ProcessName::Coordinator(1)).unwrap().clone();
    drop(cluster);
    assert!(!process.is_running());
}

#[test]
fn a_stopped_cluster_keeps_its_size_and_ports() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(dir.path(), READY);
    let layout = stopped(&spec).layout.clone();
    let usual = LocalClusterSpec { coordinators: None, task_managers: None, ..spec.clone() };
    assert_eq!(plan(&spec.dir, &usual).unwrap().0, layout);
    let larger = LocalClusterSpec { coordinators: Some(3), ..spec.clone() };
    assert!(matches!(plan(&spec.dir, &larger), Err(Error::Different { existing: 1, given: 3, .. })));
}

#[test]
fn a_wrong_setting_is_refused_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(dir.path(), READY);
    let wrong = LocalClusterSpec { settings: vec!["heartbeat.intervall=1 s".to_owned()], ..spec.clone() };
    let error = plan(&spec.dir, &wrong).unwrap_err().to_string();
    assert!(error.contains("heartbeat.interval"), "{error}");
}

#[test]
fn only_one_command_at_a_time_works_on_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let held = lock(dir.path()).unwrap();
    assert!(matches!(lock(dir.path()), Err(Error::Locked { .. })));
    // What a process that is just being started has of it for a moment.
    let _copy = held.0.try_clone().unwrap();
    drop(held);
    lock(dir.path()).unwrap();
}
