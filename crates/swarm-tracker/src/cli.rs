//! Flags, environment and file become a [`TrackerConfig`]; outcomes become exit codes.
//!
//! Priority: flag, then environment, then file, then default. Exit codes: 0 fine, 1 failure,
//! 2 wrong usage, 69 address not available, 78 bad configuration.

mod acme;

use std::io::{self, IsTerminal as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use ipnet::IpNet;
use sd_notify::NotifyState;
use swarm_peer::config::parse_site_key;
use swarm_proto::manifest::{HomeUrl, PublicKey, SiteName};
use swarm_tracker::config::{TlsConfig, parse_duration};
use swarm_tracker::{AcmeError, OperatorError, Tracker, TrackerConfig, TrackerError};
use tokio_util::sync::CancellationToken;

use crate::service;

mod operator;

const EXIT_FAILURE: u8 = 1;
const EXIT_UNAVAILABLE: u8 = 69;
const EXIT_CONFIG: u8 = 78;

/// BitTorrent tracker that also lists sites in need and sends their visitors to volunteers.
#[derive(Debug, Parser)]
#[command(name = "swarm-tracker", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failure, 2 usage, 69 unavailable, 78 bad configuration"
)]
struct Cli {
    /// Configuration file (TOML); unknown keys are refused.
    #[arg(long, global = true, value_name = "FILE", env = "SWARM_TRACKER_CONFIG")]
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
    /// Answer announces, alarms and visitors until a signal to stop.
    Run(Box<RunArgs>),
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
    /// Address to listen on for HTTP; may be given more than once. Port 0: any free port.
    #[arg(
        long,
        value_name = "ADDR",
        env = "SWARM_TRACKER_HTTP",
        value_delimiter = ','
    )]
    http: Vec<SocketAddr>,
    /// Address to listen on for HTTPS; may be given more than once.
    #[arg(
        long,
        value_name = "ADDR",
        env = "SWARM_TRACKER_HTTPS",
        value_delimiter = ','
    )]
    https: Vec<SocketAddr>,
    /// Certificate for --https (PEM, with those that lead to its root); read anew when it changes,
    /// and on SIGHUP.
    #[arg(
        long,
        value_name = "FILE",
        env = "SWARM_TRACKER_TLS_CERT",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,
    /// Private key of that certificate (PEM).
    #[arg(
        long,
        value_name = "FILE",
        env = "SWARM_TRACKER_TLS_KEY",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,
    #[command(flatten)]
    acme: acme::AcmeArgs,
    /// Address to listen on for UDP; may be given more than once. Default: those of --http.
    #[arg(
        long,
        value_name = "ADDR",
        env = "SWARM_TRACKER_UDP",
        value_delimiter = ','
    )]
    udp: Vec<SocketAddr>,
    /// Do not listen on UDP.
    #[arg(long, env = "SWARM_TRACKER_NO_UDP", conflicts_with = "udp")]
    no_udp: bool,
    /// Take any info hash, not only bundles of registered sites.
    #[arg(long, env = "SWARM_TRACKER_OPEN")]
    open: bool,
    /// A site to work for and its root key; may be given more than once.
    #[arg(
        long,
        value_name = "HOST=KEY",
        env = "SWARM_TRACKER_SITE_KEY",
        value_delimiter = ',',
        value_parser = parse_site_key
    )]
    site_key: Vec<(SiteName, PublicKey)>,
    /// Keep site records here, so that no older one is accepted after a restart.
    #[arg(long, value_name = "DIR", env = "SWARM_TRACKER_STATE")]
    state: Option<PathBuf>,
    /// Share swarms, sites and volunteers with other trackers by a Redis server:
    /// redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], or rediss:// over TLS. A password is better given by the environment or the file, where no list of processes
    /// shows it. Default: memory, which shares nothing.
    #[arg(
        long,
        value_name = "memory|URL",
        env = "SWARM_TRACKER_STORE",
        hide_env_values = true
    )]
    store: Option<String>,
    /// Domain under which volunteers may name their bridges; may be given more than once.
    #[arg(
        long,
        value_name = "DOMAIN",
        env = "SWARM_TRACKER_BRIDGE_DOMAIN",
        value_delimiter = ','
    )]
    bridge_domain: Vec<String>,
    /// Reverse proxies whose word about who asks is believed (Forwarded, X-Forwarded-For); may be
    /// given more than once.
    #[arg(
        long,
        value_name = "CIDR",
        env = "SWARM_TRACKER_TRUSTED_PROXY",
        value_delimiter = ','
    )]
    trusted_proxy: Vec<IpNet>,
    /// Where a site itself answers while its public name leads to this tracker; may be given more
    /// than once.
    #[arg(
        long,
        value_name = "HOST=URL",
        env = "SWARM_TRACKER_HOME",
        value_delimiter = ',',
        value_parser = site_home
    )]
    home: Vec<(SiteName, HomeUrl)>,
    #[command(flatten)]
    operator: operator::OperatorArgs,
    /// Address of this host from which bridges are audited; may be given more than once.
    #[arg(
        long,
        value_name = "IP",
        env = "SWARM_TRACKER_AUDIT_FROM",
        value_delimiter = ','
    )]
    audit_from: Vec<IpAddr>,
    /// Time between two announces of a peer.
    #[arg(long, value_name = "TIME", env = "SWARM_TRACKER_INTERVAL", value_parser = parse_duration)]
    interval: Option<Duration>,
    /// Longest time to finish requests after the signal to stop.
    #[arg(long, value_name = "TIME", env = "SWARM_TRACKER_DRAIN", value_parser = parse_duration)]
    drain: Option<Duration>,
    /// Print events as lines of JSON on standard output.
    #[arg(long, env = "SWARM_TRACKER_JSON")]
    json: bool,
}

