//! Messages: what the peer says, held against the protocol.

use std::time::Instant;

use bytes::Bytes;

use super::error::Misbehaviour;
use super::uploads::Removed;
use super::{PeerSession, PieceSet, SessionEvent};
use crate::bitfield::{Bitfield, BitfieldError};
use crate::geometry::{BlockRange, Geometry};
use crate::limits;
use crate::wire::extended::UT_METADATA_ID;
use crate::wire::holepunch::UT_HOLEPUNCH_ID;
use crate::wire::lt_donthave::LT_DONTHAVE_ID;
use crate::wire::pex::UT_PEX_ID;
use crate::wire::{
    DontHave, ExtendedHandshake, HashRequest, HolepunchMessage, Message, MetadataMessage,
    PexMessage, RawHashes, RawRequest,
};

impl PeerSession {
    pub(super) fn handle_message(
        &mut self,
        now: Instant,
        message: Message,
    ) -> Result<(), Misbehaviour> {
        match message {
            Message::KeepAlive | Message::Unknown(_) => self.useless(),
            Message::Port(port) => self.peer_has_node(port),
            Message::Choke => self.peer_chokes(true),
            Message::Unchoke => self.peer_chokes(false),
            Message::Interested => self.peer_wants(true),
            Message::NotInterested => self.peer_wants(false),
            Message::Have(index) => self.peer_has_one(index),
            Message::Bitfield(bits) => self.peer_has(Claim::Bits(bits)),
            Message::HaveAll => self.fast()?.peer_has(Claim::All),
            Message::HaveNone => self.fast()?.peer_has(Claim::None),
            Message::Suggest(index) => self.fast()?.peer_suggests(index),
            Message::AllowedFast(index) => self.fast()?.peer_allows(index),
            Message::Request(raw) => self.peer_requests(raw),
            Message::Cancel(raw) => self.peer_cancels(raw),
            Message::Reject(raw) => self.fast()?.peer_rejects(raw),
            Message::Piece(raw) => {
                let Some(geometry) = &self.geometry else {
                    return Err(Misbehaviour::UnrequestedBlocks);
                };
                match self.ledger.block(now, geometry, raw)? {
                    Some(block) => self.events.push_back(SessionEvent::Block(block)),
                    None => tracing::trace!("block that is not wanted any more"),
                }
                Ok(())
            }
            Message::Extended { id, payload } => self.peer_extends(id, &payload),
            Message::HashRequest(request) => self.peer_requests_hashes(request),
            Message::Hashes(answer) => self.peer_sends_hashes(answer),
            Message::HashReject(request) => match self.take_hash_request(&request) {
                true => {
                    self.events.push_back(SessionEvent::HashesRejected(request));
                    Ok(())
                }
                false => self.useless(),
            },
        }
    }

    /// Counts a message that changes nothing.
    fn useless(&mut self) -> Result<(), Misbehaviour> {
        self.useless += 1;
        match self.useless > limits::USELESS_MESSAGES_MAX {
            true => Err(Misbehaviour::Flood),
            false => Ok(()),
        }
    }

    /// The peer has a node of the DHT (BEP 5).
    fn peer_has_node(&mut self, port: u16) -> Result<(), Misbehaviour> {
        if self.phase.agreed().dht() && port != 0 {
            self.events.push_back(SessionEvent::DhtPort(port));
        }
        self.useless()
    }

    fn fast(&mut self) -> Result<&mut Self, Misbehaviour> {
        match self.phase.agreed().fast() {
            true => Ok(self),
            false => Err(Misbehaviour::FastNotAgreed),
        }
    }

    fn peer_chokes(&mut self, choke: bool) -> Result<(), Misbehaviour> {
        if self.flow.peer_chokes == choke {
            return self.useless();
        }
        self.flow.peer_chokes = choke;
        self.events.push_back(SessionEvent::Choked(choke));
        // BEP 6: "Choke no longer implicitly rejects all pending requests"; without it, it does.
        if choke && !self.phase.agreed().fast() {
            for range in self.ledger.drop_all() {
                self.events.push_back(SessionEvent::Rejected(range));
            }
        }
        // Choking by turns costs as much as any flood.
        self.useless()
    }

    fn peer_wants(&mut self, want: bool) -> Result<(), Misbehaviour> {
        if self.flow.peer_wants != want {
            self.flow.peer_wants = want;
            self.events.push_back(SessionEvent::PeerInterested(want));
        }
        self.useless()
    }

