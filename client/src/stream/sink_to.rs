//! `sink_to` and `for_each`: records leave through the user's own code.

use tidemill_dataflow::pipe::Pipe;
use tidemill_dataflow::runtime::sink::{FunctionSink, SinkFunction, TransactionSink, TransactionalSink, UserError};

use super::{DataSink, DataStream};

impl<P: Pipe> DataStream<P> {
    /// Gives each record to a sink of the user's.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// #[derive(Clone)]
    /// struct Total {
    ///     sum: i64,
    ///     total: tidemill::Counter,
    /// }
    ///
    /// impl tidemill::SinkFunction<u64> for Total {
    ///     fn write(&mut self, number: u64, _time: i64) -> Result<(), tidemill::UserError> {
    ///         self.sum += i64::try_from(number)?;
    ///         Ok(())
    ///     }
    ///
    ///     fn finish(&mut self) -> Result<(), tidemill::UserError> {
    ///         self.total.add(self.sum);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// env.generate_sequence(0..10, None).sink_to(Total { sum: 0, total: env.counter("total") });
    /// assert_eq!(env.execute("total")?.counter("total"), Some(45));
    /// # Ok(())
    /// # }
    /// ```
    pub fn sink_to<F: SinkFunction<P::Out>>(self, function: F) -> DataSink {
        let parameters = vec![format!("sink {}", std::any::type_name::<F>())];
        self.end("Sink: function", parameters, |operator| FunctionSink::new(function, operator))
    }

    /// Gives each record to a sink that writes in transactions: with exactly-once checkpoints each record becomes visible
    /// once, through any failure.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = std::env::temp_dir().join(format!("tidemill-doc-transactions-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # let env = tidemill::Environment::from_args()?;
    /// use std::fs;
    /// use std::path::PathBuf;
    /// use tidemill::{SinkAttempt, UserError};
    ///
    /// /// A file for each transaction, under another name until it is committed.
    /// #[derive(Clone)]
    /// struct Files {
    ///     folder: PathBuf,
    ///     name: String,
    ///     count: u32,
    /// }
    ///
    /// impl tidemill::TransactionalSink<u64> for Files {
    ///     type Transaction = (String, String);
    ///
    ///     fn open(&mut self, attempt: SinkAttempt) -> Result<(), UserError> {
    ///         self.name = format!("{}-{}", attempt.subtask, attempt.attempt);
    ///         Ok(())
    ///     }
    ///
    ///     fn begin(&mut self) -> Result<(String, String), UserError> {
    ///         self.count += 1;
    ///         Ok((format!("{}-{}", self.name, self.count), String::new()))
    ///     }
    ///
    ///     fn write(&mut self, (_, text): &mut (String, String), number: u64, _time: i64) -> Result<(), UserError> {
    ///         *text += &format!("{number}\n");
    ///         Ok(())
    ///     }
    ///
    ///     fn prepare(&mut self, (name, text): &mut (String, String)) -> Result<(), UserError> {
    ///         fs::write(self.folder.join(format!(".{name}")), &text)?;
    ///         text.clear();
    ///         Ok(())
    ///     }
    ///
    ///     fn commit(&mut self, (name, _): &(String, String)) -> Result<(), UserError> {
    ///         match fs::rename(self.folder.join(format!(".{name}")), self.folder.join(name)) {
    ///             Err(error) if !self.folder.join(name).exists() => Err(error.into()),
    ///             Ok(()) | Err(_) => Ok(()),
    ///         }
    ///     }
    /// }
    ///
    /// let files = Files { folder: folder.clone(), name: String::new(), count: 0 };
    /// env.generate_sequence(0..3, None).set_parallelism(1).sink_in_transactions(files);
    /// env.execute("files")?;
    /// assert_eq!(fs::read_to_string(folder.join("0-0-1"))?, "0\n1\n2\n");
    /// # fs::remove_dir_all(folder)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn sink_in_transactions<F: TransactionalSink<P::Out>>(self, function: F) -> DataSink {
        let parameters = vec![format!("sink {}", std::any::type_name::<F>())];
        let committed = function.clone();
        let sink = self.end("Sink: transactions", parameters, |operator| TransactionSink::new(function, operator));
        sink.environment.build(|builder| builder.add_transactions(sink.operator, committed));
        sink
    }

    /// Calls a function for each record.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// # let env = tidemill::Environment::from_args()?;
    /// let seen = env.counter("seen");
    /// env.generate_sequence(0..10, None).for_each(move |_| seen.add(1));
    /// assert_eq!(env.execute("seen")?.counter("seen"), Some(10));
    /// # Ok(())
    /// # }
    /// ```
    pub fn for_each<F: FnMut(P::Out) + Clone + Send + Sync + 'static>(self, function: F) -> DataSink {
        self.sink_to(ForEach(function))
    }
}

#[derive(Clone)]
struct ForEach<F>(F);

impl<T, F: FnMut(T) + Clone + Send + Sync + 'static> SinkFunction<T> for ForEach<F> {
    #[inline(always)]
    fn write(&mut self, record: T, _time: i64) -> Result<(), UserError> {
        (self.0)(record);
        Ok(())
    }
}