fn site_home(text: &str) -> Result<(SiteName, HomeUrl), String> {
    let (site, home) = text.split_once('=').ok_or("expected HOST=URL")?;
    let site = SiteName::parse(site).map_err(|error| format!("HOST: {error}"))?;
    Ok((site, home.parse()?))
}

/// Why the program ends otherwise than well.
#[derive(Debug)]
struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    fn config(error: anyhow::Error) -> Self {
        Self {
            code: EXIT_CONFIG,
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

impl From<TrackerError> for Failure {
    fn from(error: TrackerError) -> Self {
        let code = match &error {
            TrackerError::Config(_)
            | TrackerError::Certificate(_)
            | TrackerError::Operator(OperatorError::Key { .. } | OperatorError::Announce(_)) => {
                EXIT_CONFIG
            }
            TrackerError::Acme(AcmeError::Roots { .. }) => EXIT_CONFIG,
            TrackerError::Bind { .. } | TrackerError::Socket(_) => EXIT_UNAVAILABLE,
            _ => EXIT_FAILURE,
        };
        Self {
            code,
            error: error.into(),
        }
    }
}

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    log(&cli);
    match perform(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let line = one_line(&failure.error);
            // Nothing is left to be done where even standard error is closed.
            let _ = writeln!(io::stderr(), "swarm-tracker: {line}");
            ExitCode::from(failure.code)
        }
    }
}

/// The chain of an error as one line. Our enums name their source themselves, so a level that
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