    fn peer_suggests(&mut self, index: u32) -> Result<(), Misbehaviour> {
        let Some(geometry) = &self.geometry else {
            return self.useless();
        };
        let piece = geometry
            .piece(index)
            .ok_or(Misbehaviour::NoSuchPiece(index))?;
        let suggested = self
            .suggested
            .get_or_insert_with(|| Bitfield::none_of(geometry));
        match suggested.insert(piece) {
            true => {
                self.events.push_back(SessionEvent::Suggested(piece));
                Ok(())
            }
            false => self.useless(),
        }
    }

    /// The peer answers requests for this piece though it chokes us (BEP 6).
    fn peer_allows(&mut self, index: u32) -> Result<(), Misbehaviour> {
        let Some(geometry) = &self.geometry else {
            return self.useless();
        };
        let piece = geometry
            .piece(index)
            .ok_or(Misbehaviour::NoSuchPiece(index))?;
        let room = self.allowed.len() < limits::ALLOWED_FAST_MAX;
        if room && !self.allowed.contains(&piece) {
            self.allowed.push(piece);
            self.events.push_back(SessionEvent::AllowedFast(piece));
        }
        self.useless()
    }

    fn peer_has_one(&mut self, index: u32) -> Result<(), Misbehaviour> {
        let Some(geometry) = &self.geometry else {
            return self.peer_pieces.note_early(index);
        };
        let piece = geometry
            .piece(index)
            .ok_or(Misbehaviour::NoSuchPiece(index))?;
        match self.peer_pieces.known(geometry).insert(piece) {
            true => {
                self.events
                    .push_back(SessionEvent::PeerHas(PieceSet::One(piece)));
                Ok(())
            }
            false => self.useless(),
        }
    }

    /// The peer no longer has a piece (BEP 54).
    fn peer_lost(&mut self, index: u32) -> Result<(), Misbehaviour> {
        let Some(geometry) = &self.geometry else {
            self.peer_pieces.lost_early(index)?;
            return self.useless();
        };
        let piece = geometry
            .piece(index)
            .ok_or(Misbehaviour::NoSuchPiece(index))?;
        if let Some(suggested) = &mut self.suggested {
            suggested.remove(piece);
        }
        if self.peer_pieces.known(geometry).remove(piece) {
            self.events.push_back(SessionEvent::PeerLacks(piece));
        }
        // Losing and gaining by turns costs as much as any flood.
        self.useless()
    }

    /// BEP 3 has a bitfield first and once; aria2 sends another whenever that is shorter than the
    /// `have` messages it stands for. So each adds to what is known, and none takes away.
    fn peer_has(&mut self, claim: Claim) -> Result<(), Misbehaviour> {
        self.peer_pieces.claim(claim)?;
        let Some(geometry) = &self.geometry else {
            return self.useless();
        };
        match self.peer_pieces.settle(geometry)? {
            Some(pieces) => {
                self.events.push_back(SessionEvent::PeerHas(pieces));
                Ok(())
            }
            None => self.useless(),
        }
    }

    /// The range that a request, cancel or reject names.
    fn range(&self, raw: RawRequest) -> Result<Option<BlockRange>, Misbehaviour> {
        match &self.geometry {
            Some(geometry) => geometry
                .block(raw.index, raw.begin, raw.len)
                .map(Some)
                .map_err(Misbehaviour::OutOfRange),
            None => Ok(None),
        }
    }

    fn peer_requests(&mut self, raw: RawRequest) -> Result<(), Misbehaviour> {
        let range = self.range(raw)?;
        match range {
            Some(range) if !self.flow.we_choke && self.uploads.push(range) => return Ok(()),
            Some(range) => self.send_reject(range),
            // We have nothing yet: only a peer that saw no bitfield would ask.
            None if self.phase.agreed().fast() => self.out.push(&Message::Reject(raw)),
            None => {}
        }
        self.uploads.refused += 1;
        match self.uploads.refused > limits::REQUESTS_REFUSED_MAX {
            true if self.flow.we_choke => Err(Misbehaviour::RequestsWhileChoked),
            true => Err(Misbehaviour::TooManyRequests),
            false => Ok(()),
        }
    }

    fn peer_cancels(&mut self, raw: RawRequest) -> Result<(), Misbehaviour> {
        let Some(range) = self.range(raw)? else {
            return self.useless();
        };
        match self.uploads.remove(range) {
            Some(Removed::Queued) => {}
            Some(Removed::Passed) => self.events.push_back(SessionEvent::Cancelled(range)),
            Some(Removed::Answered) => {
                self.out.remove_block(range);
                self.events.push_back(SessionEvent::Cancelled(range));
            }
            // It crossed the block on its way.
            None => return self.useless(),
        }
        // BEP 6: every request is answered, one that was cancelled by the block or a reject.
        self.send_reject(range);
        self.useless()
    }

