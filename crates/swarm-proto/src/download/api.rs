//! What a download takes and gives: its configuration, what is wanted, and actions.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::super_seed::SuperSeed;
use super::webseed::{WebFetch, WebRequestId};
use crate::geometry::{BlockRange, ByteRange, PieceIndex};
use crate::id::PeerId;
use crate::metainfo::{Metainfo, MetainfoError};
use crate::session::{CloseReason, Command, ConnectionId};
use crate::verify::{AssembledPiece, VerifiedBlock};

/// How a download behaves.
#[derive(Debug, Clone)]
pub struct DownloadConfig {
    /// Peers that are served at a time. Default 8; more divide a full uplink into thinner streams.
    pub upload_slots: usize,
    /// The same of a seed while more make better use of its line. Default 100; no more than
    /// `upload_slots`: never.
    pub upload_slots_max: usize,
    /// How often the slots are given anew. Default 10 s.
    pub rechoke: Duration,
    /// Blocks asked of a peer whose rate is not known. Default 4.
    pub depth_min: usize,
    /// Blocks asked of any peer at most. Default 128; more make the tail and a seek slower.
    pub depth_max: usize,
    /// Seconds of a peer's measured rate that are asked for ahead. Default 0.5: a round trip,
    /// and no more, lest peers of one seed commit to the same blocks of it.
    pub depth_secs: f64,
    /// Bytes of pieces under way or waiting to be verified. Default 5 MiB, or four pieces if that
    /// is more.
    pub pending_bytes_max: u64,
    /// What we call ourselves; decides which connection to keep when two call each other.
    /// Default: unknown, the older one is kept.
    pub peer_id: Option<PeerId>,
    /// Bytes a second that a crowd with a source must bring for web seeds to be left alone. Default
    /// 128 KiB; less spares the servers more and lets a slow swarm be slow.
    pub web_seed_floor: f64,
    /// Connections at a time; past that, a network (a /16, a /32 of IPv6) that holds more than its
    /// share makes room for others. Default 400: more gain a swarm nothing.
    pub peers_max: usize,
    /// Whether leeches that don't heed suggestions see our pieces one by one while we are the only
    /// seed. Default: while it helps.
    pub super_seed: SuperSeed,
    /// Serve only: nothing is ever asked for. Default false.
    pub seed_only: bool,
}

impl Default for DownloadConfig {
    fn default() -> Self {
        Self {
            upload_slots: 8,
            upload_slots_max: 100,
            rechoke: Duration::from_secs(10),
            depth_min: 4,
            depth_max: 128,
            depth_secs: 0.5,
            pending_bytes_max: 5 * 1024 * 1024,
            peer_id: None,
            web_seed_floor: 128.0 * 1024.0,
            peers_max: 400,
            super_seed: SuperSeed::default(),
            seed_only: false,
        }
    }
}

/// Where a connection leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerInfo {
    /// The other end.
    pub addr: SocketAddr,
    /// Whether we called.
    pub outgoing: bool,
}

/// What is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Want {
    /// Everything.
    #[default]
    All,
    /// The pieces that hold these bytes of the content.
    Ranges(Vec<ByteRange>),
    /// Nothing; deadlines are still served.
    None,
}

impl Want {
    /// What a magnet link asks to be fetched (BEP 53): the files whose numbers in
    /// [`Metainfo::files`] are in one of the ranges, or everything where there is no range. Numbers
    /// of files that don't exist are ignored, and so is padding.
    pub fn selected(meta: &Metainfo, ranges: &[RangeInclusive<u32>]) -> Self {
        if ranges.is_empty() {
            return Self::All;
        }
        let named = |index: u32| ranges.iter().any(|range| range.contains(&index));
        let files = (0_u32..).zip(meta.files());
        let files = files.filter(|(index, file)| !file.pad && named(*index));
        Self::Ranges(files.map(|(_, file)| file.range()).collect())
    }
}