fn log(cli: &Cli) {
    let level = match (cli.quiet, cli.verbose) {
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

fn perform(cli: Cli) -> Result<(), Failure> {
    let file = cli.config.as_deref();
    match cli.command {
        Command::Run(args) => {
            let json = args.json;
            run(configure(file, *args)?, json)
        }
        Command::Config { command } => match command {
            ConfigCommand::Check { file: named } => {
                configure(named.as_deref().or(file), RunArgs::default())?;
                Ok(())
            }
            ConfigCommand::Show(args) => {
                let config = configure(file, *args)?;
                let text = toml::to_string(&config).context("configuration cannot be shown")?;
                print(&text)
            }
        },
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "swarm-tracker", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

/// Prints, and is content if nobody wants to read on.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::from(error).context("standard output").into())
        }
        _ => Ok(()),
    }
}

fn configure(file: Option<&Path>, args: RunArgs) -> Result<TrackerConfig, Failure> {
    let mut config = match file {
        None => TrackerConfig::default(),
        Some(path) => read_config(path).map_err(Failure::config)?,
    };
    if !args.http.is_empty() {
        config.http = args.http;
        // Those of the file went with its addresses for HTTP.
        config.udp = None;
    }
    if !args.https.is_empty() {
        config.https = args.https;
    }
    if let (Some(certificate), Some(key)) = (args.tls_cert, args.tls_key) {
        config.tls = Some(TlsConfig { certificate, key });
    }
    config.acme = args.acme.over(config.acme);
    if args.no_udp || !args.udp.is_empty() {
        config.udp = Some(args.udp);
    }
    config.open |= args.open;
    config.site_keys.extend(args.site_key);
    config.state = args.state.or(config.state);
    if let Some(store) = args.store {
        // Not by clap, whose errors show what was given.
        let store = store.parse().map_err(anyhow::Error::msg);
        config.store = store.map_err(Failure::config)?;
    }
    if !args.bridge_domain.is_empty() {
        config.bridge_domains = args.bridge_domain;
    }
    if !args.trusted_proxy.is_empty() {
        config.trusted_proxies = args.trusted_proxy;
    }
    config.homes.extend(args.home);
    args.operator.apply(&mut config).map_err(Failure::config)?;
    if !args.audit_from.is_empty() {
        config.volunteers.audit_from = args.audit_from;
    }
    config.drain = args.drain.unwrap_or(config.drain);
    if let Some(interval) = args.interval {
        config.announce.interval = interval;
        // A peer may miss one announce.
        config.announce.peer_age = config.announce.peer_age.max(interval.saturating_mul(5) / 2);
    }
    config
        .check()
        .map_err(|error| Failure::config(error.into()))?;
    Ok(config)
}

fn read_config(path: &Path) -> anyhow::Result<TrackerConfig> {
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

#[tokio::main]
async fn run(config: TrackerConfig, json: bool) -> Result<(), Failure> {
    let shutdown = CancellationToken::new();
    let sockets = service::sockets()?;
    // A service manager that is asked to reload sends it whatever there is to reload.
    let heeded = !config.https.is_empty() || std::env::var_os("NOTIFY_SOCKET").is_some();
    let mut hangups = Hangups::new(heeded).context("cannot wait for signals")?;
    let tracker = Tracker::start_on(sockets, config, shutdown.clone()).await?;
    let mut signals = Signals::new().context("cannot wait for signals")?;
    let (addrs, udp) = (tracker.http_addrs(), tracker.udp_addrs());
    let https = tracker.https_addrs();
    if json {
        let all: Vec<String> = addrs.iter().map(ToString::to_string).collect();
        let event = serde_json::json!({
            "event": "listening",
            "http": tracker.http_addr().to_string(),
            "http_all": all,
            "https_all": https.iter().map(ToString::to_string).collect::<Vec<String>>(),
            "operator": tracker.operator_key().map(ToString::to_string),
            "udp": udp.first().map(ToString::to_string),
            "udp_all": udp.iter().map(ToString::to_string).collect::<Vec<String>>(),
        });
        print(&format!("{event}\n"))?;
    }
    for addr in addrs {
        tracing::info!(http = %addr, "listening");
    }
    for addr in https {
        tracing::info!(https = %addr, "listening");
    }
    for addr in udp {
        tracing::info!(udp = %addr, "listening");
    }
    service::tell(&[NotifyState::Ready]);
    tokio::select! {
        () = signals.next() => {}
        () = service::keep_watchdog(&tracker) => {}
        () = async {
            loop {
                hangups.next().await;
                tracker.reload_certificate().await;
            }
        } => {}
    }
    service::tell(&[NotifyState::Stopping]);
    tracing::info!("stopping, a second signal stops at once");
    shutdown.cancel();
    tokio::select! {
        () = tracker.join() => Ok(()),
        () = signals.next() => Err(anyhow::anyhow!("stopped before all requests were finished").into()),
    }
}

/// The signal that means "read the certificate anew". Where there is none it ends the program, as
/// when a terminal is closed.
struct Hangups {
    #[cfg(unix)]
    told: Option<tokio::signal::unix::Signal>,
}

impl Hangups {
    fn new(wanted: bool) -> io::Result<Self> {
        #[cfg(not(unix))]
        let _ = wanted;
        Ok(Self {
            #[cfg(unix)]
            told: wanted
                .then(|| tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()))
                .transpose()?,
        })
    }

    /// Waits for the next; for ever where there is none.
    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(told) = &mut self.told
            && told.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}

/// The signals that mean "stop".
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        std::fs::write(
            &path,
            "http = ['127.0.0.1:1']\nopen = true\nstate = '/from/file'\n",
        )
        .expect("written");
        let args = RunArgs {
            http: vec!["127.0.0.1:2".parse().expect("an address")],
            interval: Some(Duration::from_secs(600)),
            ..RunArgs::default()
        };
        let config = configure(Some(&path), args).expect("good");
        assert_eq!(config.http, ["127.0.0.1:2".parse().expect("an address")]);
        assert_eq!(config.state, Some("/from/file".into()));
        assert!(config.open);
        assert_eq!(config.announce.peer_age, Duration::from_secs(1500));
    }

    #[test]
    fn a_bad_file_is_named_with_its_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "open = true\nopne = true\n").expect("written");
        let failure = configure(Some(&path), RunArgs::default()).expect_err("refused");
        let line = one_line(&failure.error);
        assert_eq!(failure.code, EXIT_CONFIG);
        assert!(line.contains("config.toml: line 2, column 1: "), "{line}");
        assert!(line.contains("opne"), "{line}");
        let failure = configure(Some(&dir.path().join("none")), RunArgs::default());
        assert_eq!(failure.expect_err("refused").code, EXIT_CONFIG);
    }

    #[test]
    fn a_home_is_host_and_url() {
        let (site, home) = site_home("example.org=https://o.example.org:8443").expect("good");
        assert_eq!(
            (site.as_str(), home.base()),
            ("example.org", "https://o.example.org:8443")
        );
        for text in ["", "example.org", "=https://x.org", "example.org=x"] {
            assert!(site_home(text).is_err(), "{text}");
        }
    }
}
