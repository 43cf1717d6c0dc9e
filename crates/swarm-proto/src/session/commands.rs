//! Commands: what our side wants of the peer, or answers it.

use std::time::Instant;

use super::ledger::Ask;
use super::uploads::Removed;
use super::{Command, PeerSession, SessionEvent};
use crate::bitfield::Bitfield;
use crate::geometry::{BlockRange, Geometry, PieceIndex};
use crate::limits;
use crate::wire::{DontHave, Message, MetadataMessage, RawHashes, RawRequest};

impl PeerSession {
    /// Does what is wanted; what makes no sense (any more) is ignored.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        self.see_clock(now);
        if self.closed.is_some() {
            return;
        }
        let open = self.phase.is_open();
        match command {
            Command::SetGeometry(geometry) => self.set_geometry(geometry),
            Command::SetMetadataSize(size) => {
                if self.config.metadata_size.replace(size) != Some(size) && open {
                    self.send_extended_handshake();
                }
            }
            Command::Bitfield(pieces) => self.set_pieces(pieces),
            Command::Have(piece) => match &mut self.unsaid_pieces {
                Some(pieces) => {
                    pieces.insert(piece);
                }
                None if self.said_pieces => self.out.push_have(piece),
                None => {}
            },
            Command::DontHave(piece) => self.say_lost(piece),
            Command::UploadOnly(only) => {
                if std::mem::replace(&mut self.config.upload_only, only) != only && open {
                    self.send_extended_handshake();
                }
            }
            Command::Suggest(piece) => {
                if self.phase.agreed().fast() {
                    self.out.push(&Message::Suggest(piece.get()));
                }
            }
            Command::Interested(want) => {
                if self.flow.we_want != want {
                    self.flow.we_want = want;
                    self.push_if_open(match want {
                        true => Message::Interested,
                        false => Message::NotInterested,
                    });
                }
            }
            Command::Choke(choke) => self.choke(choke),
            Command::Request(range) => self.request(now, range),
            Command::RequestPatience(patience) => {
                self.ledger
                    .set_timeout(patience.max(self.config.timeouts.request));
            }
            Command::Cancel(range) => {
                if self.ledger.cancel(range) {
                    self.out.push(&Message::Cancel(raw(range)));
                }
            }
            Command::SendBlock(range, bytes) => {
                if bytes.len() != range.len() as usize {
                    tracing::warn!(?range, got = bytes.len(), "answer of a wrong length");
                    self.reject_upload(range);
                } else if self.uploads.answered(range) {
                    self.out.push_block(range, bytes);
                }
            }
            Command::RejectRequest(range) => self.reject_upload(range),
            Command::RequestMetadata(piece) => self.request_metadata(piece),
            Command::SendMetadata {
                piece,
                bytes,
                total,
            } => {
                self.send_metadata(MetadataMessage::Data {
                    piece,
                    total,
                    bytes,
                });
            }
            Command::RejectMetadata(piece) => self.send_metadata(MetadataMessage::Reject { piece }),
            Command::RequestHashes(request) => {
                let room = self.hashes_asked.len() < limits::HASH_REQUESTS_MAX;
                if open && self.config.v2 && room && request.is_well_formed() {
                    self.hashes_asked.push(request);
                    self.out.push(&Message::HashRequest(request));
                } else {
                    self.events.push_back(SessionEvent::HashesRejected(request));
                }
            }
            Command::SendHashes(request, hashes) => {
                self.push_if_open(Message::Hashes(RawHashes { request, hashes }));
            }
            Command::RejectHashes(request) => self.push_if_open(Message::HashReject(request)),
            Command::Holepunch(message) => {
                if let Some(id) = self.peer.ut_holepunch {
                    let payload = message.encode().into();
                    self.push_if_open(Message::Extended { id, payload });
                }
            }
            Command::SendPex(message) => {
                if let (Some(id), true) = (self.peer.ut_pex, self.config.pex) {
                    let payload = message.encode().into();
                    self.push_if_open(Message::Extended { id, payload });
                }
            }
            Command::DhtPort(port) => {
                if self.phase.agreed().dht() {
                    self.push_if_open(Message::Port(port));
                }
            }
            Command::Close(reason) => self.close(reason),
        }
    }

    fn push_if_open(&mut self, message: Message) {
        if self.phase.is_open() {
            self.out.push(&message);
        }
    }

    fn set_geometry(&mut self, geometry: Geometry) {
        if self.geometry.is_some() {
            return;
        }
        self.input.expect_pieces(geometry.piece_count());
        let known = self.peer_pieces.settle(&geometry);
        self.geometry = Some(geometry);
        match known {
            Ok(Some(pieces)) => self.events.push_back(SessionEvent::PeerHas(pieces)),
            Ok(None) => {}
            Err(misbehaviour) => self.close(super::CloseReason::Misbehaved(misbehaviour)),
        }
    }

    fn set_pieces(&mut self, pieces: Bitfield) {
        if !self.said_pieces {
            self.unsaid_pieces = Some(pieces);
            self.say_pieces();
        } else if let Some(geometry) = &self.geometry {
            for piece in pieces.iter().filter_map(|index| geometry.piece(index)) {
                self.out.push_have(piece);
            }
        }
    }

    /// The peer unlearns a piece, if it ever heard of it.
    fn say_lost(&mut self, piece: PieceIndex) {
        match &mut self.unsaid_pieces {
            Some(pieces) => {
                pieces.remove(piece);
            }
            None if !self.said_pieces || self.out.remove_have(piece) => {}
            None => {
                if let Some(id) = self.peer.lt_donthave {
                    let piece = piece.get();
                    let payload = DontHave { piece }.encode().to_vec().into();
                    self.push_if_open(Message::Extended { id, payload });
                }
            }
        }
    }

    fn choke(&mut self, choke: bool) {
        if self.flow.we_choke == choke {
            return;
        }
        self.flow.we_choke = choke;
        self.uploads.refused = 0;
        if !choke {
            return self.push_if_open(Message::Unchoke);
        }
        self.push_if_open(Message::Choke);
        for (range, removed) in self.uploads.drain() {
            match removed {
                Removed::Answered => {
                    self.out.remove_block(range);
                    self.events.push_back(SessionEvent::Cancelled(range));
                }
                Removed::Passed => self.events.push_back(SessionEvent::Cancelled(range)),
                Removed::Queued => {}
            }
            // Without the fast extension a choke drops every request by itself.
            self.send_reject(range);
        }
    }

    pub(super) fn send_reject(&mut self, range: BlockRange) {
        if self.phase.agreed().fast() {
            self.out.push(&Message::Reject(raw(range)));
        }
    }

    fn reject_upload(&mut self, range: BlockRange) {
        if self.uploads.failed(range) {
            self.send_reject(range);
        }
    }

    fn request(&mut self, now: Instant, range: BlockRange) {
        let choked = self.flow.peer_chokes && !self.allowed.contains(&range.piece());
        if !self.phase.is_open() || choked || self.geometry.is_none() {
            return self.events.push_back(SessionEvent::Rejected(range));
        }
        match self.ledger.ask(now, range) {
            Ask::Send => self.out.push(&Message::Request(raw(range))),
            Ask::Already => {}
            Ask::Refused => self.events.push_back(SessionEvent::Rejected(range)),
        }
    }

    fn request_metadata(&mut self, piece: u32) {
        let room = self.metadata_asked.len() < limits::METADATA_REQUESTS_MAX
            || self.metadata_asked.contains(&piece);
        if self.peer.ut_metadata.is_none() || !room {
            return self.events.push_back(SessionEvent::MetadataRejected(piece));
        }
        if !self.metadata_asked.contains(&piece) {
            self.metadata_asked.push(piece);
        }
        self.send_metadata(MetadataMessage::Request { piece });
    }

    fn send_metadata(&mut self, message: MetadataMessage) {
        if let Some(id) = self.peer.ut_metadata {
            self.push_if_open(Message::Extended {
                id,
                payload: message.encode().into(),
            });
        }
    }
}

fn raw(range: BlockRange) -> RawRequest {
    RawRequest {
        index: range.piece().get(),
        begin: range.begin(),
        len: range.len(),
    }
}
