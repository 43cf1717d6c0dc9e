//! The command line of the peer.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
