//! Super-seeding (BEP 16): for the first copy, leeches of other kinds see our pieces one by one.
//!
//! Leeches of ours heed suggestions and see everything. Others take what they like, and together
//! mostly the same; so while pieces are nowhere but here they are shown one piece after the other,
//! out of the same hand-out. Unlike BEP 16 asks, the next piece doesn't wait for the last to show
//! elsewhere: whoever passes pieces on gets more, but a slot and an uplink with room go to whoever
//! is there. In the end, or when it helps nobody, everything is shown.

use std::str::FromStr;
use std::time::{Duration, Instant};

use super::Download;
use super::peers::Peer;
use super::takers::Taking;
use crate::bitfield::Bitfield;
use crate::id::PeerId;
use crate::session::{Command, ConnectionId};

/// A leech that the others left alone for so long is shown everything.
const ALONE_FOR: Duration = Duration::from_secs(2);
/// A leech that no piece was shown to for so long is shown one, so that it can queue for a slot.
const FIRST_WITHIN: Duration = Duration::from_secs(1);
/// A leech that is not interested in what it was shown for so long is shown everything: it wants
/// some files only.
const TEMPTED_WITHIN: Duration = Duration::from_secs(5);
/// A leech with a slot that asks for nothing of what it was shown for so long is shown everything:
/// its client looks too seldom.
const ASKS_WITHIN: Duration = Duration::from_secs(3);
/// A seed that was seen is taken to come back within this time.
const SEED_COMES_BACK: Duration = Duration::from_secs(600);
/// What peer ids of ours begin with.
const OUR_PREFIX: &[u8] = b"-SK";
/// What our client calls itself, up to the version.
const OUR_NAME: &str = "Spikeswarm";

/// Whether leeches that don't heed suggestions see the pieces of a seed one by one (BEP 16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SuperSeed {
    /// While no other seed is known, pieces without a second copy exist, and several leeches are
    /// there.
    #[default]
    Auto,
    /// Never: everybody sees everything.
    Never,
    /// Until each piece has been handed out, whoever else is there.
    Always,
}

/// No name of a [`SuperSeed`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of auto, never and always")]
pub struct NoSuchSuperSeed(String);

impl FromStr for SuperSeed {
    type Err = NoSuchSuperSeed;

    fn from_str(name: &str) -> Result<Self, NoSuchSuperSeed> {
        match name {
            "auto" => Ok(Self::Auto),
            "never" => Ok(Self::Never),
            "always" => Ok(Self::Always),
            _ => Err(NoSuchSuperSeed(name.to_owned())),
        }
    }
}

impl std::fmt::Display for SuperSeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Never => "never",
            Self::Always => "always",
        })
    }
}

/// What a peer sees of a seed that shows its pieces one by one.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) pieces: Bitfield,
    /// When the last piece was shown.
    pub(super) at: Option<Instant>,
}

impl Download {
    /// Whether newcomers are to say who they are before they see what we have.
    pub(super) fn may_hide(&self, now: Instant) -> bool {
        let wanted = match self.config.super_seed {
            SuperSeed::Never => false,
            SuperSeed::Auto => !self.knows_seed(now),
            SuperSeed::Always => true,
        };
        wanted && self.is_complete() && self.picker.has_unseen()
    }

    /// Whether nobody is there whom this peer could pass pieces on to. Who comes first sees
    /// everything: some clients look at pieces that are shown to them later only every ten seconds.
    fn is_alone(&self, conn: ConnectionId) -> bool {
        let another = |(other, peer): (&ConnectionId, &Peer)| *other != conn && !peer.is_seed();
        self.config.super_seed == SuperSeed::Auto && !self.peers.iter().any(another)
    }

    fn knows_seed(&self, now: Instant) -> bool {
        self.seed_left_at
            .is_some_and(|at| now < at + SEED_COMES_BACK)
            || self.peers.values().any(Peer::is_seed)
    }

