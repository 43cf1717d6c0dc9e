//! The command line, and how it comes together with the configuration file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use webseed_bridge::config::Settings;

/// Serves swarm content to ordinary browsers.
#[derive(Debug, Parser)]
#[command(name = "webseed-bridge", version, about, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 integrity, 5 timeout, 69 unavailable, 78 bad configuration"
)]
pub(crate) struct Cli {
    /// Less in the log; twice for errors only.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) quiet: u8,
    /// More in the log; RUST_LOG, where set, decides instead.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer visitors until stopped.
    Run(Box<RunArgs>),
    /// Look at configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// What to do with configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read a file and say whether it is right.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Print what would be in force: defaults, file, environment and flags.
    Show(Box<RunArgs>),
}

/// Everything that `run` takes. A flag outranks the environment, and that the file.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RunArgs {
    /// Serve this folder at once, as a plain web server for any host.
    #[arg(long, env = "SWARM_BRIDGE_ROOT", value_name = "DIR", conflicts_with_all = ["site", "volunteer"])]
    root: Option<PathBuf>,
    /// Where to answer HTTP [default: 127.0.0.1:8080].
    #[arg(long, env = "SWARM_BRIDGE_LISTEN", value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Tracker to announce to and to ask for records and alarms. Repeatable.
    #[arg(
        long,
        env = "SWARM_BRIDGE_TRACKER",
        value_name = "URL",
        value_delimiter = ','
    )]
    tracker: Vec<String>,
    /// Site to carry; for a volunteer: the only ones to help. Repeatable.
    #[arg(
        long,
        env = "SWARM_BRIDGE_SITE",
        value_name = "HOST",
        value_delimiter = ','
    )]
    site: Vec<String>,
    /// Root key of a site. Repeatable.
    #[arg(long, env = "SWARM_BRIDGE_SITE_KEY", value_name = "HOST=KEY", value_delimiter = ',', value_parser = pair)]
    site_key: Vec<(String, String)>,
    /// Site record read from a file, so that no tracker is needed for it. Repeatable.
    #[arg(long, env = "SWARM_BRIDGE_RECORD", value_name = "HOST=FILE", value_delimiter = ',', value_parser = pair)]
    record: Vec<(String, String)>,
    /// Help the sites that the tracker names as in need, while their alarm stands.
    #[arg(long, env = "SWARM_BRIDGE_VOLUNTEER")]
    volunteer: bool,
    /// What follows a site's label in hosts: <label>.DOMAIN [default: localhost].
    #[arg(long, env = "SWARM_BRIDGE_DOMAIN", value_name = "DOMAIN")]
    domain: Option<String>,
    /// Where to speak BitTorrent [default: 0.0.0.0:0].
    #[arg(long, env = "SWARM_BRIDGE_PEER_LISTEN", value_name = "ADDR")]
    peer_listen: Option<SocketAddr>,
    /// Where bundles, and what is known of sites, are kept.
    #[arg(long, env = "SWARM_BRIDGE_STORE", value_name = "DIR")]
    store: Option<PathBuf>,
    /// Limit on all that is sent, such as 20Mbit.
    #[arg(long, env = "SWARM_BRIDGE_UPLOAD", value_name = "RATE")]
    upload: Option<String>,
    /// Limit on the bundles held, such as 2GB.
    #[arg(long, env = "SWARM_BRIDGE_DISK", value_name = "SIZE")]
    disk: Option<String>,
    /// Limit on answers for one site.
    #[arg(long, env = "SWARM_BRIDGE_HITS", value_name = "N")]
    hits: Option<u64>,
    /// Peer to try. Repeatable.
    #[arg(
        long,
        env = "SWARM_BRIDGE_PEER",
        value_name = "ADDR",
        value_delimiter = ','
    )]
    peer: Vec<SocketAddr>,
    /// Private network that strangers' addresses may lie in. Repeatable.
    #[arg(
        long,
        env = "SWARM_BRIDGE_ALLOW_NET",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    allow_net: Vec<String>,
    /// Name server to ask whom sites let carry them [default: those of this machine].
    #[arg(long, env = "SWARM_BRIDGE_DNS", value_name = "ADDR")]
    dns: Option<SocketAddr>,
    /// Configuration file.
    #[arg(long, env = "SWARM_BRIDGE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print events as lines of JSON.
    #[arg(long, env = "SWARM_BRIDGE_JSON")]
    pub(crate) json: bool,
}

/// Why the configuration is not used; exit code 78.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(pub(crate) String);

