//! Local service discovery (BEP 14): a peer tells its network which swarms it is in.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::id::SwarmId;
use crate::limits::LSD_SWARMS_MAX;

/// Where announces are sent and listened for over IPv4.
pub const LSD_GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 192, 152, 143), 6771);

/// The same over IPv6.
pub const LSD_GROUP_V6: SocketAddrV6 = SocketAddrV6::new(
    Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f),
    6771,
    0,
    0,
);

const HEAD: &str = "BT-SEARCH * HTTP/1.1";

/// One announce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LsdAnnounce {
    /// TCP port at which the sender listens; its address is where the packet comes from.
    pub port: u16,
    /// The swarms it is in: at least one, at most [`LSD_SWARMS_MAX`].
    pub swarm_ids: Vec<SwarmId>,
    /// Chosen by the sender, to know its own announces by.
    pub cookie: Option<String>,
}

/// Bytes that are no announce. The sender's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LsdError {
    /// Another protocol, or no text.
    #[error("not the protocol of BEP 14")]
    Protocol,
    /// A line that must be there is not, or it is malformed.
    #[error("no valid {0}")]
    Field(&'static str),
}

impl LsdAnnounce {
    /// Writes the packet for that group.
    pub fn encode(&self, group: SocketAddr) -> Vec<u8> {
        let mut out = format!("{HEAD}\r\nHost: {group}\r\nPort: {}\r\n", self.port);
        for id in self.swarm_ids.iter().take(LSD_SWARMS_MAX) {
            let _ = write!(out, "Infohash: {id}\r\n");
        }
        if let Some(cookie) = &self.cookie {
            let _ = write!(out, "cookie: {cookie}\r\n");
        }
        out.push_str("\r\n\r\n");
        out.into_bytes()
    }

    /// Reads a packet. Names of lines are of any case; lines we don't know, and swarms past
    /// [`LSD_SWARMS_MAX`], are ignored.
    ///
    /// # Errors
    /// [`LsdError`].
    pub fn decode(packet: &[u8]) -> Result<Self, LsdError> {
        let text = std::str::from_utf8(packet).map_err(|_| LsdError::Protocol)?;
        let mut lines = text.split("\r\n");
        if lines.next() != Some(HEAD) {
            return Err(LsdError::Protocol);
        }
        let (mut port, mut swarm_ids, mut cookie) = (None, Vec::new(), None);
        for line in lines.take_while(|line| !line.is_empty()) {
            let Some((name, value)) = line.split_once(':') else {
                return Err(LsdError::Protocol);
            };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "port" => {
                    let read = value.parse::<u16>().ok().filter(|port| *port != 0);
                    port = Some(read.ok_or(LsdError::Field("port"))?);
                }
                "infohash" if swarm_ids.len() < LSD_SWARMS_MAX => {
                    let id = value.parse().map_err(|_| LsdError::Field("info hash"))?;
                    swarm_ids.push(id);
                }
                "cookie" => cookie = Some(value.to_owned()),
                _ => {}
            }
        }
        if swarm_ids.is_empty() {
            return Err(LsdError::Field("info hash"));
        }
        Ok(Self {
            port: port.ok_or(LsdError::Field("port"))?,
            swarm_ids,
            cookie,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announces_are_what_bep_14_says() {
        let announce = LsdAnnounce {
            port: 6881,
            swarm_ids: vec![SwarmId::new([1; 20]), SwarmId::new([0xab; 20])],
            cookie: Some("name".into()),
        };
        let text = "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\n\
                    Infohash: 0101010101010101010101010101010101010101\r\n\
                    Infohash: abababababababababababababababababababab\r\n\
                    cookie: name\r\n\r\n\r\n";
        let v4 = announce.encode(LSD_GROUP.into());
        assert_eq!(String::from_utf8(v4).unwrap(), text);
        let v6 = announce.encode(LSD_GROUP_V6.into());
        let host = "Host: [ff15::efc0:988f]:6771\r\n";
        assert!(String::from_utf8(v6.clone()).unwrap().contains(host));
        assert_eq!(LsdAnnounce::decode(&v6), Ok(announce.clone()));
        assert_eq!(LsdAnnounce::decode(text.as_bytes()), Ok(announce.clone()));
        let shouted = text
            .replace("Infohash: abab", "INFOHASH:ABAB")
            .replace("Port", "PORT");
        assert_eq!(LsdAnnounce::decode(shouted.as_bytes()), Ok(announce));
    }

    #[test]
    fn bad_announces_are_refused_and_long_ones_cut() {
        let id = "Infohash: 0101010101010101010101010101010101010101\r\n";
        for (lines, error) in [
            (String::new(), LsdError::Field("info hash")),
            (id.to_owned(), LsdError::Field("port")),
            (format!("Port: 0\r\n{id}"), LsdError::Field("port")),
            (format!("Port: 65536\r\n{id}"), LsdError::Field("port")),
            (
                "Port: 1\r\nInfohash: 01\r\n".into(),
                LsdError::Field("info hash"),
            ),
            (format!("Port: 1\r\nwhat\r\n{id}"), LsdError::Protocol),
        ] {
            let packet = format!("{HEAD}\r\n{lines}\r\n");
            assert_eq!(
                LsdAnnounce::decode(packet.as_bytes()),
                Err(error),
                "{lines}"
            );
        }
        for bad in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"\xff\xfe"] {
            assert_eq!(LsdAnnounce::decode(bad), Err(LsdError::Protocol));
        }
        let flood = format!("{HEAD}\r\nPort: 1\r\n{}\r\n", id.repeat(5000));
        let read = LsdAnnounce::decode(flood.as_bytes()).unwrap();
        assert_eq!(read.swarm_ids.len(), LSD_SWARMS_MAX);
    }

    #[test]
    fn announces_survive_changed_input() {
        let announce = LsdAnnounce {
            port: 6881,
            swarm_ids: vec![SwarmId::new([1; 20]); 2],
            cookie: Some("x".into()),
        };
        let corpus = [announce.encode(LSD_GROUP.into())];
        crate::fuzzing::tests::hammer(&corpus, 14, 20_000, crate::fuzzing::lsd);
    }
}
