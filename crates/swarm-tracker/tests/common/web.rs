//! A peer that speaks WebSocket, one that means it and one that doesn't.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::tracker::ws::{Announce, Answer, Offer, Request};
use tokio_tungstenite::tungstenite::client::client;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocket};

use super::{connect, read_reply};

/// Longer than any answer takes, shorter than patience.
const SOON: Duration = Duration::from_secs(10);

/// Bytes as WebTorrent writes them.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// One peer on a socket of its own.
pub(crate) struct WebPeer {
    pub(crate) id: PeerId,
    socket: WebSocket<TcpStream>,
}

impl WebPeer {
    pub(crate) fn connect(addr: SocketAddr, n: u8) -> Self {
        Self::connect_to(addr, "/announce", n)
    }

    pub(crate) fn connect_to(addr: SocketAddr, path: &str, n: u8) -> Self {
        let url = format!("ws://{addr}{path}");
        let (socket, _) = client(url, connect(addr)).expect("a socket");
        Self {
            id: PeerId::new([n; 20]),
            socket,
        }
    }

    pub(crate) fn say(&mut self, request: &Request) {
        self.say_text(&request.encode());
    }

    pub(crate) fn say_text(&mut self, text: &str) {
        let sent = self.socket.send(Message::text(text));
        sent.expect("it takes messages");
    }

    /// As above, of a tracker that may have closed already.
    pub(crate) fn try_say(&mut self, text: &str) -> bool {
        self.socket.send(Message::text(text)).is_ok()
    }

    fn next(&mut self, wait: Duration) -> Result<Message, Error> {
        let stream = self.socket.get_ref();
        stream.set_read_timeout(Some(wait)).expect("settable");
        self.socket.read()
    }

    /// The next message that is no ping.
    pub(crate) fn hear(&mut self) -> Value {
        loop {
            match self.next(SOON).expect("a message") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Whether nothing but pings comes in this time.
    pub(crate) fn hears_nothing_for(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            match self.next(left.max(Duration::from_millis(1))) {
                Ok(Message::Ping(_)) => {}
                Ok(_) => return false,
                Err(Error::Io(error)) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads until the tracker closes; the code it gives, if it gives one.
    pub(crate) fn closed(&mut self) -> Option<CloseCode> {
        let until = Instant::now() + SOON;
        let mut code = None;
        loop {
            match self.next(SOON) {
                Ok(Message::Close(frame)) => code = frame.map(|frame| frame.code),
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("not closed in {SOON:?}");
                }
                Err(_) => return code,
            }
            assert!(Instant::now() < until, "not closed in {SOON:?}");
        }
    }

    pub(crate) fn announce(&self, swarm: SwarmId, left: u64, offers: u8) -> Announce {
        let offers = (0..offers).map(|n| Offer {
            id: [n; 20],
            sdp: format!("offer {n}\r\n"),
        });
        Announce {
            left: Some(left),
            offers: offers.collect(),
            ..Announce::new(swarm, self.id)
        }
    }

    /// Announces and returns what comes back.
    pub(crate) fn join(&mut self, swarm: SwarmId, left: u64, offers: u8) -> Value {
        let announce = self.announce(swarm, left, offers);
        self.say(&Request::Announce(announce));
        self.hear()
    }

    /// Answers an offer as it came.
    pub(crate) fn answer(&mut self, swarm: SwarmId, offer: &Value) {
        let bytes = |key: &str| -> [u8; 20] {
            let text = offer[key].as_str().expect("text");
            let bytes: Vec<u8> = text.chars().map(|c| c as u8).collect();
            bytes.try_into().expect("20 bytes")
        };
        self.say(&Request::Answer(Answer {
            swarm_id: swarm,
            peer_id: self.id,
            to_peer_id: bytes("peer_id").into(),
            offer_id: bytes("offer_id"),
            sdp: "an answer".into(),
        }));
    }
}

/// A socket that is written to frame by frame, byte by byte.
pub(crate) struct RawSocket(pub(crate) TcpStream);

pub(crate) const TEXT: u8 = 1;
pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const PING: u8 = 9;

impl RawSocket {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let mut stream = connect(addr);
        let request = "GET / HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("it listens");
        let reply = read_reply(&mut stream).expect("an answer");
        assert_eq!(reply.status, 101, "{reply:?}");
        let expected = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        assert_eq!(reply.header("sec-websocket-accept"), expected);
        Self(stream)
    }

    /// The head of a frame, masked with zeros.
    pub(crate) fn head(last: bool, opcode: u8, len: u64) -> Vec<u8> {
        let mut head = vec![u8::from(last) << 7 | opcode];
        match len {
            0..=125 => head.push(0x80 | len as u8),
            126..=0xffff => {
                head.push(0x80 | 126);
                head.extend((len as u16).to_be_bytes());
            }
            _ => {
                head.push(0x80 | 127);
                head.extend(len.to_be_bytes());
            }
        }
        head.extend([0; 4]);
        head
    }

    /// Sends a frame; `false`: the tracker has closed.
    pub(crate) fn send(&mut self, last: bool, opcode: u8, payload: &[u8]) -> bool {
        let head = Self::head(last, opcode, payload.len() as u64);
        self.0.write_all(&[&head, payload].concat()).is_ok()
    }

    /// Reads to the end; `false`: none came in time.
    pub(crate) fn ends_within(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut buf = [0; 65536];
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let left = left.max(Duration::from_millis(1));
            self.0.set_read_timeout(Some(left)).expect("settable");
            match self.0.read(&mut buf) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return true,
            }
        }
        false
    }
}
