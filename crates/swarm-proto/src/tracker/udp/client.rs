//! The client's side: a token first, then the question; both again when nothing comes.
//!
//! ```text
//! ask ─▶ token known and younger than a minute? ──no──▶ Connecting ─▶ Asking ─▶ outcome
//!                      └───────────yes─────────────────────────────▶
//! ```

use std::time::{Duration, Instant};

use super::packet::{ConnectionToken, Request, Response};
use crate::id::SwarmId;
use crate::tracker::{AnnounceReply, AnnounceRequest, ScrapeEntry};

/// BEP 15: "If a response is not received after 15 * 2 ^ n seconds, the client should retransmit
/// the request, where n starts at 0 and is increased up to 8 (3840 seconds)".
const RESEND_AFTER: Duration = Duration::from_secs(15);

/// The greatest `n`. Ours stops short of BEP 15's 8: whoever announces asks ever more rarely by
/// itself (see [`AnnounceSchedule`](crate::tracker::AnnounceSchedule)), for all transports alike.
const DOUBLINGS_MAX: u32 = 3;

/// BEP 15: "A client can use a connection ID until one minute after it has received it."
const TOKEN_LIFETIME: Duration = Duration::from_secs(60);

/// What is asked of the tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, and nearly all are announces"
)]
pub enum Ask {
    /// To list us and name others; with path and query of the tracker's URL (BEP 41).
    Announce(AnnounceRequest, String),
    /// For figures of these swarms, at least one and at most
    /// [`limits::SCRAPE_HASHES_MAX`](crate::limits::SCRAPE_HASHES_MAX).
    Scrape(Vec<SwarmId>),
}

/// What the tracker said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Ask::Announce`].
    Announce(AnnounceReply),
    /// To [`Ask::Scrape`], with the swarms asked for; fewer if the tracker's answer is cut off.
    Scrape(Vec<(SwarmId, ScrapeEntry)>),
}

/// Why nothing came of a question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The tracker understood and refuses.
    #[error("tracker refuses: {0}")]
    Refused(String),
    /// Nothing came back, or nothing that was an answer.
    #[error("tracker does not answer")]
    NoAnswer,
}

/// One client of one tracker, one question at a time.
///
/// The driver calls [`ask`](Self::ask), then after this and each `handle_*` sends what
/// [`poll_transmit`](Self::poll_transmit) gives and looks at [`poll_outcome`](Self::poll_outcome).
#[derive(Debug, Default)]
pub struct UdpClient {
    v6: bool,
    token: Option<(ConnectionToken, Instant)>,
    /// The `n` of BEP 15: waits since the last answer, over all questions.
    doublings: u32,
    exchange: Option<Exchange>,
    outcome: Option<Result<Answer, ClientError>>,
}

#[derive(Debug)]
struct Exchange {
    ask: Ask,
    connecting: bool,
    /// An answer bears this number, or is none. Chosen anew for each packet.
    transaction: u32,
    /// The packet is due to be sent.
    unsent: bool,
    resend_at: Instant,
}

impl UdpClient {
    /// Says that the tracker is talked to over IPv6, else over IPv4 as by default: its answers
    /// don't tell.
    pub const fn set_v6(&mut self, v6: bool) {
        self.v6 = v6;
    }

    /// The token is no longer good: it belongs to the address and port that it was sent to.
    pub const fn forget_token(&mut self) {
        self.token = None;
    }

    /// Begins to ask; a question that was open is dropped. `transaction` is a random number that
    /// nobody can guess, so that nobody else can answer.
    pub fn ask(&mut self, now: Instant, ask: Ask, transaction: u32) {
        self.outcome = None;
        self.exchange = Some(Exchange {
            ask,
            connecting: self.token(now).is_none(),
            transaction,
            unsent: true,
            resend_at: now + RESEND_AFTER * (1 << self.doublings),
        });
    }

    fn token(&self, now: Instant) -> Option<ConnectionToken> {
        let (token, until) = self.token?;
        (now < until).then_some(token)
    }

    /// A packet to send to the tracker now.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        let exchange = self.exchange.as_mut()?;
        if !std::mem::take(&mut exchange.unsent) {
            return None;
        }
        let transaction = exchange.transaction;
        let request = match (&exchange.ask, self.token) {
            (Ask::Announce(announce, path), Some((token, _))) if !exchange.connecting => {
                Request::Announce {
                    token,
                    transaction,
                    announce: announce.clone(),
                    path: path.clone(),
                }
            }
            (Ask::Scrape(swarm_ids), Some((token, _))) if !exchange.connecting => Request::Scrape {
                token,
                transaction,
                swarm_ids: swarm_ids.clone(),
            },
            _ => Request::Connect { transaction },
        };
        Some(request.encode())
    }

    /// Takes a packet that came from the tracker's address; `transaction` is random, for the next.
    /// What answers nothing is ignored.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8], transaction: u32) {
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        let response = match Response::decode(packet, self.v6) {
            Ok(response) if response.transaction() == exchange.transaction => response,
            Ok(_) => return tracing::debug!("packet of no transaction of ours"),
            Err(error) => return tracing::debug!(%error, "packet ignored"),
        };
        let outcome = match (response, &exchange.ask) {
            (Response::Connect { token, .. }, _) if exchange.connecting => {
                self.token = Some((token, now + TOKEN_LIFETIME));
                self.doublings = 0;
                exchange.connecting = false;
                exchange.transaction = transaction;
                exchange.unsent = true;
                exchange.resend_at = now + RESEND_AFTER;
                return;
            }
            (Response::Error { message, .. }, _) => {
                // The token may be what it does not like.
                self.token = None;
                Err(ClientError::Refused(message))
            }
            (Response::Announce { reply, .. }, Ask::Announce(..)) if !exchange.connecting => {
                Ok(Answer::Announce(reply))
            }
            (Response::Scrape { entries, .. }, Ask::Scrape(ids)) if !exchange.connecting => {
                let figures = ids.iter().copied().zip(entries);
                Ok(Answer::Scrape(figures.collect()))
            }
            _ => return tracing::debug!("answer to what was not asked"),
        };
        self.doublings = 0;
        self.exchange = None;
        self.outcome = Some(outcome);
    }

    /// Time went by; `transaction` is random, for the next packet.
    pub fn handle_timeout(&mut self, now: Instant, transaction: u32) {
        let known = self.token(now);
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        if now < exchange.resend_at {
            return;
        }
        if self.doublings >= DOUBLINGS_MAX {
            self.exchange = None;
            self.outcome = Some(Err(ClientError::NoAnswer));
            return;
        }
        self.doublings += 1;
        exchange.connecting = known.is_none();
        exchange.transaction = transaction;
        exchange.unsent = true;
        exchange.resend_at = now + RESEND_AFTER * (1 << self.doublings);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.exchange.as_ref().map(|exchange| exchange.resend_at)
    }

    /// What came of the question, once.
    pub fn poll_outcome(&mut self) -> Option<Result<Answer, ClientError>> {
        self.outcome.take()
    }
}
