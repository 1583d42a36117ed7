//! What a user does with a cluster that is well: results, collected records, and each bad input with its error.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use tidemill::cli::local_cluster::ProcessName;
use tidemill::job_client::JobClient;
use tidemill_model::id::JobId;
use tidemill_tests::cluster::{TestCluster, sorted_lines};

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a UTF-8 path")
}

#[tokio::test]
async fn jobs_give_their_results_on_three_coordinators_and_two_task_managers() -> Result<()> {
    let cluster = TestCluster::start(3, 2, 2, &[]).await?;
    {
        tracing("a job with an output");
        let output = cluster.path("sums");
        let arguments = ["sequence", "1000", "1000000", text(&output)?, "-p", "4"];
        let ended = cluster.submit(Path::new(JOB), &arguments).await?.wait().await?;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "numbers=1000\n"), "{}", ended.stderr);
        assert_eq!(sorted_lines(&output)?.len(), 10);
        tracing("the same output again: it exists");
        let again = cluster.submit(Path::new(JOB), &arguments).await?.wait().await?;
        assert_eq!(again.code, Some(1));
        assert!(again.stderr.contains("sums") && again.stderr.contains("exists"), "{}", again.stderr);
    }
    {
        tracing("records come back to the client");
        let ended = cluster.submit(Path::new(JOB), &["collect", "6", "-p", "3"]).await?.wait().await?;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "[0, 1, 4, 9, 16, 25]\n"), "{}", ended.stderr);
    }
    {
        tracing("a program that executes twice");
        let ended = cluster.submit(Path::new(JOB), &["twice", "100", "-p", "2"]).await?.wait().await?;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "[100]\n"), "{}", ended.stderr);
    }
    {
        tracing("a graph that differs in the executor");
        let ended = cluster.submit(Path::new(JOB), &["differs"]).await?.wait().await?;
        assert_eq!(ended.code, Some(1));
        assert!(ended.stderr.contains("graph mismatch"), "{}", ended.stderr);
    }
    {
        tracing("an unknown job");
        let unknown = JobId("0190c0c0c0c07000800000000000abcd".parse()?);
        let error = cluster.client().get_job(unknown).await.expect_err("it does not exist");
        assert!(error.to_string().contains(&unknown.to_string()), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn two_jobs_share_a_cluster() -> Result<()> {
    let cluster = TestCluster::start(1, 2, 2, &[]).await?;
    let (left, right) = (cluster.path("left"), cluster.path("right"));
    let one = cluster.submit(Path::new(JOB), &["sequence", "20000", "10000", text(&left)?, "-p", "2"]).await?;
    let two = cluster.submit(Path::new(JOB), &["sequence", "20000", "10000", text(&right)?, "-p", "2"]).await?;
    for submitted in [one, two] {
        let ended = submitted.wait().await?;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    assert_eq!(sorted_lines(&left)?, sorted_lines(&right)?);
    Ok(())
}

#[tokio::test]
async fn a_missing_input_fails_the_job_and_names_the_file() -> Result<()> {
    let cluster = TestCluster::start(1, 1, 1, &[]).await?;
    let program = word_count()?;
    let (input, output) = (cluster.path("nowhere.txt"), cluster.path("counts"));
    let submitted = cluster.submit(&program, &[text(&input)?, text(&output)?]).await;
    let printed = match submitted {
        Ok(submitted) => submitted.wait().await?.stderr,
        Err(refused) => refused.to_string(),
    };
    assert!(printed.contains("nowhere.txt"), "{printed}");
    Ok(())
}

#[tokio::test]
async fn word_count_counts_real_text_on_a_cluster() -> Result<()> {
    let cluster = TestCluster::start(3, 2, 2, &[]).await?;
    let (input, output) = (cluster.path("text"), cluster.path("counts"));
    std::fs::create_dir(&input)?;
    std::fs::write(input.join("one.txt"), "The tide, the mill.\nThe end\n")?;
    std::fs::write(input.join("two.txt"), "Mill-wheel")?;
    let arguments = [text(&input)?, text(&output)?, "-p", "4"];
    let ended = cluster.submit(&word_count()?, &arguments).await?.wait().await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(sorted_lines(&output)?, ["end 1", "mill 2", "the 3", "tide 1", "wheel 1"]);
    Ok(())
}

#[tokio::test]
async fn clients_of_nobody_are_told_so() -> Result<()> {
    // Bound, so that nobody else is given the port meanwhile, and never listening.
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let closed = socket.local_addr()?.to_string();
    let client = JobClient::new(vec![closed.clone()]).with_timeout(std::time::Duration::from_secs(2));
    let error = client.list_jobs().await.expect_err("nobody is there");
    assert!(error.retryable() && error.to_string().contains(&closed), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_data_directory_serves_one_process_and_one_cluster() -> Result<()> {
    let mut cluster = TestCluster::start(1, 1, 1, &[]).await?;
    let second = |program: &Path, key: &str, name: ProcessName| -> Result<String> {
        let dir = format!("{key}={}", cluster.processes.process_dir(name).display());
        let address = format!("coordinator.addresses={}", cluster.processes.addresses()[0]);
        let mut command = Command::new(program);
        command.args(["-D", &dir, "-D", &address]);
        if key == "taskmanager.dir" {
            // It listens before it looks at its directory.
            command.args(["-D", "taskmanager.data.port=0", "-D", "taskmanager.http.port=0"]);
        }
        let output = command.output()?;
        assert!(!output.status.success());
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let programs = tidemill::cli::local_cluster::Programs::find()?;
    let printed = second(&programs.coordinator, "coordinator.dir", ProcessName::Coordinator(1))?;
    assert!(printed.contains("coordinator-1"), "{printed}");
    let printed = second(&programs.task_manager, "taskmanager.dir", ProcessName::TaskManager(1))?;
    assert!(printed.contains("taskmanager-1"), "{printed}");
    cluster.processes.stop().await?;
    Ok(())
}

#[tokio::test]
async fn servers_refuse_unknown_keys_bad_values_and_open_ports() -> Result<()> {
    let programs = tidemill::cli::local_cluster::Programs::find()?;
    let dir = tempfile::tempdir()?;
    for (program, prefix) in [(&programs.coordinator, "coordinator"), (&programs.task_manager, "taskmanager")] {
        let refuse = |option: &str| -> Result<String> {
            let own_dir = format!("{prefix}.dir={}", dir.path().join(prefix).display());
            let mut command = Command::new(program);
            command.args(["-D", &own_dir]);
            if prefix == "taskmanager" {
                // It knows what its host means only when it listens.
                command.args(["-D", "taskmanager.data.port=0"]);
            }
            let output = command.args(["-D", option]).output()?;
            assert!(!output.status.success(), "{option} must be refused");
            Ok(String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let unknown = refuse("heartbeat.intervall=1 s")?;
        assert!(unknown.contains("heartbeat.intervall") && unknown.contains("heartbeat.interval"), "{unknown}");
        let bad = refuse(&format!("{prefix}.http.port=many"))?;
        assert!(bad.contains("http.port") && bad.contains("many"), "{bad}");
        let open = refuse(&format!("{prefix}.bind-host=0.0.0.0"))?;
        assert!(open.contains("--insecure"), "{open}");
    }
    Ok(())
}

/// The example, which Cargo builds beside this test's own programs.
fn word_count() -> Result<std::path::PathBuf> {
    let built = Path::new(JOB).parent().context("a folder")?.join("examples/word_count");
    anyhow::ensure!(built.exists(), "{} is not built: run `make test`", built.display());
    Ok(built)
}

/// Names a phase in the test's captured output.
fn tracing(phase: &str) {
    println!("# {phase}");
}
