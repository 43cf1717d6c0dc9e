//! Who asks for nothing (BEP 21): seeds, and peers that have all the files they chose. Each side
//! says so, and two of them part.

use std::time::{Duration, Instant};

use super::peers::Peer;
use super::{Download, Want};
use crate::session::{CloseReason, Command, ConnectionId};

/// Two sides that want nothing stay connected for so long, in case one is to learn better.
const USELESS_AFTER: Duration = Duration::from_secs(10);

impl Download {
    /// Whether we ask for nothing from now on. Not where nothing is wanted but what readers wait
    /// for: the next may come at any time.
    pub(super) fn wants_nothing(&self) -> bool {
        let has_all_it_chose = match self.want {
            Want::All | Want::Ranges(_) => true,
            Want::None => self.config.seed_only,
        };
        self.is_complete() || (self.is_satisfied() && has_all_it_chose)
    }

    /// What a session that begins now is to say of it first
    /// ([`SessionConfig::upload_only`](crate::session::SessionConfig::upload_only)). Who may be
    /// shown our pieces one by one would leave if it knew.
    pub fn begins_upload_only(&self, now: Instant) -> bool {
        self.wants_nothing() && !self.may_hide(now)
    }

    /// Tells a peer that has just come.
    pub(super) fn introduce_wants(&mut self, conn: ConnectionId) {
        let nothing = self.wants_nothing();
        self.command(conn, Command::UploadOnly(nothing));
    }

    /// Tells all peers, if that changed.
    pub(super) fn update_wants(&mut self) {
        let nothing = self.wants_nothing();
        if std::mem::replace(&mut self.said_upload_only, nothing) != nothing {
            // Who sees our pieces one by one would leave if it knew.
            let told = self.peers.iter().filter(|(_, peer)| peer.shown.is_none());
            let told: Vec<_> = told.map(|(conn, _)| *conn).collect();
            for conn in told {
                self.command(conn, Command::UploadOnly(nothing));
            }
        }
    }

    /// Parts from peers that want nothing of us, and we of them, for good.
    pub(super) fn close_useless(&mut self, now: Instant) {
        if !self.wants_nothing() {
            return;
        }
        let is_complete = self.is_complete();
        let is_useless = |peer: &Peer| {
            peer.joined_at + USELESS_AFTER <= now
                && (is_complete && peer.is_seed() || peer.wants_nothing() && !peer.wants)
        };
        let useless = self.peers.iter().filter(|(_, peer)| is_useless(peer));
        let useless: Vec<_> = useless.map(|(conn, _)| *conn).collect();
        for conn in useless {
            self.close(conn, CloseReason::Useless);
            self.peer_left(now, conn);
        }
    }
}

impl Peer {
    /// It asks for nothing, whatever it has.
    pub(super) fn wants_nothing(&self) -> bool {
        self.is_seed() || self.upload_only
    }
}
