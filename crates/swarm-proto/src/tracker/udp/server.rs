//! The tracker's side of the conversation: who may be answered, and with how much.

use std::net::IpAddr;
use std::time::Instant;

use super::{ConnectionToken, Request, Response, TokenMint};
use crate::id::SwarmId;
use crate::limits::UDP_REPLY_LEN_MAX;
use crate::tracker::AnnounceRequest;

/// Token or protocol, action and transaction, as every packet has them.
const OPENING_LEN: usize = 16;

/// Bytes of an announce's answer before its peers.
const ANNOUNCE_HEAD_LEN: usize = 20;

/// Tells packets of askers from packets of forgers. It remembers none of either.
///
/// Whoever has not shown its token gets nothing but one, and that is no longer than its packet
/// was: nobody can be flooded by way of this tracker (T13). Drivers feed each packet to
/// [`hear`](Self::hear), and a seed to [`handle_timeout`](Self::handle_timeout) when
/// [`poll_timeout`](Self::poll_timeout) says so.
#[derive(Debug)]
pub struct UdpServer {
    mint: TokenMint,
}

/// What is to be done about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// To be answered with this.
    Reply(Response),
    /// A peer that is where it says it is announces. It wants no more peers than fit into one
    /// datagram.
    Announce {
        /// For the answer.
        transaction: u32,
        /// What it says.
        announce: AnnounceRequest,
    },
    /// Somebody who is where they say they are asks for figures.
    Scrape {
        /// For the answer.
        transaction: u32,
        /// At least one and at most [`SCRAPE_HASHES_MAX`](crate::limits::SCRAPE_HASHES_MAX).
        swarm_ids: Vec<SwarmId>,
    },
    /// Nothing at all may go back: the sender may be somebody else.
    Ignored(Ignored),
}

/// Why a packet is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// No packet of this protocol.
    Malformed,
    /// A token that this tracker has not made for that address, or has long ago.
    BadToken,
}

