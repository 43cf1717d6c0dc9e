//! The `webseed-bridge` binary: reads the command line, runs, and ends with a documented code.

mod cli;
mod run;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, ConfigCommand, ConfigError, RunArgs};
use run::RunError;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = match (cli.quiet, cli.verbose) {
        (0, 0) => "info",
        (0, 1) => "debug",
        (0, _) => "trace",
        (1, _) => "warn",
        _ => "error",
    };
    match act(cli.into_command(), level) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("webseed-bridge: {error:#}");
            ExitCode::from(code_of(&error))
        }
    }
}

fn act(command: Command, level: &str) -> anyhow::Result<()> {
    match command {
        Command::Run(args) => run(&args, level),
        Command::Config(ConfigCommand::Check { file }) => {
            match run::Plan::new(&cli::read(&file)?) {
                // What to carry may come from flags.
                Ok(_) | Err(RunError::Nothing) => {}
                Err(error) => return Err(error.into()),
            }
            println!("{}: ok", file.display());
            Ok(())
        }
        Command::Config(ConfigCommand::Show(args)) => {
            print!("{}", toml::to_string(&args.settings()?)?);
            Ok(())
        }
        Command::Completions { shell } => {
            Cli::completions(shell);
            Ok(())
        }
    }
}

fn run(args: &RunArgs, level: &str) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
    let settings = args.settings()?;
    let plan = run::Plan::new(&settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run::run(settings, plan, args.json))?;
    Ok(())
}

/// The documented exit codes; `--help` lists them. Usage errors end in clap, with 2.
fn code_of(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() {
        return 78;
    }
    match error.downcast_ref::<RunError>() {
        Some(RunError::Nothing) => 2,
        Some(RunError::Setting(_)) => 78,
        Some(error) if error.is_listening() => 69,
        Some(error) if error.is_integrity() => 4,
        _ => 1,
    }
}