/// What the driver is to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Action {
    /// Hand a command to a session.
    Command(ConnectionId, Command),
    /// Verify a piece; then store it and call
    /// [`piece_verified`](super::Download::piece_verified), or call
    /// [`piece_failed`](super::Download::piece_failed).
    Verify(AssembledPiece),
    /// Read the block from the store and answer the session with
    /// [`Command::SendBlock`], or [`Command::RejectRequest`] if it can't be read. Bytes of pad
    /// files are zeros.
    ReadBlock {
        /// Whose session asks.
        conn: ConnectionId,
        /// What it asks for.
        range: BlockRange,
    },
    /// Read the piece from the store and hash its blocks of data
    /// ([`merkle::leaves`](crate::merkle::leaves)) away from the network threads; then call
    /// [`leaves_hashed`](super::Download::leaves_hashed). One at a time.
    HashLeaves(PieceIndex),
    /// A block of a piece that a reader waits for (it has a deadline) is true, and may be handed to
    /// the reader before its piece is whole. It comes at most once, and again as part of its piece.
    BlockVerified(VerifiedBlock),
    /// The metadata that a magnet link named is here. Make the store and call
    /// [`metadata`](super::Download::metadata).
    Metadata(Box<Metainfo>),
    /// The metadata is here and right, but describes no torrent that we take. Nothing more will
    /// come of this download.
    UnusableMetadata(MetainfoError),
    /// End the connection: close its session, then call
    /// [`peer_left`](super::Download::peer_left).
    Close(ConnectionId, CloseReason),
    /// The peer lied. Don't call it or accept it again; see
    /// [`is_banned`](super::Download::is_banned).
    Ban {
        /// Where it was.
        addr: SocketAddr,
        /// What it called itself.
        peer_id: Option<PeerId>,
        /// What it did.
        reason: String,
    },
    /// Make a ranged GET: hand what comes to [`web_bytes`](super::Download::web_bytes), and its
    /// end to [`web_ended`](super::Download::web_ended).
    FetchRange(WebFetch),
    /// Break the request off: nothing more of it is wanted.
    StopFetch(ConnectionId, WebRequestId),
    /// The web seed lied, and is asked no more.
    BanWebSeed {
        /// Which one.
        seed: ConnectionId,
        /// Its URL, without the query.
        url: String,
        /// What it did.
        reason: String,
    },
    /// Call this address by uTP now: it calls us at the same time (BEP 55). A stranger named it.
    Punch(SocketAddr),
    /// Every piece is had.
    Completed,
}

/// Figures of one peer, for people and machines to look at.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct PeerStats {
    /// Bytes a second of blocks that come from it, over the last seconds.
    pub down_rate: f64,
    /// Bytes a second of blocks that go to it, over the last seconds.
    pub up_rate: f64,
    /// Pieces it has; 0 while it has not said.
    pub have: u32,
    /// It has every piece.
    pub seed: bool,
    /// We refuse its requests.
    pub we_choke: bool,
    /// It refuses ours.
    pub chokes_us: bool,
    /// We want pieces of it.
    pub we_want: bool,
    /// It wants pieces of us.
    pub wants: bool,
    /// Blocks it was asked for and owes.
    pub asked: usize,
    /// A request timed out, and nothing came since.
    pub snubs: bool,
}

/// Figures of a download, for people and machines to look at.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct DownloadStats {
    /// Peers whose handshake is through.
    pub peers: usize,
    /// Those that have every piece.
    pub seeds: usize,
    /// Peers that may ask us.
    pub unchoked: usize,
    /// Pieces had.
    pub have: u32,
    /// Pieces of the torrent; zero while the metadata is not known.
    pub pieces: u32,
    /// Bytes of blocks that came, wasted ones included.
    pub downloaded: u64,
    /// Bytes of blocks that were handed out to be sent.
    pub uploaded: u64,
    /// Bytes of blocks that came for nothing: false, or twice.
    pub wasted: u64,
    /// Bytes a second that come, over the last seconds.
    pub down_rate: f64,
    /// Bytes a second that go, over the last seconds.
    pub up_rate: f64,
    /// Peers and web seeds banned.
    pub banned: usize,
    /// Web seeds that may be asked.
    pub web_seeds: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_wants_the_files_that_it_selects() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/metainfo/");
        let torrents = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut seen = 0;
        for torrent in torrents.filter(|path| path.extension().is_some_and(|e| e == "torrent")) {
            let Ok(meta) = Metainfo::parse(&std::fs::read(torrent).unwrap()) else {
                continue;
            };
            assert_eq!(Want::selected(&meta, &[]), Want::All);
            let first = meta.files().first().unwrap();
            let expected = if first.pad {
                vec![]
            } else {
                vec![first.range()]
            };
            assert_eq!(
                Want::selected(&meta, &[0..=0, u32::MAX..=u32::MAX]),
                Want::Ranges(expected)
            );
            seen += 1;
        }
        assert!(seen > 0, "no torrent to try");
    }
}
