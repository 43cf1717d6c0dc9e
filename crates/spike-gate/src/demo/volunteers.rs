//! Strangers who lend a hand: each a node and a bridge of its own, with nothing but the tracker's
//! address and the site's root key to begin with.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use swarm_peer::connector::AddressPolicy;
use swarm_peer::uplink::Uplink;
use swarm_peer::{Node, NodeConfig, NodeError};
use swarm_proto::manifest::{PublicKey, SiteName};
use tokio_util::sync::CancellationToken;
use webseed_bridge::config::{BridgeConfig, JoinConfig, LeaseConfig};
use webseed_bridge::error::StartError;
use webseed_bridge::site_source::SiteSource;
use webseed_bridge::volunteer::Volunteer as Follower;
use webseed_bridge::{Bridge, BridgeHandle};

/// One volunteer.
pub(super) struct Volunteer {
    bridge: BridgeHandle,
    /// All that its machine sends.
    pub uplink: Uplink,
}

/// Why a volunteer does not start.
#[derive(Debug, thiserror::Error)]
pub enum VolunteerError {
    /// The BitTorrent side.
    #[error("volunteer's node")]
    Node(#[from] NodeError),
    /// The HTTP side.
    #[error("volunteer's bridge")]
    Bridge(#[from] StartError),
}

/// Loopback counts as an allowed network: all machines of the demo are there.
pub(super) fn policy() -> AddressPolicy {
    AddressPolicy {
        allow_net: ["127.0.0.0/8", "::1/128"]
            .iter()
            .filter_map(|net| net.parse().ok())
            .collect(),
    }
}

impl Volunteer {
    /// Starts one that holds nothing; its memory is `dir`, its line `uplink`.
    ///
    /// `site` is who it is ready to help, by name and root key. Elsewhere TLS vouches for the key;
    /// on loopback there is none, so it is given as by `--site-key`.
    ///
    /// # Errors
    /// [`VolunteerError`]: no port to be had, most likely.
    pub(super) async fn start(
        site: (SiteName, PublicKey),
        tracker: String,
        dir: &Path,
        uplink: Uplink,
        shutdown: CancellationToken,
    ) -> Result<Self, VolunteerError> {
        let node = NodeConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            uplink: uplink.clone(),
            policy: policy(),
            ..NodeConfig::default()
        };
        let node = Node::start(node, shutdown.clone()).await?;
        let config = BridgeConfig {
            join: JoinConfig {
                store: Some(dir.join("bundles")),
                trackers: vec![tracker.clone()],
                offer: true,
                ..JoinConfig::default()
            },
            ..BridgeConfig::default()
        };
        let bridge = Bridge::start(config, node.clone(), shutdown.clone()).await?;
        let source = SiteSource::new(
            node.http().clone(),
            vec![tracker],
            HashMap::from([(site.0, vec![site.1])]),
            Some(dir.join("trust")),
            None,
        );
        let follower = Follower::new(bridge.clone(), source, LeaseConfig::default(), []);
        tokio::spawn(follower.run(shutdown));
        Ok(Self { bridge, uplink })
    }

    /// Where a browser finds `site` on this bridge.
    pub(super) fn url(&self, site: &SiteName) -> String {
        format!(
            "http://{}.localhost:{}/",
            site.label(),
            self.bridge.addr().port()
        )
    }
}