impl UdpServer {
    /// A server. `seed` must be unknown to everybody else.
    pub fn new(now: Instant, seed: [u8; 16]) -> Self {
        Self {
            mint: TokenMint::new(now, seed),
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub const fn poll_timeout(&self) -> Instant {
        self.mint.poll_timeout()
    }

    /// Changes the key behind the tokens where it is due. `seed` as for [`new`](Self::new), and
    /// another one.
    pub fn handle_timeout(&mut self, now: Instant, seed: [u8; 16]) {
        self.mint.handle_timeout(now, seed);
    }

    /// Judges a packet that says it comes from `source`.
    pub fn hear(&self, source: IpAddr, packet: &[u8]) -> Heard {
        let source = source.to_canonical();
        let Some((&opening, _)) = packet.split_first_chunk::<OPENING_LEN>() else {
            return Heard::Ignored(Ignored::Malformed);
        };
        let [token @ .., _, _, _, _, t0, t1, t2, t3] = opening;
        let token = ConnectionToken(u64::from_be_bytes(token));
        if !self.mint.knows(source, token) {
            // What a stranger sends is read no further.
            return match Request::decode(&opening) {
                Ok(Request::Connect { transaction }) => Heard::Reply(Response::Connect {
                    transaction,
                    token: self.mint.token(source),
                }),
                _ => Heard::Ignored(Ignored::BadToken),
            };
        }
        match Request::decode(packet) {
            Ok(Request::Announce {
                transaction,
                mut announce,
                ..
            }) => {
                let room = peers_that_fit(source);
                announce.numwant = announce.numwant.map(|wanted| wanted.min(room));
                Heard::Announce {
                    transaction,
                    announce,
                }
            }
            Ok(Request::Scrape {
                transaction,
                swarm_ids,
                ..
            }) => Heard::Scrape {
                transaction,
                swarm_ids,
            },
            Ok(Request::Connect { .. }) => Heard::Ignored(Ignored::Malformed),
            Err(error) => Heard::Reply(Response::Error {
                transaction: u32::from_be_bytes([t0, t1, t2, t3]),
                message: error.to_string(),
            }),
        }
    }
}

/// How many peers of its own family one at `source` can be told of in one datagram.
pub fn peers_that_fit(source: IpAddr) -> u32 {
    let entry = match source.to_canonical() {
        IpAddr::V4(_) => 6,
        IpAddr::V6(_) => 18,
    };
    ((UDP_REPLY_LEN_MAX - ANNOUNCE_HEAD_LEN) / entry) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PeerId;
    use crate::limits::SCRAPE_HASHES_MAX;

    const SEED: [u8; 16] = [7; 16];

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn announce(token: ConnectionToken, numwant: Option<u32>) -> Vec<u8> {
        let mut announce = AnnounceRequest::new(SwarmId::new([1; 20]), PeerId::new([2; 20]), 6881);
        announce.numwant = numwant;
        Request::Announce {
            token,
            transaction: 5,
            announce,
            path: "/announce?x=y".into(),
        }
        .encode()
    }

    fn connect(server: &UdpServer, source: IpAddr) -> ConnectionToken {
        let packet = Request::Connect { transaction: 9 }.encode();
        match server.hear(source, &packet) {
            Heard::Reply(Response::Connect {
                transaction: 9,
                token,
            }) => token,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn t13_strangers_are_sent_no_more_than_they_sent_and_forgers_nothing() {
        let server = UdpServer::new(Instant::now(), SEED);
        let (source, victim) = (ip("192.0.2.1"), ip("192.0.2.9"));
        let token = connect(&server, source);
        let good = announce(token, None);
        let scrape = Request::Scrape {
            token,
            transaction: 5,
            swarm_ids: vec![SwarmId::new([1; 20]); SCRAPE_HASHES_MAX],
        }
        .encode();
        let mut asked = 0_usize;
        let mut sent = 0_usize;
        for packet in [&good, &scrape, &good[..40].to_vec(), &[0; 2048].to_vec()] {
            for len in 0..=packet.len() {
                asked += len;
                if let Heard::Reply(reply) = server.hear(victim, &packet[..len]) {
                    sent += reply.encode().len();
                }
            }
        }
        assert_eq!(sent, 0, "of {asked} bytes with another's token");
        // Only what begins as a connect request is answered, and with no more than it is.
        let connect = Request::Connect { transaction: 1 }.encode();
        let long = [&connect[..], &[0; 100]].concat();
        for len in 0..=long.len() {
            match server.hear(victim, &long[..len]) {
                Heard::Reply(reply) => assert!(len >= 16 && reply.encode().len() <= len),
                other => assert!(matches!(other, Heard::Ignored(_)) && len < 16, "{other:?}"),
            }
        }
    }

    #[test]
    fn who_shows_its_token_is_heard() {
        let server = UdpServer::new(Instant::now(), SEED);
        for source in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"].map(ip) {
            let token = connect(&server, source);
            let heard = server.hear(source, &announce(token, None));
            assert!(
                matches!(&heard, Heard::Announce { transaction: 5, announce } if announce.port == 6881),
                "{heard:?}"
            );
            let packet = Request::Scrape {
                token,
                transaction: 6,
                swarm_ids: vec![SwarmId::new([3; 20])],
            };
            let heard = server.hear(source, &packet.encode());
            assert!(matches!(heard, Heard::Scrape { transaction: 6, .. }));
        }
    }

    #[test]
    fn nobody_is_promised_more_peers_than_a_datagram_holds() {
        let server = UdpServer::new(Instant::now(), SEED);
        for (source, fit) in [("192.0.2.1", 202), ("2001:db8::1", 67)] {
            let source = ip(source);
            let token = connect(&server, source);
            for (wanted, expected) in [(Some(5), Some(5)), (Some(9999), Some(fit)), (None, None)] {
                let heard = server.hear(source, &announce(token, wanted));
                let Heard::Announce { announce, .. } = heard else {
                    panic!("{heard:?}");
                };
                assert_eq!(announce.numwant, expected, "{source} {wanted:?}");
            }
        }
    }

    #[test]
    fn who_shows_its_token_is_told_what_is_wrong() {
        let server = UdpServer::new(Instant::now(), SEED);
        let source = ip("192.0.2.1");
        let good = announce(connect(&server, source), None);
        let changed = |at: usize, byte: u8| {
            let mut packet = good.clone();
            packet[at] = byte;
            packet
        };
        for (packet, expected) in [
            (good[..60].to_vec(), "packet of 60 bytes is cut off"),
            (changed(11, 7), "unknown action 7"),
            (changed(83, 9), "invalid event"),
            ([&good[..98], &[2, 9]].concat(), "invalid option"),
        ] {
            let Heard::Reply(Response::Error {
                transaction,
                message,
            }) = server.hear(source, &packet)
            else {
                panic!("{expected}");
            };
            assert_eq!((transaction, message.as_str()), (5, expected));
        }
        // A token is no way to open a conversation.
        assert_eq!(
            server.hear(source, &changed(11, 0)),
            Heard::Reply(Response::Error {
                transaction: 5,
                message: "not the UDP tracker protocol".into()
            })
        );
    }

    #[test]
    fn packets_survive_changed_input() {
        let now = Instant::now();
        let server = UdpServer::new(now, [0x5a; 16]);
        let token = connect(&server, ip("192.0.2.1"));
        let scrape = Request::Scrape {
            token,
            transaction: 5,
            swarm_ids: vec![SwarmId::new([1; 20]); 2],
        };
        let corpus = [
            Request::Connect { transaction: 1 }.encode(),
            announce(token, Some(5)),
            announce(ConnectionToken(3), None),
            scrape.encode(),
        ];
        crate::fuzzing::tests::hammer(&corpus, 15, 30_000, |data| {
            crate::fuzzing::udp_server(now, data)
        });
    }
}
