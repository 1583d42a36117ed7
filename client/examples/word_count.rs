//! Counts the words of a text file, or of all files in a folder: `word_count INPUT OUTPUT [--overwrite]`.
//!
//! Tidemill's own arguments, such as `--parallelism 4` or `--coordinators host:port,...`, may stand anywhere.

use std::process::ExitCode;

use tidemill::{Environment, Error};

/// The lower-case words of a line: runs of ASCII letters, digits and underscores.
fn words(line: &str) -> Vec<String> {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let runs = line.as_bytes().split(move |byte| !letter(byte)).filter(|run| !run.is_empty());
    runs.map(|run| String::from_utf8(run.to_ascii_lowercase()).expect("ASCII letters")).collect()
}

fn count_words(env: &Environment, input: &str, output: &str, overwrite: bool) -> Result<(), Error> {
    let word_count = env.counter("words");
    let counts = env
        .read_text_file(input)
        .uid("lines")
        .flat_map(|line: String| words(&line))
        .uid("words")
        .map(move |word| {
            word_count.add(1);
            (word, 1u64)
        })
        .uid("ones")
        .key_by_ref(|pair| &pair.0)
        .sum(|pair| &mut pair.1)
        .uid("counts")
        .write_as_csv(output, "\n", " ")
        .uid("output");
    if overwrite {
        counts.overwrite();
    }
    let result = env.execute("word count")?;
    println!("job {} took {:.3} s", result.job_id(), result.net_runtime().as_secs_f64());
    for (name, total) in result.accumulators() {
        println!("{name}: {total}");
    }
    Ok(())
}

fn main() -> ExitCode {
    let run = || {
        let env = Environment::from_args()?;
        match env.args() {
            [input, output] => count_words(&env, input, output, false),
            [input, output, flag] if flag == "--overwrite" => count_words(&env, input, output, true),
            _ => Err(Error::Arguments("usage: word_count INPUT OUTPUT [--overwrite]".to_owned())),
        }
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
