//! Strangers that lie: a seed that alters one block, a tracker that answers rubbish.
//!
//! They speak from hand-written bytes, so that a mistake in our own wire code can't hide here.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A seed that answers every request, and in one place with a flipped bit.
pub struct LyingSeed {
    /// Where it listens.
    pub addr: SocketAddr,
    lies: Arc<AtomicUsize>,
}

impl LyingSeed {
    /// Serves `space` (the bytes of all pieces in order, padding included) in pieces of
    /// `piece_length` under `info_hash`; requests that cover `lie_at` get a wrong bit there.
    pub fn start(info_hash: [u8; 20], piece_length: u32, space: Vec<u8>, lie_at: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        let lies = Arc::new(AtomicUsize::new(0));
        let seed = Seed {
            info_hash,
            piece_length,
            space,
            lie_at,
            lies: Arc::clone(&lies),
        };
        let seed = Arc::new(seed);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seed = Arc::clone(&seed);
                // A leech that hangs up ends its thread; that is no failure of the test.
                std::thread::spawn(move || drop(seed.serve(stream)));
            }
        });
        Self { addr, lies }
    }

    /// How many altered blocks it has handed out.
    pub fn lies(&self) -> usize {
        self.lies.load(Ordering::SeqCst)
    }
}

struct Seed {
    info_hash: [u8; 20],
    piece_length: u32,
    space: Vec<u8>,
    lie_at: usize,
    lies: Arc<AtomicUsize>,
}

impl Seed {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut theirs = [0; 68];
        stream.read_exact(&mut theirs)?;
        let mut ours = vec![19];
        ours.extend_from_slice(b"BitTorrent protocol");
        ours.extend_from_slice(&[0; 8]);
        ours.extend_from_slice(&self.info_hash);
        ours.extend_from_slice(b"-LI0001-liarliarliar");
        stream.write_all(&ours)?;
        let pieces = self.space.len().div_ceil(self.piece_length as usize);
        let mut bits = vec![0_u8; pieces.div_ceil(8)];
        for piece in 0..pieces {
            bits[piece / 8] |= 0x80 >> (piece % 8);
        }
        message(&mut stream, 5, &bits)?;
        message(&mut stream, 1, &[])?;
        loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let mut body = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut body)?;
            if body.first() == Some(&6) && body.len() == 13 {
                self.answer(&mut stream, &body[1..])?;
            }
        }
    }

    fn answer(&self, stream: &mut TcpStream, request: &[u8]) -> std::io::Result<()> {
        let word = |at: usize| {
            u32::from_be_bytes(request[at..at + 4].try_into().expect("four bytes")) as usize
        };
        let start = word(0) * self.piece_length as usize + word(4);
        let mut block = self.space[start..start + word(8)].to_vec();
        if let Some(at) = self
            .lie_at
            .checked_sub(start)
            .filter(|at| *at < block.len())
        {
            block[at] ^= 1;
            self.lies.fetch_add(1, Ordering::SeqCst);
        }
        let mut body = request[..8].to_vec();
        body.append(&mut block);
        message(stream, 7, &body)
    }
}

fn message(stream: &mut TcpStream, id: u8, body: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(body.len() + 1).expect("a block fits");
    stream.write_all(&[&length.to_be_bytes()[..], &[id], body].concat())
}

/// A server that answers whatever it is asked with these bytes, and closes.
pub fn parrot(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let addr = listener
        .local_addr()
        .expect("a bound socket has an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            // Whoever leaves before the answer does not want it.
            let _ = stream.read(&mut request);
            let _ = stream.write_all(&answer);
        }
    });
    addr
}
