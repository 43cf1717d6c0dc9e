//! A leech of hand-written bytes that asks for what it likes and keeps what comes.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A connection to a seed.
pub struct RawLeech {
    stream: TcpStream,
    wanted: Vec<[u32; 3]>,
    under_way: usize,
    heard: Vec<u8>,
    unchoked: bool,
}

/// Requests that wait for an answer at a time.
const UNDER_WAY_MAX: usize = 32;

impl RawLeech {
    /// Shakes hands and says that it is interested.
    ///
    /// # Errors
    /// The peer hangs up.
    pub fn start(mut stream: TcpStream, info_hash: [u8; 20]) -> std::io::Result<Self> {
        let mut hello = vec![19];
        hello.extend_from_slice(b"BitTorrent protocol");
        // The fast extension, so that a refusal is said.
        hello.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 4]);
        hello.extend_from_slice(&info_hash);
        let port = stream.local_addr()?.port();
        hello.extend_from_slice(format!("-RL0001-{port:012}").as_bytes());
        // Have none, interested.
        hello.extend_from_slice(&[0, 0, 0, 1, 15, 0, 0, 0, 1, 2]);
        stream.write_all(&hello)?;
        stream.read_exact(&mut [0; 68])?;
        Ok(Self {
            stream,
            wanted: Vec::new(),
            under_way: 0,
            heard: Vec::new(),
            unchoked: false,
        })
    }

    /// Wants this block.
    pub fn ask(&mut self, piece: u32, begin: u32, len: u32) {
        self.wanted.push([piece, begin, len]);
    }

    /// The next block that comes; none when none is left, when none comes for so long, or when the
    /// peer has hung up. Blocks that are refused are passed over.
    pub fn next_block(&mut self, patience: Duration) -> Option<(u32, u32, Vec<u8>)> {
        self.stream.set_read_timeout(Some(patience)).ok()?;
        loop {
            while self.unchoked && self.under_way < UNDER_WAY_MAX {
                let Some(block) = self.wanted.pop() else {
                    break;
                };
                let body: Vec<u8> = block.iter().flat_map(|word| word.to_be_bytes()).collect();
                let message = [&[0, 0, 0, 13, 6], &body[..]].concat();
                self.stream.write_all(&message).ok()?;
                self.under_way += 1;
            }
            if self.unchoked && self.under_way == 0 {
                return None;
            }
            let message = self.message()?;
            let word = |at: usize| {
                let bytes = message
                    .get(at..at + 4)
                    .and_then(|bytes| bytes.try_into().ok());
                bytes.map_or(u32::MAX, u32::from_be_bytes)
            };
            match message.first() {
                Some(1) => self.unchoked = true,
                Some(0) => self.unchoked = false,
                Some(16) => self.under_way = self.under_way.saturating_sub(1),
                Some(7) if message.len() > 9 => {
                    self.under_way = self.under_way.saturating_sub(1);
                    return Some((word(1), word(5), message[9..].to_vec()));
                }
                _ => {}
            }
        }
    }

    fn message(&mut self) -> Option<Vec<u8>> {
        let mut part = vec![0; 65_536];
        loop {
            if let Some(head) = self.heard.first_chunk::<4>() {
                let end = 4 + u32::from_be_bytes(*head) as usize;
                if self.heard.len() >= end {
                    let rest = self.heard.split_off(end);
                    let message = std::mem::replace(&mut self.heard, rest);
                    return Some(message[4..].to_vec());
                }
            }
            match self.stream.read(&mut part) {
                Ok(0) => return None,
                Ok(len) => self.heard.extend_from_slice(&part[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}
