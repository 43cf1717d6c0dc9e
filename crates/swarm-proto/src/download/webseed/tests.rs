use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::*;
use crate::bitfield::Bitfield;
use crate::download::{DownloadConfig, PeerInfo, Source, WebFetch};
use crate::id::PeerId;
use crate::metainfo::{FileHasher, Metainfo, MetainfoBuilder};
use crate::session::{Command, PieceSet, SessionEvent};
use crate::verify::verify;
use crate::wire::ReservedBits;

mod answers;
mod crowd;
mod faults;
mod urls;

const PIECE: u32 = 32_768;

/// Files of these lengths, their bytes told by place and file, hybrid with padding.
fn torrent(lens: &[usize]) -> (Arc<Metainfo>, HashMap<String, Vec<u8>>) {
    let mut builder = MetainfoBuilder::new("a site", PIECE);
    let mut files = HashMap::new();
    for (n, len) in lens.iter().enumerate() {
        let bytes: Vec<u8> = (0..*len).map(|at| (at / 7 + n * 31) as u8).collect();
        let mut hasher = FileHasher::new(PIECE);
        hasher.update(&bytes);
        builder.file(vec!["dir".into(), format!("f {n}")], hasher.finish());
        files.insert(format!("a%20site/dir/f%20{n}"), bytes);
    }
    (Arc::new(builder.build().unwrap()), files)
}

/// A download and the servers of its web seeds.
struct Stage {
    download: Download,
    now: Instant,
    meta: Arc<Metainfo>,
    files: HashMap<String, Vec<u8>>,
    /// Requests under way, in the order in which they were made.
    open: Vec<WebFetch>,
    /// All that were ever made.
    made: Vec<WebFetch>,
    stopped: usize,
    banned: Vec<String>,
    banned_peers: Vec<SocketAddr>,
    /// Pieces that wait to be verified.
    claims: Vec<crate::verify::AssembledPiece>,
    commands: Vec<(ConnectionId, Command)>,
}

impl Stage {
    fn new(lens: &[usize]) -> Self {
        let (meta, files) = torrent(lens);
        let config = DownloadConfig {
            peer_id: Some(PeerId::new([9; 20])),
            ..DownloadConfig::default()
        };
        let have = Bitfield::none_of(meta.geometry());
        let source = Source::Metainfo(Arc::clone(&meta));
        Self {
            download: Download::new(source, have, config, 7),
            now: Instant::now(),
            meta,
            files,
            open: Vec::new(),
            made: Vec::new(),
            stopped: 0,
            banned: Vec::new(),
            banned_peers: Vec::new(),
            claims: Vec::new(),
            commands: Vec::new(),
        }
    }

    fn seed(&mut self, conn: u64, url: &str) {
        let taken = self
            .download
            .web_seed_joined(self.now, ConnectionId(conn), url.to_owned());
        assert!(taken, "{url}");
        self.act();
    }

    /// Does what the download wants, pieces apart.
    fn act(&mut self) {
        while let Some(action) = self.download.poll_action() {
            match action {
                Action::FetchRange(fetch) => {
                    assert!(!fetch.range.is_empty() && fetch.range.len() <= RANGE_LEN_MAX);
                    self.open.push(fetch.clone());
                    self.made.push(fetch);
                }
                Action::StopFetch(_, request) => {
                    self.stopped += 1;
                    self.open.retain(|fetch| fetch.request != request);
                }
                Action::BanWebSeed { url, .. } => self.banned.push(url),
                Action::Ban { addr, .. } => self.banned_peers.push(addr),
                Action::Verify(claim) => self.claims.push(claim),
                Action::Command(conn, command) => self.commands.push((conn, command)),
                _ => {}
            }
        }
        for seed in self.download.web.seeds.values() {
            assert!(seed.requests.len() <= REQUESTS_MAX);
        }
    }

    /// Verifies what is whole.
    fn verify(&mut self) {
        while let Some(claim) = self.claims.pop() {
            let piece = claim.piece;
            match verify(&self.meta, claim) {
                Ok(_) => self.download.piece_verified(self.now, piece),
                Err(error) => self.download.piece_failed(self.now, &error),
            }
            self.act();
        }
    }

    fn body(&self, fetch: &WebFetch) -> Vec<u8> {
        let path = fetch.url.splitn(4, '/').nth(3).unwrap();
        let file = &self.files[path];
        assert_eq!(file.len() as u64, fetch.range.file_len, "{path}");
        file[fetch.range.start as usize..fetch.range.end as usize].to_vec()
    }

    /// Answers the oldest request, in chunks of that many bytes, after `twist`.
    fn answer(&mut self, chunk: usize, twist: impl Fn(&WebFetch, &mut Vec<u8>)) -> bool {
        if self.open.is_empty() {
            return false;
        }
        let fetch = self.open.remove(0);
        let mut body = self.body(&fetch);
        twist(&fetch, &mut body);
        for part in body.chunks(chunk) {
            let part = Bytes::copy_from_slice(part);
            self.download
                .web_bytes(self.now, fetch.seed, fetch.request, part);
        }
        self.download
            .web_ended(self.now, fetch.seed, fetch.request, Ok(()));
        self.act();
        true
    }

    fn fail(&mut self, failure: WebFailure) {
        let fetch = self.open.remove(0);
        self.download
            .web_ended(self.now, fetch.seed, fetch.request, Err(failure));
        self.act();
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += Duration::from_millis(500);
            self.download.handle_timeout(self.now);
            self.act();
        }
    }

    fn run(&mut self) {
        while self.answer(10_000, |_, _| {}) {
            self.verify();
        }
    }

    /// A peer that has those pieces and lets us ask.
    fn peer(&mut self, conn: u64, has: PieceSet) {
        let id = ConnectionId(conn);
        let info = PeerInfo {
            addr: SocketAddr::from(([198, 51, 100, conn as u8], 6881)),
            outgoing: true,
        };
        self.download.peer_joined(self.now, id, info);
        for event in [
            SessionEvent::Established {
                peer_id: PeerId::new([conn as u8; 20]),
                swarm_id: self.meta.swarm_ids()[0],
                reserved: ReservedBits::OURS,
            },
            SessionEvent::PeerHas(has),
            SessionEvent::Choked(false),
        ] {
            self.download.handle_event(self.now, id, event);
        }
        self.act();
    }
}
