//! A whole spike on this machine, and a verdict: `spike-gate demo`.
//!
//! One process holds it all, on loopback: an origin whose line to the world carries 8 Mbit/s, gate
//! and tracker and seed on the same host and the same line, four volunteer bridges of 40 Mbit/s that
//! hold nothing at first, and a crowd of plain HTTP visitors. The crowd comes twice, the same both
//! times: to the origin alone, then to the gate.
//!
//! Deliberately absent: anything that a visitor, volunteer or the origin would not have on machines
//! of their own. They share a process, not knowledge.

mod assets;
mod crowd;
mod curve;
mod expect;
mod html;
mod origin;
mod page;
mod panel;
mod plot;
mod relay;
mod report;
mod run;
mod site;
mod stage;
mod timeline;
mod visitor;
mod volunteers;

use std::path::PathBuf;
use std::process::ExitCode;

pub use expect::Unpublished;
pub use run::{DemoError, run};
pub use site::SiteError;
pub use stage::StageError;
pub use volunteers::VolunteerError;

/// A whole spike on this machine, in a minute, with a verdict at the end.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Serve this folder in place of the site that comes with the program.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Print one JSON object at the end; progress goes to standard error.
    #[arg(long)]
    pub json: bool,
    /// Leave everything running afterwards and print addresses to open.
    #[arg(long)]
    pub keep: bool,
    /// Draw both runs to this SVG file.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// Runs the demo; 0 when the verdict is pass, 1 when it is not or when the demo failed.
pub async fn main(args: DemoArgs) -> ExitCode {
    match run(args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("spike-gate: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with all its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests;
