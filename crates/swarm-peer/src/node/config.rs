//! How a node behaves: [`NodeConfig`].

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use swarm_proto::download::SuperSeed;
use swarm_proto::session::Timeouts;

use crate::connector::AddressPolicy;
use crate::discovery::Discovery;
use crate::link::port::Transport;
use crate::uplink::{Downlink, Uplink};

/// Bytes for pieces and buffers, unless the operator says otherwise.
pub(crate) const MEMORY: u64 = 64 * 1024 * 1024;

/// How a node behaves. The defaults are for one site's bundles on one machine.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Where peers may call; port 0 lets the system choose. Where it names one address, calls and
    /// announces leave from that one too. `::` is all addresses of both families, or of IPv4 where
    /// the system has no IPv6; then trackers hear of us by each family. Default `[::]:0`.
    pub listen: SocketAddr,
    /// First eight bytes of our peer id: client and version.
    pub peer_id_prefix: [u8; 8],
    /// What may be sent, shared with whatever else draws on it. Default unlimited.
    pub uplink: Uplink,
    /// What may be received from peers. Default unlimited.
    pub downlink: Downlink,
    /// What one bundle may send, in bits per second, where it does not say otherwise. Default
    /// unlimited.
    pub bundle_upload: Option<u64>,
    /// What one bundle may receive, in bits per second, where it does not say otherwise. Default
    /// unlimited.
    pub bundle_download: Option<u64>,
    /// Connections of all bundles together. Default 500; each may cost 1 MiB at full speed. Where
    /// all are taken, the network that holds most makes way for others.
    pub peers_max: usize,
    /// Bytes for pieces that are not on the disk yet, one half, and for buffers of connections,
    /// the other, of all bundles together. Default 64 MiB; less makes pieces wait for each other,
    /// and connections faster than others slower.
    pub memory: u64,
    /// Connections of one bundle. Default 80.
    pub peers_per_swarm_max: usize,
    /// Calls under way at a time for one bundle. Default 16.
    pub dials_max: usize,
    /// Peers of one bundle that are served at a time. Default 8.
    pub upload_slots: usize,
    /// The same of a bundle that is whole, while more make better use of the uplink. Default 8: off.
    pub upload_slots_max: usize,
    /// Whether a lone seed shows its pieces one by one to clients of other kinds. Default: while it
    /// helps.
    pub super_seed: SuperSeed,
    /// Which addresses may be dialled. Default: strangers may name public ones only.
    pub policy: AddressPolicy,
    /// Time for one call. Default 5 s.
    pub dial_timeout: Duration,
    /// Whether peers are met by TCP, uTP or both. Default both.
    pub transport: Transport,
    /// How long connections wait for what.
    pub timeouts: Timeouts,
    /// Callers that have not said which bundle they want; beyond, who waited longest is dropped.
    /// Default 128, and as many again by uTP.
    pub handshakes_max: usize,
    /// Where to remember what was verified, for storage that has no place of its own.
    pub state_dir: Option<PathBuf>,
    /// Where to look for peers. Default: peers' word and trackers, but neither DHT nor multicast.
    pub discovery: Discovery,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            peer_id_prefix: *b"-SK0010-",
            uplink: Uplink::unlimited(),
            downlink: Downlink::unlimited(),
            bundle_upload: None,
            bundle_download: None,
            peers_max: 500,
            memory: MEMORY,
            peers_per_swarm_max: 80,
            dials_max: 16,
            upload_slots: 8,
            upload_slots_max: 8,
            super_seed: SuperSeed::default(),
            policy: AddressPolicy::default(),
            dial_timeout: Duration::from_secs(5),
            transport: Transport::default(),
            timeouts: Timeouts::default(),
            handshakes_max: 128,
            state_dir: None,
            discovery: Discovery::default(),
        }
    }
}
