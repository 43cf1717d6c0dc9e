//! How peers are found besides by the operator's word and HTTP trackers.
//!
//! Whatever comes from here is a hint: an address goes into the address book if the policy lets
//! its source name it, and is believed to hold something only once it has shown it. A private
//! torrent (BEP 27) is announced to its trackers and nowhere else.

pub(crate) mod dht;
pub(crate) mod lsd;

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Whether to take part in the DHT (BEP 5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DhtMode {
    /// Not at all.
    #[default]
    Off,
    /// Ask and announce, but answer nobody: for who cannot be reached from outside.
    Client,
    /// Ask, announce and answer, as everybody should who can be reached.
    On,
}

/// A text that is no [`DhtMode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no way to take part in the DHT: expected on, off or client")]
pub struct DhtModeError(String);

impl FromStr for DhtMode {
    type Err = DhtModeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "client" => Ok(Self::Client),
            "on" => Ok(Self::On),
            _ => Err(DhtModeError(text.to_owned())),
        }
    }
}

impl std::fmt::Display for DhtMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Off => "off",
            Self::Client => "client",
            Self::On => "on",
        })
    }
}

/// Where a node looks for peers, and lets itself be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// The DHT (BEP 5). Default off: it tells strangers all over the world what is fetched here,
    /// and a site's bundles have trackers.
    pub dht: DhtMode,
    /// Nodes (`HOST:PORT`) to enter the DHT by. Default none, which with the DHT on means the
    /// well-known routers.
    pub dht_bootstrap: Vec<String>,
    /// Peers told by other peers, and telling them (BEP 11). Default on.
    pub pex: bool,
    /// Multicast on the local network (BEP 14). Default off: it tells everybody there what is
    /// fetched here.
    pub lsd: bool,
    /// Trackers over UDP (BEP 15), beside those over HTTP. Default on.
    pub udp_trackers: bool,
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            dht: DhtMode::Off,
            dht_bootstrap: Vec::new(),
            pex: true,
            lsd: false,
            udp_trackers: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_written_as_they_are_read() {
        for mode in [DhtMode::Off, DhtMode::Client, DhtMode::On] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
            let json = serde_json::to_string(&mode).unwrap();
            assert_eq!(json, format!("\"{mode}\""));
        }
        for wrong in ["", "ON", "server", "true"] {
            assert!(wrong.parse::<DhtMode>().is_err(), "{wrong}");
        }
    }
}