    fn peer_rejects(&mut self, raw: RawRequest) -> Result<(), Misbehaviour> {
        let Some(range) = self.range(raw)? else {
            return self.useless();
        };
        match self.ledger.reject(range) {
            Some(true) => {
                self.events.push_back(SessionEvent::Rejected(range));
                Ok(())
            }
            // The answer to our cancel (BEP 6).
            Some(false) => Ok(()),
            None => self.useless(),
        }
    }

    fn peer_extends(&mut self, id: u8, payload: &Bytes) -> Result<(), Misbehaviour> {
        if !self.phase.agreed().extended() {
            return Err(Misbehaviour::ExtendedNotAgreed);
        }
        match id {
            0 => {
                let said = ExtendedHandshake::decode_after(&self.peer, payload);
                self.peer = said.map_err(Misbehaviour::Extended)?;
                let said = self.peer.clone();
                self.events.push_back(SessionEvent::ExtendedHandshake(said));
                self.useless()
            }
            UT_METADATA_ID => {
                let message = MetadataMessage::decode(payload).map_err(Misbehaviour::Extended)?;
                self.peer_speaks_metadata(message)
            }
            UT_HOLEPUNCH_ID if self.config.holepunch => {
                let message = HolepunchMessage::decode(payload).map_err(Misbehaviour::Holepunch)?;
                self.events.push_back(SessionEvent::Holepunch(message));
                self.useless()
            }
            LT_DONTHAVE_ID => {
                let lost = DontHave::decode(payload).map_err(Misbehaviour::DontHave)?;
                self.peer_lost(lost.piece)
            }
            UT_PEX_ID if self.config.pex => {
                self.pex_said = self.pex_said.saturating_add(1);
                if self.pex_said > limits::PEX_MESSAGES_PER_MINUTE_MAX {
                    // Not even read: parsing is what would cost.
                    return match self.pex_said > limits::PEX_FLOOD_PER_MINUTE {
                        true => Err(Misbehaviour::Flood),
                        false => self.useless(),
                    };
                }
                let message = PexMessage::decode(payload).map_err(Misbehaviour::Extended)?;
                self.events.push_back(SessionEvent::Pex(message));
                self.useless()
            }
            unknown => Err(Misbehaviour::UnknownExtension(unknown)),
        }
    }

    fn peer_speaks_metadata(&mut self, message: MetadataMessage) -> Result<(), Misbehaviour> {
        match message {
            MetadataMessage::Request { piece } => {
                self.events
                    .push_back(SessionEvent::MetadataRequested(piece));
            }
            MetadataMessage::Data {
                piece,
                total,
                bytes,
            } => {
                if !self.take_metadata_request(piece) {
                    return Err(Misbehaviour::UnrequestedMetadata);
                }
                self.events.push_back(SessionEvent::MetadataPiece {
                    piece,
                    total,
                    bytes,
                });
            }
            MetadataMessage::Reject { piece } if self.take_metadata_request(piece) => {
                self.events.push_back(SessionEvent::MetadataRejected(piece));
            }
            MetadataMessage::Reject { .. } | MetadataMessage::Unknown => {}
        }
        self.useless()
    }

    fn take_metadata_request(&mut self, piece: u32) -> bool {
        let at = self.metadata_asked.iter().position(|asked| *asked == piece);
        at.map(|at| self.metadata_asked.swap_remove(at)).is_some()
    }

    fn peer_requests_hashes(&mut self, request: HashRequest) -> Result<(), Misbehaviour> {
        if !self.config.v2 {
            return Err(Misbehaviour::HashRequest);
        }
        match request.is_well_formed() {
            true => self
                .events
                .push_back(SessionEvent::HashesRequested(request)),
            false => self.out.push(&Message::HashReject(request)),
        }
        self.useless()
    }

    fn peer_sends_hashes(&mut self, answer: RawHashes) -> Result<(), Misbehaviour> {
        let RawHashes { request, hashes } = answer;
        let right_count = hashes.len() == request.answer_len() as usize;
        if !self.take_hash_request(&request) || !right_count {
            return Err(Misbehaviour::UnrequestedHashes);
        }
        self.events
            .push_back(SessionEvent::Hashes { request, hashes });
        Ok(())
    }

    fn take_hash_request(&mut self, request: &HashRequest) -> bool {
        let at = self.hashes_asked.iter().position(|asked| asked == request);
        at.map(|at| self.hashes_asked.swap_remove(at)).is_some()
    }
}

