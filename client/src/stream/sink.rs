//! The handles of sinks.

use std::time::Duration;

use tidemill_dataflow::flow::{OperatorIndex, OutputIndex, VertexIndex};
use tidemill_dataflow::pipe::Pipe;
use tidemill_dataflow::runtime::sink::staged::StagedOutput;
use tidemill_dataflow::runtime::sink::{FileSink as FileOutput, Format, Sink};

use super::DataStream;
use crate::environment::Environment;

/// A sink that was added to the flow.
///
/// ```
/// # fn main() -> Result<(), tidemill::Error> {
/// # let env = tidemill::Environment::from_args()?;
/// let sink = env.generate_sequence(0..10, None).discard();
/// sink.name("Nothing").set_parallelism(1);
/// # env.execute("sink")?;
/// # Ok(())
/// # }
/// ```
pub struct DataSink {
    pub(super) environment: Environment,
    vertex: VertexIndex,
    pub(super) operator: OperatorIndex,
}

impl DataSink {
    /// Sets how many sub-tasks the sink has.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// env.generate_sequence(0..10, None).print().set_parallelism(1);
    /// # env.execute("sink")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_parallelism(mut self, parallelism: u32) -> Self {
        self.vertex = self.environment.build(|builder| builder.place_sink(self.vertex, parallelism));
        self
    }

    /// Names the sink for people.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// env.generate_sequence(0..10, None).discard().name("Black hole");
    /// # env.execute("sink")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(self, name: &str) -> Self {
        self.environment.build(|builder| builder.set_name(self.operator, name));
        self
    }

    /// Gives the sink a stable identity, unique in the program.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// env.generate_sequence(0..10, None).discard().uid("black-hole");
    /// # env.execute("sink")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn uid(self, uid: &str) -> Self {
        self.environment.build(|builder| builder.set_uid(self.operator, uid));
        self
    }
}

/// A sink that writes files, which appear all at once when the job has finished.
///
/// With parallelism 1 the output is one file; else it is a folder with a file for each sub-task, named 1, 2 and so on.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = std::env::temp_dir().join(format!("tidemill-doc-sink-{}", std::process::id()));
/// # let env = tidemill::Environment::from_args()?;
/// let output = folder.join("numbers");
/// env.generate_sequence(0..3, None).write_as_text(&output).set_parallelism(1);
/// env.execute("numbers")?;
/// # let mut lines: Vec<String> = std::fs::read_to_string(&output)?.lines().map(str::to_owned).collect();
/// # lines.sort();
/// # assert_eq!(lines, ["0", "1", "2"]);
/// # std::fs::remove_dir_all(folder)?;
/// # Ok(())
/// # }
/// ```
pub struct FileSink {
    sink: DataSink,
    output: OutputIndex,
}

impl FileSink {
    /// Replaces the output of an earlier job; without it the job fails when the output exists.
    ///
    /// A folder is replaced only when it holds nothing but the parts of an earlier output.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = std::env::temp_dir().join(format!("tidemill-doc-overwrite-{}", std::process::id()));
    /// # let env = tidemill::Environment::from_args()?;
    /// for _ in 0..2 {
    ///     env.generate_sequence(0..3, None).write_as_text(folder.join("numbers")).overwrite();
    ///     env.execute("numbers")?;
    /// }
    /// # std::fs::remove_dir_all(folder)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn overwrite(self) -> Self {
        self.sink.environment.build(|builder| builder.set_overwrite(self.output));
        self
    }

    /// Writes into a folder, part by part, instead of one file a sub-task at the end of the job: what endless jobs need.
    ///
    /// A part is complete when it has `bytes`, or `interval` after its first record was written, or at the end of
    /// input. Parts are named `part-SUBTASK-NUMBER`; one that is being written is hidden (its name begins with a dot).
    /// What is in the folder stays there, and numbers go on from it.
    ///
    /// **At least once**: after a failure the job begins again, and what complete parts hold is written once more.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = std::env::temp_dir().join(format!("tidemill-doc-rolling-{}", std::process::id()));
    /// # let env = tidemill::Environment::from_args()?;
    /// use std::time::Duration;
    ///
    /// let numbers = env.generate_sequence(0..100, None).set_parallelism(1);
    /// numbers.write_as_text(&folder).rolling(200, Duration::from_secs(60));
    /// env.execute("numbers")?;
    /// assert!(std::fs::read_to_string(folder.join("part-0-0"))?.starts_with("0\n1\n2\n"));
    /// assert!(folder.join("part-0-1").is_file());
    /// # std::fs::remove_dir_all(folder)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn rolling(self, bytes: u64, interval: Duration) -> DataSink {
        self.sink.environment.build(|builder| builder.set_rolling(self.output, bytes, interval));
        self.sink
    }

    /// Sets how many sub-tasks the sink has, and so how many files.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = std::env::temp_dir().join(format!("tidemill-doc-file-parallelism-{}", std::process::id()));
    /// # let env = tidemill::Environment::from_args()?;
    /// env.generate_sequence(0..10, None).write_as_text(folder.join("numbers")).set_parallelism(1);
    /// # env.execute("numbers")?;
    /// # assert!(folder.join("numbers").is_file());
    /// # std::fs::remove_dir_all(folder)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_parallelism(self, parallelism: u32) -> Self {
        Self { sink: self.sink.set_parallelism(parallelism), ..self }
    }

    /// Names the sink for people.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let env = tidemill::Environment::from_args()?;
    /// env.generate_sequence(0..10, None).write_as_text("numbers").name("Numbers");
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(self, name: &str) -> Self {
        Self { sink: self.sink.name(name), ..self }
    }

    /// Gives the sink a stable identity, unique in the program.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let env = tidemill::Environment::from_args()?;
    /// env.generate_sequence(0..10, None).write_as_text("numbers").uid("numbers");
    /// # Ok(())
    /// # }
    /// ```
    pub fn uid(self, uid: &str) -> Self {
        Self { sink: self.sink.uid(uid), ..self }
    }
}

impl<P: Pipe> DataStream<P> {
    /// Ends the stream in a sink.
    pub(super) fn end<K: Sink<P::Out>>(
        self,
        name: &str,
        parameters: Vec<String>,
        sink: impl FnOnce(OperatorIndex) -> K,
    ) -> DataSink {
        let DataStream { environment, pipe, vertex, .. } = self;
        let mut details = vec![std::any::type_name::<P::Out>().to_owned()];
        details.extend(parameters);
        let operator = environment.build(|builder| {
            let operator = builder.add_operator(vertex, name, details);
            builder.end_in_sink(vertex, pipe, sink(operator));
            operator
        });
        DataSink { environment, vertex, operator }
    }

    /// Ends the stream in a sink that writes staged files.
    pub(super) fn end_in_files<F: Format<P::Out>>(
        self,
        name: &str,
        path: std::path::PathBuf,
        mut parameters: Vec<String>,
        format: F,
    ) -> FileSink {
        parameters.push(format!("output {}", path.display()));
        let vertex = self.vertex;
        let output = StagedOutput { path, overwrite: false };
        let output = self.environment.build(|builder| builder.add_output(output, vertex));
        let sink = self.end(name, parameters, |operator| FileOutput::new(output, format, operator));
        FileSink { sink, output }
    }
}
