//! An honest seed that speaks BEP 3 from hand-written bytes, as slowly as it is told to, and
//! writes down what it was asked for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A running seed; it ends with the test's process, or when it is told to hang up.
pub struct Recorder {
    /// Where it listens.
    pub addr: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    /// Tells its peer id from others'.
    port: u16,
    info_hash: [u8; 20],
    piece_length: usize,
    space: Vec<u8>,
    bytes_per_second: f64,
    asked: Mutex<Vec<u32>>,
    /// Blocks that may still be sent before it leaves for good.
    blocks_left: AtomicUsize,
}

impl Recorder {
    /// Serves `space` (the bytes of all pieces in order, padding included), each connection at
    /// this rate.
    pub fn start(
        info_hash: [u8; 20],
        piece_length: u32,
        space: Vec<u8>,
        bytes_per_second: f64,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let addr = listener.local_addr().expect("a bound socket has one");
        let inner = Arc::new(Inner {
            port: addr.port(),
            info_hash,
            piece_length: piece_length as usize,
            space,
            bytes_per_second,
            asked: Mutex::default(),
            blocks_left: AtomicUsize::new(usize::MAX),
        });
        let seed = Arc::clone(&inner);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if seed.blocks_left.load(Ordering::SeqCst) == 0 {
                    return;
                }
                let seed = Arc::clone(&seed);
                // A leech that hangs up ends its thread; that is no failure of the test.
                std::thread::spawn(move || drop(seed.talk(stream, false)));
            }
        });
        Self { addr, inner }
    }

    /// The pieces asked for since this was last called, once for each request.
    pub fn take_asked(&self) -> Vec<u32> {
        std::mem::take(&mut *self.inner.asked.lock().expect("no holder panics"))
    }

    /// Calls a leech instead of waiting for its call.
    pub fn call(&self, leech: SocketAddr) {
        let seed = Arc::clone(&self.inner);
        std::thread::spawn(move || {
            let stream = TcpStream::connect(leech)?;
            seed.talk(stream, true)
        });
    }

    /// After so many more blocks it closes in the middle of the next, and is gone.
    pub fn leave_after(&self, blocks: usize) {
        self.inner.blocks_left.store(blocks, Ordering::SeqCst);
    }
}

impl Inner {
    fn talk(&self, mut stream: TcpStream, first: bool) -> std::io::Result<()> {
        if !first {
            stream.read_exact(&mut [0; 68])?;
        }
        let mut hello = vec![19];
        hello.extend_from_slice(b"BitTorrent protocol");
        hello.extend_from_slice(&[0; 8]);
        hello.extend_from_slice(&self.info_hash);
        hello.extend_from_slice(format!("-RE0001-{:012}", self.port).as_bytes());
        stream.write_all(&hello)?;
        if first {
            stream.read_exact(&mut [0; 68])?;
        }
        let pieces = self.space.len().div_ceil(self.piece_length);
        let mut bits = vec![0_u8; pieces.div_ceil(8)];
        for piece in 0..pieces {
            bits[piece / 8] |= 0x80 >> (piece % 8);
        }
        message(&mut stream, 5, &bits)?;
        message(&mut stream, 1, &[])?;
        let mut due = Instant::now();
        loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let mut body = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut body)?;
            if body.first() != Some(&6) || body.len() != 13 {
                continue;
            }
            let word = |at: usize| {
                u32::from_be_bytes(body[at..at + 4].try_into().expect("four bytes")) as usize
            };
            let (piece, begin, len) = (word(1), word(5), word(9));
            let mut asked = self.asked.lock().expect("no holder panics");
            asked.push(u32::try_from(piece).expect("it was one"));
            drop(asked);
            let start = piece * self.piece_length + begin;
            let answer = [&body[1..9], &self.space[start..start + len]].concat();
            let left = self
                .blocks_left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| match left {
                    usize::MAX => Some(left),
                    left => left.checked_sub(1),
                });
            if left.is_err() {
                let length = u32::try_from(answer.len() + 1).expect("a block fits");
                let whole = [&length.to_be_bytes()[..], &[7], &answer].concat();
                return stream.write_all(&whole[..whole.len() / 2]);
            }
            due = due.max(Instant::now());
            if self.bytes_per_second < 1000.0 {
                self.drip(&mut stream, &answer)?;
            } else {
                message(&mut stream, 7, &answer)?;
                due += Duration::from_secs_f64(len as f64 / self.bytes_per_second);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
    }

    /// Byte for byte.
    fn drip(&self, stream: &mut TcpStream, answer: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(answer.len() + 1).expect("a block fits");
        for byte in [&length.to_be_bytes()[..], &[7], answer].concat() {
            stream.write_all(&[byte])?;
            std::thread::sleep(Duration::from_secs_f64(1.0 / self.bytes_per_second));
        }
        Ok(())
    }
}

fn message(stream: &mut TcpStream, id: u8, body: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(body.len() + 1).expect("a block fits");
    stream.write_all(&[&length.to_be_bytes()[..], &[id], body].concat())
}
