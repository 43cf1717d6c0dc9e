//! The `webseed-bridge` binary: reads the command line, runs, and ends with a documented code.

mod cli;
mod run;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, ConfigCommand, ConfigError, RunArgs};
use run::RunError;

fn main() -> ExitCode {
    match act(Cli::parse().into_command()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("webseed-bridge: {error:#}");
            ExitCode::from(code_of(&error))
        }
    }
}

fn act(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(args) => run(&args),
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

fn run(args: &RunArgs) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
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
