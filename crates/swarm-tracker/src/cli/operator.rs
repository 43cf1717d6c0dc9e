//! Flags about sites that install nothing.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;
use swarm_tracker::config::{OperatorConfig, TrackerConfig};

#[derive(Debug, Args, Default)]
pub(super) struct OperatorArgs {
    /// Carry sites that name this key in DNS; the file is made if absent. Needs --announce-url and
    /// --state.
    #[arg(long, value_name = "FILE", env = "SWARM_TRACKER_OPERATOR_KEY")]
    operator_key: Option<PathBuf>,
    /// Announce URL of this tracker, as volunteers reach it.
    #[arg(long, value_name = "URL", env = "SWARM_TRACKER_ANNOUNCE_URL")]
    announce_url: Option<String>,
    /// Where peers may call for the copies of sites that are carried.
    #[arg(long, value_name = "ADDR", env = "SWARM_TRACKER_PEER_LISTEN")]
    peer_listen: Option<SocketAddr>,
    /// Name server to ask for sites' records. Default: those of this machine.
    #[arg(long, value_name = "ADDR", env = "SWARM_TRACKER_DNS")]
    dns: Option<SocketAddr>,
    /// Private network in which any site may say to be at home; may be given more than once.
    #[arg(
        long,
        value_name = "CIDR",
        env = "SWARM_TRACKER_ALLOW_NET",
        value_delimiter = ','
    )]
    allow_net: Vec<IpNet>,
}

impl OperatorArgs {
    /// Puts what was given in the place of what the file says.
    ///
    /// # Errors
    /// Flags of which one needs another.
    pub(super) fn apply(self, config: &mut TrackerConfig) -> anyhow::Result<()> {
        let given = self.announce_url.is_some()
            || self.peer_listen.is_some()
            || self.dns.is_some()
            || !self.allow_net.is_empty();
        if config.operator.is_none() {
            match (self.operator_key.clone(), self.announce_url.clone()) {
                (Some(key), Some(announce)) => {
                    config.operator = Some(OperatorConfig::new(key, announce));
                }
                (None, _) if !given => return Ok(()),
                (None, _) => anyhow::bail!("--operator-key is missing: whose sites are carried?"),
                (Some(_), None) => {
                    anyhow::bail!(
                        "--announce-url is missing: how do volunteers reach this tracker?"
                    )
                }
            }
        }
        if let Some(operator) = &mut config.operator {
            let key = self.operator_key.unwrap_or_else(|| operator.key.clone());
            operator.key = key;
            let announce = self
                .announce_url
                .unwrap_or_else(|| operator.announce.clone());
            operator.announce = announce;
            operator.listen = self.peer_listen.unwrap_or(operator.listen);
            operator.dns = self.dns.or(operator.dns);
            operator.allow_net.extend(self.allow_net);
        }
        Ok(())
    }
}