impl Cli {
    /// The command.
    pub(crate) fn into_command(self) -> Command {
        self.command
    }

    /// Writes completions to standard output.
    pub(crate) fn completions(shell: Shell) {
        let mut command = Self::command();
        clap_complete::generate(
            shell,
            &mut command,
            "webseed-bridge",
            &mut std::io::stdout(),
        );
    }
}

impl RunArgs {
    /// Defaults, then the file, then environment and flags.
    ///
    /// # Errors
    /// [`ConfigError`]: the file cannot be read or is not right.
    pub(crate) fn settings(&self) -> Result<Settings, ConfigError> {
        let mut settings = match &self.config {
            Some(file) => read(file)?,
            None => match default_file() {
                Some(file) => read(&file)?,
                None => Settings::default(),
            },
        };
        fn set<T: Clone>(value: &mut T, given: &Option<T>) {
            if let Some(given) = given {
                *value = given.clone();
            }
        }
        fn set_list<T: Clone>(value: &mut Vec<T>, given: &[T]) {
            if !given.is_empty() {
                *value = given.to_vec();
            }
        }
        set(&mut settings.listen, &self.listen);
        set(&mut settings.domain, &self.domain);
        set(&mut settings.upload, &self.upload);
        set(&mut settings.disk, &self.disk);
        set(&mut settings.lease.hits, &self.hits);
        set_list(&mut settings.trackers, &self.tracker);
        set_list(&mut settings.sites, &self.site);
        set_list(&mut settings.peers, &self.peer);
        set_list(&mut settings.allow_net, &self.allow_net);
        if self.root.is_some() {
            settings.root = self.root.clone();
        }
        if self.peer_listen.is_some() {
            settings.peer_listen = self.peer_listen;
        }
        if self.dns.is_some() {
            settings.dns = self.dns;
        }
        if self.store.is_some() {
            settings.store = self.store.clone();
        }
        settings.volunteer |= self.volunteer;
        for (host, key) in &self.site_key {
            let keys = settings.site_keys.entry(host.clone()).or_default();
            if !keys.is_empty() {
                keys.push(' ');
            }
            keys.push_str(key);
        }
        for (host, file) in &self.record {
            settings.records.insert(host.clone(), file.into());
        }
        Ok(settings)
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((host, value)) if !host.is_empty() && !value.is_empty() => {
            Ok((host.to_owned(), value.to_owned()))
        }
        _ => Err("expected HOST=VALUE".into()),
    }
}

/// Reads a configuration file.
///
/// # Errors
/// [`ConfigError`], with line and column where the file is at fault.
pub(crate) fn read(file: &Path) -> Result<Settings, ConfigError> {
    let failed = |reason: String| ConfigError(format!("{}: {reason}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    toml::from_str(&text)
        .map_err(|error| failed(error.to_string().trim_end().replace('\n', "\n  ")))
}

fn default_file() -> Option<PathBuf> {
    let below = "webseed-bridge/config.toml";
    let user = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")));
    user.into_iter()
        .chain([PathBuf::from("/etc")])
        .map(|dir| dir.join(below))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(args: &[&str]) -> Result<Settings, ConfigError> {
        let args = ["webseed-bridge", "run"].iter().chain(args);
        match Cli::try_parse_from(args).unwrap().into_command() {
            Command::Run(run) => run.settings(),
            _ => unreachable!("run was given"),
        }
    }

    #[test]
    fn the_command_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_outrank_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(
            &file,
            "domain = 'a.example'\ntrackers = ['http://x/announce']\nvolunteer = true",
        )
        .unwrap();
        let file = file.to_str().unwrap();
        let got = settings(&[
            "--config",
            file,
            "--domain",
            "b.example",
            "--site-key",
            "h=k1",
            "--site-key",
            "h=k2",
        ])
        .unwrap();
        assert_eq!(got.domain, "b.example");
        assert_eq!(got.trackers, ["http://x/announce"]);
        assert!(got.volunteer);
        assert_eq!(got.site_keys["h"], "k1 k2");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, "\nlisten = 'nowhere'").unwrap();
        let error = settings(&["--config", file.to_str().unwrap()]).unwrap_err();
        assert!(
            error.0.contains("c.toml") && error.0.contains("line 2"),
            "{error}"
        );
        assert!(Cli::try_parse_from(["webseed-bridge", "run", "--site-key", "nokey"]).is_err());
        assert!(settings(&["--config", "/nowhere/at/all"]).is_err());
    }
}