    /// Tells a peer whose id is known what we have, or that it will see.
    pub(super) fn show_pieces(&mut self, now: Instant, conn: ConnectionId) {
        let hides = self.may_hide(now) && !self.is_alone(conn);
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        peer.told = true;
        if hides
            && !peer
                .peer_id
                .is_some_and(|id| is_ours(id, self.config.peer_id))
        {
            let pieces = Bitfield::none(self.have.len());
            peer.shown = Some(Shown {
                pieces: pieces.clone(),
                at: None,
            });
            // It may have been told when there was another seed.
            self.command(conn, Command::UploadOnly(false));
            return self.command(conn, Command::Bitfield(pieces));
        }
        // That we have everything says it as well, and some clients mistake a second extended
        // handshake.
        if !self.is_complete() {
            self.introduce_wants(conn);
        }
        self.command(conn, Command::Bitfield(self.have.clone()));
    }

    /// A client with another prefix may be ours all the same.
    pub(super) fn named(&mut self, conn: ConnectionId, client: Option<&str>) {
        if client.is_some_and(|name| name.starts_with(OUR_NAME)) {
            self.show_all(conn);
        }
    }

    /// Shows the peer whatever it has not seen.
    pub(super) fn show_all(&mut self, conn: ConnectionId) {
        let Some(shown) = self.peers.get_mut(&conn).and_then(|peer| peer.shown.take()) else {
            return;
        };
        let mut rest = self.have.clone();
        if let Some(geometry) = self.geometry() {
            let seen = shown.pieces.iter();
            for piece in seen.filter_map(|index| geometry.piece(index)) {
                rest.remove(piece);
            }
        }
        self.introduce_wants(conn);
        self.command(conn, Command::Bitfield(rest));
    }

    /// Shows everything to those whom it helps, and something to those who wait for long.
    pub(super) fn review_shown(&mut self, now: Instant) {
        let leeches = self.peers.values().filter(|peer| peer.is_leech()).count();
        let goes_on = self.may_hide(now);
        let alone = leeches < 2 && self.config.super_seed == SuperSeed::Auto;
        let (mut all, mut first) = (Vec::new(), Vec::new());
        for (conn, peer) in &self.peers {
            let Some(shown) = &peer.shown else {
                continue;
            };
            let since = |at: Instant| now.saturating_duration_since(at);
            let lacks_some = || shown.pieces.iter().any(|index| !peer.has(index));
            let long_ago = shown.at.is_some_and(|at| since(at) > TEMPTED_WITHIN);
            let in_vain = !peer.wants && long_ago && lacks_some();
            let shown_at = shown.at.map(|at| at.max(peer.choke_since));
            let asleep = !peer.we_choke
                && peer.promised.is_unasked()
                && shown_at.is_some_and(|at| since(at) > ASKS_WITHIN);
            if !goes_on
                || (alone && since(peer.joined_at) >= ALONE_FOR)
                || peer.wants_nothing()
                || peer.promised.ignored
                || in_vain
                || asleep
            {
                all.push(*conn);
            } else if shown.at.is_none() && since(peer.joined_at) >= FIRST_WITHIN {
                first.push(*conn);
            }
        }
        all.into_iter().for_each(|conn| self.show_all(conn));
        first.into_iter().for_each(|conn| self.tempt(now, conn));
    }
}

impl Peer {
    /// Whether it was shown a piece and has not said yet that it wants it.
    pub(super) fn ponders(&self) -> bool {
        self.shown.is_some() && !self.wants && !self.promised.is_empty()
    }

    /// Whether it will take pieces, though it may not have been shown one that it wants.
    pub(super) fn is_leech(&self) -> bool {
        let may_want = self.wants || (self.shown.is_some() && !self.upload_only);
        self.established && may_want && !self.is_seed() && self.taking == Taking::Fairly
    }
}

/// Whether such a peer heeds suggestions.
fn is_ours(id: PeerId, our_id: Option<PeerId>) -> bool {
    let prefix = |id: &PeerId| id.as_bytes().first_chunk::<3>().copied();
    id.as_bytes().starts_with(OUR_PREFIX) || our_id.is_some_and(|ours| prefix(&ours) == prefix(&id))
}
