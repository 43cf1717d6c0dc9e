//! Flags, environment and file become [`Settings`]; outcomes become exit codes.
//!
//! Priority: flag, then environment, then file, then default. Exit codes: 0 fine, 1 failure,
//! 2 wrong usage, 69 address or gate not available, 78 bad configuration.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use spike_gate::config::{Plan, Settings};
use swarm_peer::http::chain;

/// Something went wrong while running.
pub(crate) const EXIT_FAILURE: u8 = 1;
/// An address is taken, or no gate runs.
pub(crate) const EXIT_UNAVAILABLE: u8 = 69;
/// The configuration is no good.
pub(crate) const EXIT_CONFIG: u8 = 78;

/// A site's front door: passes visitors on to the origin, and in a spike lets the crowd carry
/// what is heavy.
#[derive(Debug, Parser)]
#[command(name = "spike-gate", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failure, 2 usage, 69 unavailable, 78 bad configuration"
)]
struct Cli {
    /// Configuration file (TOML); unknown keys are refused.
    #[arg(long, global = true, value_name = "FILE", env = "SWARM_GATE_CONFIG")]
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
    /// Stand before the origin until a signal to stop.
    Run(Box<RunArgs>),
    /// A whole spike on this machine, in a minute, with a verdict at the end.
    Demo(spike_gate::demo::DemoArgs),
    /// Show where a running gate stands and what it carried.
    Status {
        /// The running gate's state directory.
        #[arg(long, value_name = "DIR", env = "SWARM_GATE_STATE")]
        state: Option<PathBuf>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Check or show the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
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
    Show(Box<RunArgs>),
}

#[derive(Debug, Args, Default)]
struct RunArgs {
    /// The site's own server.
    #[arg(long, value_name = "URL", env = "SWARM_GATE_ORIGIN")]
    origin: Option<String>,
    /// The folder that the origin serves; published at start, so that volunteers can carry it.
    #[arg(long, value_name = "DIR", env = "SWARM_GATE_ROOT")]
    root: Option<PathBuf>,
    /// Where visitors are answered [default: 127.0.0.1:8000].
    #[arg(long, value_name = "ADDR", env = "SWARM_GATE_LISTEN")]
    listen: Option<SocketAddr>,
    /// The site's address as visitors see it [default: the listening address].
    #[arg(long, value_name = "URL", env = "SWARM_GATE_SITE")]
    site: Option<String>,
    /// What the site's line carries, such as 10Mbit [default: --upload, or 100Mbit].
    #[arg(long, value_name = "RATE", env = "SWARM_GATE_PLAN_RATE")]
    plan_rate: Option<String>,
    /// What may be sent in all [default: no limit].
    #[arg(long, value_name = "RATE", env = "SWARM_GATE_UPLOAD")]
    upload: Option<String>,
    /// The tracker: `embedded`, or the announce URL of another [default: embedded].
    #[arg(long, value_name = "URL", env = "SWARM_GATE_TRACKER")]
    tracker: Option<String>,
    /// Where the embedded tracker answers [default: port 6969 beside --listen].
    #[arg(long, value_name = "ADDR", env = "SWARM_GATE_TRACKER_LISTEN")]
    tracker_listen: Option<SocketAddr>,
    /// Where the seed speaks BitTorrent [default: port 51413 beside --listen].
    #[arg(long, value_name = "ADDR", env = "SWARM_GATE_PEER_LISTEN")]
    peer_listen: Option<SocketAddr>,
    /// Where the embedded bridge answers, or `off` [default: port 8081 beside --listen].
    #[arg(long, value_name = "ADDR", env = "SWARM_GATE_BRIDGE_LISTEN")]
    bridge_listen: Option<String>,
    /// Where keys, torrents and compressed variants are kept [default: $XDG_STATE_HOME/spike-gate].
    #[arg(long, value_name = "DIR", env = "SWARM_GATE_STATE")]
    state: Option<PathBuf>,
    /// Private network that strangers' addresses may lie in; may be given more than once.
    #[arg(
        long,
        value_name = "CIDR",
        env = "SWARM_GATE_ALLOW_NET",
        value_delimiter = ','
    )]
    allow_net: Vec<String>,
    /// Only log what would be diverted.
    #[arg(long, env = "SWARM_GATE_SHADOW")]
    shadow: bool,
    /// Print events as lines of JSON on standard output.
    #[arg(long, env = "SWARM_GATE_JSON")]
    json: bool,
}

/// Why the program ends otherwise than well.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) error: anyhow::Error,
}

impl Failure {
    pub(crate) fn config(error: anyhow::Error) -> Self {
        Self {
            code: EXIT_CONFIG,
            error,
        }
    }

