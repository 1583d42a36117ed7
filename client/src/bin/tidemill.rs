//! The `tidemill` command line.

fn main() -> std::process::ExitCode {
    tidemill::cli::main()
}
