//! Flags, environment and file become a configuration; outcomes become exit codes.
//!
//! Priority: flag, then environment, then file, then default. Exit codes: 0 fine, 1 failure,
//! 2 wrong usage, 3 not found or no peers, 4 integrity, 5 timeout, 69 address not available,
//! 78 bad configuration.

mod args;
mod bars;
mod control;
mod fetch;
mod fetch_site;
mod inspect;
mod output;
mod progress;
mod publish;
mod running;
mod seed;
mod select;
mod status;
mod units;
mod until;
mod verify;
mod wait;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use swarm_peer::NodeError;

pub(crate) use args::NodeArgs;
use args::configure;
pub(crate) use output::Output;
pub(crate) use running::{Running, runtime};

/// Publishes, seeds and fetches bundles: real torrents, and sites signed by their owners.
#[derive(Debug, Parser)]
#[command(name = "swarm-peer", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failure, 2 usage, 3 not found or no peers, 4 integrity, 5 timeout, 69 unavailable, 78 bad configuration"
)]
struct Cli {
    /// Configuration file (TOML); unknown keys are refused.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "SWARM_PEER_CONFIG",
        hide_env_values = true
    )]
    config: Option<PathBuf>,
    /// Less in the log; twice for errors only.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    quiet: u8,
    /// More in the log; RUST_LOG, where set, decides instead.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Publish(publish::PublishArgs),
    /// Serve a published folder, or the files of a torrent.
    Seed(seed::SeedArgs),
    /// Fetch a torrent, a magnet link, or a whole site by its record.
    Fetch(fetch::FetchArgs),
    /// Show what running peers do.
    Status(status::StatusArgs),
    /// Change the limits of a running peer.
    Limit(control::LimitArgs),
    /// Have a running peer rest: no peers, no announces.
    Pause(control::BundleArgs),
    /// Have it go on.
    Resume(control::BundleArgs),
    /// Have a running peer fetch and serve another torrent or magnet link.
    Add(control::AddArgs),
    /// Have a running peer be done with a bundle; its files stay.
    Remove(control::RemoveArgs),
    /// Stop a running peer in good order.
    Stop(control::TargetArgs),
    Inspect(inspect::InspectArgs),
    Verify(verify::VerifyArgs),
    /// Check or show the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the manual page, in roff, of the program or of one of its verbs.
    Man {
        /// Which verb.
        verb: Option<String>,
    },
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Exit 0 if the file is good, 78 with the place if not.
    Check {
        /// The file; --config or the defaults if left out.
        file: Option<PathBuf>,
    },
    /// Print what would be in force, as TOML.
    Show(Box<NodeArgs>),
}

pub(crate) const EXIT_FAILURE: u8 = 1;
pub(crate) const EXIT_USAGE: u8 = 2;
pub(crate) const EXIT_NOT_FOUND: u8 = 3;
pub(crate) const EXIT_INTEGRITY: u8 = 4;
pub(crate) const EXIT_TIMEOUT: u8 = 5;
pub(crate) const EXIT_UNAVAILABLE: u8 = 69;
pub(crate) const EXIT_CONFIG: u8 = 78;

/// Why the program ends otherwise than well.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    /// With this exit code.
    pub(crate) fn new(code: u8, error: impl Into<anyhow::Error>) -> Self {
        Self {
            code,
            error: error.into(),
        }
    }

    /// With this exit code and these words.
    pub(crate) fn text(code: u8, text: impl Into<String>) -> Self {
        Self::new(code, anyhow::Error::msg(text.into()))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(EXIT_FAILURE, error)
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        let code = match &error {
            NodeError::Listen { .. } => EXIT_UNAVAILABLE,
            _ => EXIT_FAILURE,
        };
        Self::new(code, error)
    }
}

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    output::log(cli.quiet, cli.verbose);
    match perform(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let line = one_line(&failure.error);
            // Nothing is left to be done where even standard error is closed.
            let _ = writeln!(io::stderr(), "swarm-peer: {line}");
            ExitCode::from(failure.code)
        }
    }
}

/// The chain of an error as one line. Our enums may name their source themselves, so a level that
/// the one above ends with is not repeated.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for level in error.chain() {
        let text = level.to_string();
        if line.ends_with(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    words.join(" ")
}

fn perform(cli: Cli) -> Result<(), Failure> {
    let file = cli.config.as_deref();
    match cli.command {
        Command::Publish(args) => publish::run(&args),
        Command::Inspect(args) => inspect::run(&configure(file, &NodeArgs::default())?, &args),
        Command::Verify(args) => {
            let named = NodeArgs {
                state: args.state.clone(),
                ..NodeArgs::default()
            };
            verify::run(&configure(file, &named)?, &args)
        }
        Command::Man { verb } => man(verb.as_deref()),
        Command::Seed(args) => seed::seed(configure(file, &args.node)?, args),
        Command::Fetch(args) => fetch::fetch(configure(file, &args.node)?, args),
        Command::Status(args) => status::status(&configure(file, &args.target.node())?, &args),
        Command::Limit(args) => control::limit(&configure(file, &args.target.node())?, &args),
        Command::Pause(args) => control::pause(&configure(file, &args.target.node())?, &args),
        Command::Resume(args) => control::resume(&configure(file, &args.target.node())?, &args),
        Command::Add(args) => control::add(&configure(file, &args.target.node())?, &args),
        Command::Remove(args) => control::remove(&configure(file, &args.target.node())?, &args),
        Command::Stop(args) => control::stop(&configure(file, &args.node())?),
        Command::Config { command } => match command {
            ConfigCommand::Check { file: named } => {
                configure(named.as_deref().or(file), &NodeArgs::default())?;
                Ok(())
            }
            ConfigCommand::Show(args) => {
                let config = configure(file, &args)?;
                let text = toml::to_string(&config).context("configuration cannot be shown")?;
                print(&text)
            }
        },
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "swarm-peer", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

/// Prints a manual page: `swarm-peer man fetch | man -l -`.
fn man(verb: Option<&str>) -> Result<(), Failure> {
    let mut command = Cli::command();
    command.build();
    let page = match verb {
        None => command,
        Some(verb) => {
            let found = command.find_subcommand(verb).cloned();
            found.ok_or_else(|| Failure::text(EXIT_USAGE, format!("no verb {verb}")))?
        }
    };
    let mut text = Vec::new();
    let title = verb.map_or("swarm-peer".into(), |verb| format!("swarm-peer-{verb}"));
    clap_mangen::Man::new(page)
        .title(title)
        .render(&mut text)
        .context("manual page")?;
    print(&String::from_utf8_lossy(&text))
}

/// Prints, and is content if nobody wants to read on.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::from(error).context("standard output").into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