    pub(crate) fn unavailable(error: anyhow::Error) -> Self {
        Self {
            code: EXIT_UNAVAILABLE,
            error,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self {
            code: EXIT_FAILURE,
            error,
        }
    }
}

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    log(&cli);
    match perform(cli) {
        Ok(code) => code,
        Err(failure) => {
            let error: &(dyn std::error::Error + 'static) = failure.error.as_ref();
            let line = chain(error);
            let words: Vec<&str> = line.split_whitespace().collect();
            // Nothing is left to be done where even standard error is closed.
            let _ = writeln!(io::stderr(), "spike-gate: {}", words.join(" "));
            ExitCode::from(failure.code)
        }
    }
}

fn log(cli: &Cli) {
    let level = match (cli.quiet, cli.verbose) {
        // The demo draws its own picture.
        (0, 0) if matches!(cli.command, Command::Demo(_)) => "error",
        (0, 0) => "info",
        (0, 1) => "debug",
        (0, _) => "trace",
        (1, _) => "warn",
        _ => "error",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colour)
        .init();
}

fn perform(cli: Cli) -> Result<ExitCode, Failure> {
    let file = cli.config.as_deref();
    match cli.command {
        Command::Run(args) => {
            let json = args.json;
            let settings = configure(file, *args)?;
            runtime()?.block_on(crate::run::run(plan(&settings)?, json))?;
        }
        Command::Demo(args) => {
            return Ok(runtime()?.block_on(spike_gate::demo::main(args)));
        }
        Command::Status { state, json } => {
            let mut settings = configure(
                file,
                RunArgs {
                    state,
                    ..RunArgs::default()
                },
            )?;
            if settings.origin.is_empty() {
                // Only the state directory matters here.
                settings.origin = "http://localhost".into();
            }
            let state = plan(&settings)?.gate.state_dir;
            let text = runtime()?.block_on(crate::status::status(&state, json))?;
            print(&text)?;
        }
        Command::Config { command } => match command {
            ConfigCommand::Check { file: named } => {
                let mut settings = configure(named.as_deref().or(file), RunArgs::default())?;
                if settings.origin.is_empty() {
                    // A file may leave it to the command line.
                    settings.origin = "http://localhost".into();
                }
                plan(&settings)?;
            }
            ConfigCommand::Show(args) => {
                let settings = configure(file, *args)?;
                let text = toml::to_string(&settings).context("configuration cannot be shown")?;
                print(&text)?;
            }
        },
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "spike-gate", &mut script);
            print(&String::from_utf8_lossy(&script))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    Ok(runtime.context("cannot start the runtime")?)
}

fn plan(settings: &Settings) -> Result<Plan, Failure> {
    settings
        .plan()
        .map_err(|error| Failure::config(anyhow::Error::msg(error)))
}

/// Prints, and is content if nobody wants to read on.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::from(error).context("standard output").into())
        }
        _ => Ok(()),
    }
}

fn configure(file: Option<&Path>, args: RunArgs) -> Result<Settings, Failure> {
    let mut settings = match file {
        None => Settings::default(),
        Some(path) => read_config(path).map_err(Failure::config)?,
    };
    let set = |to: &mut String, from: Option<String>| {
        if let Some(from) = from {
            *to = from;
        }
    };
    set(&mut settings.origin, args.origin);
    set(&mut settings.site, args.site);
    set(&mut settings.plan_rate, args.plan_rate);
    set(&mut settings.upload, args.upload);
    set(&mut settings.tracker, args.tracker);
    set(&mut settings.bridge_listen, args.bridge_listen);
    settings.listen = args.listen.unwrap_or(settings.listen);
    settings.root = args.root.or(settings.root);
    settings.state = args.state.or(settings.state);
    settings.tracker_listen = args.tracker_listen.or(settings.tracker_listen);
    settings.peer_listen = args.peer_listen.or(settings.peer_listen);
    if !args.allow_net.is_empty() {
        settings.allow_net = args.allow_net;
    }
    settings.shadow |= args.shadow;
    Ok(settings)
}

fn read_config(path: &Path) -> anyhow::Result<Settings> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("configuration {shown}"))?;
    toml::from_str(&text).map_err(|error| {
        let place = error.span().map_or(String::new(), |span| {
            let before = text.get(..span.start).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before
                .rsplit('\n')
                .next()
                .unwrap_or_default()
                .chars()
                .count()
                + 1;
            format!("line {line}, column {column}: ")
        });
        anyhow::anyhow!("configuration {shown}: {place}{}", error.message())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_win_over_the_file_and_a_bad_file_is_named_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gate.toml");
        std::fs::write(
            &path,
            "origin = 'http://a'\nplan_rate = '1Mbit'\nshadow = true\n",
        )
        .unwrap();
        let args = RunArgs {
            plan_rate: Some("2Mbit".into()),
            ..RunArgs::default()
        };
        let settings = configure(Some(&path), args).unwrap();
        assert_eq!(settings.origin, "http://a");
        assert_eq!(settings.plan_rate, "2Mbit");
        assert!(settings.shadow);
        std::fs::write(&path, "origin = 'http://a'\n[overload]\nwarm_aftr = '1s'\n").unwrap();
        let failure = configure(Some(&path), RunArgs::default()).unwrap_err();
        let line = chain(failure.error.as_ref());
        assert_eq!(failure.code, EXIT_CONFIG);
        assert!(line.contains("gate.toml: line 3, column 1: "), "{line}");
    }
}
