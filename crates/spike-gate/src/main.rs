//! The command line of the gate.

mod cli;
mod run;
mod status;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
