//! The command line of the tracker.

mod cli;
mod service;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
