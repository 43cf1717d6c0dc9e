//! The command line of the tracker.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