/// What a peer says of all its pieces at once.
#[derive(Debug)]
pub(super) enum Claim {
    All,
    None,
    Bits(Bytes),
}

/// The pieces a peer has, also while nobody knows how many there are.
#[derive(Debug, Default)]
pub(super) struct PeerPieces {
    /// Said, and not yet held against the torrent's size.
    claim: Option<Claim>,
    /// Pieces named one by one while the size is unknown: a bit each.
    early: Vec<u8>,
    /// Pieces lost since: a bit each.
    lost: Vec<u8>,
    known: Option<Bitfield>,
}

impl PeerPieces {
    fn claim(&mut self, claim: Claim) -> Result<(), Misbehaviour> {
        self.lost.clear();
        // Still unsettled, so the size is unknown: two bitfields must at least be of one torrent.
        self.claim = Some(match (self.claim.take(), claim) {
            (Some(Claim::All), _) => Claim::All,
            (Some(Claim::Bits(before)), Claim::None) => Claim::Bits(before),
            (Some(Claim::Bits(before)), Claim::Bits(bits)) => {
                if before.len() != bits.len() {
                    let (expected, got) = (before.len(), bits.len());
                    return Err(Misbehaviour::Bitfield(BitfieldError::Length {
                        expected,
                        got,
                    }));
                }
                Claim::Bits(before.iter().zip(&bits).map(|(a, b)| a | b).collect())
            }
            (_, claim) => claim,
        });
        Ok(())
    }

    fn note_early(&mut self, index: u32) -> Result<(), Misbehaviour> {
        clear(&mut self.lost, index);
        set(&mut self.early, index)
    }

    fn lost_early(&mut self, index: u32) -> Result<(), Misbehaviour> {
        clear(&mut self.early, index);
        set(&mut self.lost, index)
    }

    fn known(&mut self, geometry: &Geometry) -> &mut Bitfield {
        self.known
            .get_or_insert_with(|| Bitfield::none_of(geometry))
    }

    /// Holds what was said against the torrent's size; `None` if it adds nothing.
    pub(super) fn settle(&mut self, geometry: &Geometry) -> Result<Option<PieceSet>, Misbehaviour> {
        let claim = self.claim.take();
        if claim.is_none() && self.early.is_empty() {
            return Ok(None);
        }
        let count = geometry.piece_count();
        let mut pieces = match claim {
            Some(Claim::All) => Bitfield::all(count),
            Some(Claim::Bits(bits)) => {
                Bitfield::from_bytes(&bits, count).map_err(Misbehaviour::Bitfield)?
            }
            Some(Claim::None) | None => Bitfield::none(count),
        };
        let early = std::mem::take(&mut self.early);
        let lost = std::mem::take(&mut self.lost);
        let piece = |index| {
            geometry
                .piece(index)
                .ok_or(Misbehaviour::NoSuchPiece(index))
        };
        for index in bits(&early) {
            pieces.insert(piece(index)?);
        }
        for index in bits(&lost) {
            pieces.remove(piece(index)?);
        }
        if let Some(known) = &self.known {
            let before = known.count();
            known
                .iter()
                .filter_map(|index| geometry.piece(index))
                .for_each(|piece| {
                    pieces.insert(piece);
                });
            if pieces.count() == before {
                return Ok(None);
            }
        }
        let set = match () {
            () if pieces.is_none() => PieceSet::None,
            () if pieces.is_all() => PieceSet::All,
            () => PieceSet::Bits(pieces.clone()),
        };
        self.known = Some(pieces);
        Ok(Some(set))
    }
}

/// Sets the bit of a piece, the first being the highest.
fn set(bits: &mut Vec<u8>, index: u32) -> Result<(), Misbehaviour> {
    if index >= limits::PIECES_MAX {
        return Err(Misbehaviour::TooManyPieces);
    }
    let at = index as usize / 8;
    if bits.len() <= at {
        bits.resize(at + 1, 0);
    }
    if let Some(byte) = bits.get_mut(at) {
        *byte |= 0x80 >> (index % 8);
    }
    Ok(())
}

fn clear(bits: &mut [u8], index: u32) {
    if let Some(byte) = bits.get_mut(index as usize / 8) {
        *byte &= !(0x80 >> (index % 8));
    }
}

/// The pieces whose bits are set.
fn bits(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let of = |(byte, at): (&u8, u32)| {
        let byte = *byte;
        let set = (0..8_u32).filter(move |bit| byte & (0x80 >> bit) != 0);
        set.map(move |bit| at * 8 + bit)
    };
    bytes.iter().zip(0_u32..).flat_map(of)
}
