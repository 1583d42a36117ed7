//! The benchmark: each workload as a process of its own, in every form that it is compared in.

mod run;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use tidemill::cli::local_cluster::{LocalCluster, LocalClusterSpec, Programs};

use run::{ClusterCpu, Run};

/// What is run, and where.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The folder for text, output and the cluster; the text is kept and used again.
    pub dir: PathBuf,
    /// The folder of the built binaries and `examples/`.
    pub bin_dir: PathBuf,
    /// Which workloads.
    pub workloads: Vec<String>,
    /// Fewer events.
    pub small: bool,
    /// The text of W1.
    pub bytes: u64,
    /// The measured part of W6.
    pub seconds: u64,
}

impl Bench {
    /// Runs everything, and prints each run's line of JSON and the table.
    ///
    /// # Errors
    ///
    /// A run failed, or its digest is wrong.
    pub async fn run(&self) -> Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let mut runs = Vec::new();
        for workload in &self.workloads {
            if workload == "w2" || workload == "w5" {
                let mut command = Command::new(self.bin_dir.join("examples/hand_written_loop"));
                command.args([workload, &self.events(workload).to_string()]);
                self.keep(&mut runs, Run::alone("loop", command)?)?;
            }
            // Latency is that of the default parallelism; throughput shows what a second core gives.
            let parallelisms: &[u32] = if workload == "w6" { &[2] } else { &[1, 2] };
            for parallelism in parallelisms {
                let command = self.command(workload, *parallelism)?;
                self.keep(&mut runs, Run::alone("embedded", command)?)?;
            }
            self.keep(&mut runs, self.on_a_cluster(workload).await?)?;
        }
        println!("\n{}", table::table(&runs));
        Ok(())
    }

    fn keep(&self, runs: &mut Vec<Run>, mut run: Run) -> Result<()> {
        if run.workload == "w1" {
            run.digest = Some(self.counts_digest()?);
        }
        println!("{}", run.json());
        if let Some(other) = runs.iter().find(|other| other.workload == run.workload && run.workload == "w1") {
            ensure!(other.digest == run.digest, "{} and {} counted different words", other.form, run.form);
        }
        if let Some((count, digest)) = table::expected(&run.workload, run.events) {
            ensure!(run.count == Some(count), "{} {}: count {:?}, not {count}", run.form, run.workload, run.count);
            ensure!(
                run.digest.as_deref() == Some(digest),
                "{} {}: digest {:?}, not {digest}",
                run.form,
                run.workload,
                run.digest
            );
        }
        runs.push(run);
        Ok(())
    }

    /// What `cat parts | sort | sha256sum` says of the words counted last.
    fn counts_digest(&self) -> Result<String> {
        let output = self.dir.join("counts");
        let mut parts = vec![output.clone()];
        if output.is_dir() {
            parts = std::fs::read_dir(&output)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        }
        let texts: Vec<String> = parts.iter().map(std::fs::read_to_string).collect::<std::io::Result<_>>()?;
        let mut lines: Vec<&str> = texts.iter().flat_map(|text| text.lines()).collect();
        lines.sort_unstable();
        let mut hasher = Sha256::new();
        for line in lines {
            hasher.update(line.as_bytes());
            hasher.update(b"\n");
        }
        Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn events(&self, workload: &str) -> u64 {
        match (workload, self.small) {
            ("w2", true) => 20_000_000,
            ("w5", true) => 12_000_000,
            _ => 50_000_000,
        }
    }

    /// The workload's program with its arguments.
    fn command(&self, workload: &str, parallelism: u32) -> Result<Command> {
        let mut command = Command::new(self.bin_dir.join("examples/workloads"));
        command.arg(workload).args(["-p", &parallelism.to_string()]);
        match workload {
            "w1" => {
                let output = self.dir.join("counts");
                remove(&output)?;
                command.arg("--input").arg(self.text()?).arg("--output").arg(output);
            }
            "w6" => {
                command.args(["--seconds", &self.seconds.to_string()]);
            }
            _ => {
                command.args(["--n", &self.events(workload).to_string()]);
            }
        }
        Ok(command)
    }

    /// The text of W1, made when it is not there.
    fn text(&self) -> Result<PathBuf> {
        let text = self.dir.join(format!("text-{}.txt", self.bytes));
        if !text.exists() {
            let partial = text.with_extension("partial");
            let mut command = Command::new(self.bin_dir.join("examples/generate_text"));
            let status = command.arg(self.bytes.to_string()).arg(&partial).status().context("start generate_text")?;
            ensure!(status.success(), "generate_text ended with {status}");
            std::fs::rename(partial, &text)?;
        }
        Ok(text)
    }

    /// The workload at parallelism 2 on three coordinators and two task managers with one slot each.
    async fn on_a_cluster(&self, workload: &str) -> Result<Run> {
        let dir = self.dir.join("cluster");
        remove(&dir)?;
        let mut cluster = LocalCluster::start(LocalClusterSpec {
            dir,
            coordinators: Some(3),
            task_managers: Some(2),
            slots: Some(1),
            settings: Vec::new(),
            programs: Programs::find()?,
            kill_on_drop: true,
        })
        .await?;
        if self.workloads.first().is_some_and(|first| first == workload) {
            for name in cluster.layout().names() {
                let memory = cluster.pid(name).map_or(0, run::resident_kilobytes);
                println!("idle {name}: {:.1} MB resident", memory as f64 / 1000.0);
            }
        }
        let cpu = ClusterCpu::of(&cluster);
        let mut command = self.command(workload, 2)?;
        command.arg("--coordinators").arg(cluster.addresses().join(","));
        let run = Run::on_cluster(command, &cpu);
        cluster.stop().await?;
        run
    }
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_file() { std::fs::remove_file(path) } else { std::fs::remove_dir_all(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
