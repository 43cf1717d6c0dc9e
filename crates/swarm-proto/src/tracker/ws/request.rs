//! What a peer says to its tracker.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::error::Category;

use super::latin1;
use crate::id::{PeerId, SwarmId};
use crate::limits::{SCRAPE_HASHES_MAX, WS_MESSAGE_LEN_MAX, WS_OFFERS_MAX, WS_SDP_LEN_MAX};
use crate::tracker::{AnnounceEvent, ScrapeRequest};

/// How the peer that made an offer knows it again: 20 bytes of its choice.
pub type OfferId = [u8; 20];

/// What a peer asks of its tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// It is in a swarm, and offers connections to others.
    Announce(Announce),
    /// It takes an offer that was passed on to it.
    Answer(Answer),
    /// It wants figures (as BEP 48).
    Scrape(ScrapeRequest),
}

/// What a peer tells the tracker about one swarm. It has no port: nobody can call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce {
    /// The swarm, by either 20-byte id of a hybrid.
    pub swarm_id: SwarmId,
    /// The peer's own id.
    pub peer_id: PeerId,
    /// Bytes sent since `started`.
    pub uploaded: u64,
    /// Bytes received since `started`.
    pub downloaded: u64,
    /// Bytes still missing; 0 is a seed, `None` is "not known".
    pub left: Option<u64>,
    /// Why the peer announces.
    pub event: AnnounceEvent,
    /// Peers wanted at most; `None`: as many as there are offers.
    pub numwant: Option<u32>,
    /// Each for another peer; at most [`WS_OFFERS_MAX`].
    pub offers: Vec<Offer>,
}

impl Announce {
    /// A regular announce with nothing transferred, nothing known to be missing and no offers.
    pub const fn new(swarm_id: SwarmId, peer_id: PeerId) -> Self {
        Self {
            swarm_id,
            peer_id,
            uploaded: 0,
            downloaded: 0,
            left: None,
            event: AnnounceEvent::Regular,
            numwant: None,
            offers: Vec::new(),
        }
    }
}

/// A connection that one peer offers to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its name.
    pub id: OfferId,
    /// The session description (RFC 8866), at most [`WS_SDP_LEN_MAX`] bytes; nothing in it is
    /// looked at.
    pub sdp: String,
}

/// The answer to an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The swarm, by the id that the answering peer announces.
    pub swarm_id: SwarmId,
    /// The answering peer's own id.
    pub peer_id: PeerId,
    /// Who made the offer.
    pub to_peer_id: PeerId,
    /// Which offer.
    pub offer_id: OfferId,
    /// The session description, as in an [`Offer`].
    pub sdp: String,
}

/// Why a message is no request. The client's fault; its `Display` goes back to it as the failure
/// reason, so it names the key and never the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// Longer than [`WS_MESSAGE_LEN_MAX`].
    #[error("message is too long")]
    TooLong,
    /// Not JSON, or nested deeper than anybody needs.
    #[error("message is not JSON")]
    NotJson,
    /// JSON of another shape: a wrong type, or a key given twice.
    #[error("message has a value of the wrong type, or a key twice")]
    WrongShape,
    /// Neither `announce` nor `scrape`.
    #[error("action is not known")]
    UnknownAction,
    /// A key that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// An id that is not 20 bytes long, or has characters that are no bytes.
    #[error("{0} must be 20 bytes")]
    BadId(&'static str),
    /// An offer that is no offer, an answer that is no answer.
    #[error("{0} is of another type")]
    BadType(&'static str),
    /// A session description longer than [`WS_SDP_LEN_MAX`].
    #[error("sdp is too long")]
    SdpTooLong,
    /// More than [`SCRAPE_HASHES_MAX`] swarms in one scrape, or none.
    #[error("info_hash must name between one and {SCRAPE_HASHES_MAX} swarms")]
    BadScrape,
}

impl Request {
    /// Reads a message, text or binary alike.
    ///
    /// A number that is none of at least 0 and below 2^64 counts as not given, an unknown `event`
    /// as none, and offers past [`WS_OFFERS_MAX`] are not read.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn decode(message: &[u8]) -> Result<Self, MessageError> {
        if message.len() > WS_MESSAGE_LEN_MAX {
            return Err(MessageError::TooLong);
        }
        let raw: Result<Object<Raw>, _> = serde_json::from_slice(message);
        let Object(raw) = raw.map_err(|error| match error.classify() {
            Category::Data => MessageError::WrongShape,
            Category::Io | Category::Syntax | Category::Eof => MessageError::NotJson,
        })?;
        let action = raw.action.as_deref();
        match action.ok_or(MessageError::Missing("action"))? {
            "announce" if raw.answer.is_some() => Ok(Self::Answer(raw.answer()?)),
            "announce" => Ok(Self::Announce(raw.announce()?)),
            "scrape" => Ok(Self::Scrape(raw.scrape()?)),
            _ => Err(MessageError::UnknownAction),
        }
    }

    /// Writes a message; [`decode`](Self::decode) undoes it.
    pub fn encode(&self) -> String {
        let raw = match self {
            Self::Announce(announce) => Raw {
                action: Some("announce".into()),
                info_hash: Some(Swarms::One(latin1(announce.swarm_id.as_ref()))),
                peer_id: Some(latin1(announce.peer_id.as_ref())),
                uploaded: Some(announce.uploaded),
                downloaded: Some(announce.downloaded),
                left: announce.left,
                event: announce.event.as_str().map(str::to_owned),
                numwant: announce.numwant.map(u64::from),
                offers: Some(Few::from(announce.offers.iter().map(|offer| {
                    Object(RawOffer {
                        offer_id: Some(latin1(&offer.id)),
                        offer: Some(Object(Description::new(OFFER, &offer.sdp))),
                    })
                }))),
                ..Raw::default()
            },
            Self::Answer(answer) => Raw {
                action: Some("announce".into()),
                info_hash: Some(Swarms::One(latin1(answer.swarm_id.as_ref()))),
                peer_id: Some(latin1(answer.peer_id.as_ref())),
                to_peer_id: Some(latin1(answer.to_peer_id.as_ref())),
                offer_id: Some(latin1(&answer.offer_id)),
                answer: Some(Object(Description::new(ANSWER, &answer.sdp))),
                ..Raw::default()
            },
            Self::Scrape(scrape) => {
                let ids = scrape.swarm_ids.iter().map(|id| latin1(id.as_ref()));
                Raw {
                    action: Some("scrape".into()),
                    info_hash: Some(Swarms::Many(Few::from(ids))),
                    ..Raw::default()
                }
            }
        };
        // Strings, numbers and lists of those: nothing that JSON cannot hold.
        serde_json::to_string(&raw).unwrap_or_default()
    }
}

pub(super) const OFFER: &str = "offer";
pub(super) const ANSWER: &str = "answer";

/// A message as it stands in JSON. Nothing in it is longer than the message.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Raw {
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info_hash: Option<Swarms>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_peer_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offer_id: Option<String>,
    #[serde(deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    uploaded: Option<u64>,
    #[serde(deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    downloaded: Option<u64>,
    #[serde(deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    left: Option<u64>,
    #[serde(deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    numwant: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offers: Option<Few<Object<RawOffer>, WS_OFFERS_MAX>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Object<Description>>,
}

#[derive(Debug, Deserialize, Serialize)]
struct RawOffer {
    offer_id: Option<String>,
    offer: Option<Object<Description>>,
}

/// A session description with its type, both ways.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Description {
    #[serde(rename = "type")]
    kind: Option<String>,
    sdp: Option<String>,
}

impl Description {
    pub(super) fn new(kind: &str, sdp: &str) -> Self {
        Self {
            kind: Some(kind.to_owned()),
            sdp: Some(sdp.to_owned()),
        }
    }

    fn sdp(self, kind: &'static str) -> Result<String, MessageError> {
        if self.kind.as_deref() != Some(kind) {
            return Err(MessageError::BadType(kind));
        }
        let sdp = self.sdp.ok_or(MessageError::Missing("sdp"))?;
        if sdp.len() > WS_SDP_LEN_MAX {
            return Err(MessageError::SdpTooLong);
        }
        Ok(sdp)
    }
}

impl Raw {
    fn swarm_id(&self) -> Result<SwarmId, MessageError> {
        match &self.info_hash {
            Some(Swarms::One(text)) => bytes("info_hash", text).map(SwarmId::new),
            Some(Swarms::Many(_)) => Err(MessageError::BadId("info_hash")),
            None => Err(MessageError::Missing("info_hash")),
        }
    }

    fn announce(self) -> Result<Announce, MessageError> {
        let swarm_id = self.swarm_id()?;
        let offers = self.offers.map(|offers| offers.items).unwrap_or_default();
        Ok(Announce {
            swarm_id,
            peer_id: given("peer_id", self.peer_id.as_deref())?.into(),
            uploaded: self.uploaded.unwrap_or(0),
            downloaded: self.downloaded.unwrap_or(0),
            left: self.left,
            event: match self.event.as_deref() {
                Some("started") => AnnounceEvent::Started,
                Some("stopped") => AnnounceEvent::Stopped,
                Some("completed") => AnnounceEvent::Completed,
                _ => AnnounceEvent::Regular,
            },
            numwant: self
                .numwant
                .map(|wanted| u32::try_from(wanted).unwrap_or(u32::MAX)),
            offers: offers
                .into_iter()
                .map(|Object(raw)| {
                    let Object(offer) = raw.offer.ok_or(MessageError::Missing("offer"))?;
                    Ok(Offer {
                        id: given("offer_id", raw.offer_id.as_deref())?,
                        sdp: offer.sdp(OFFER)?,
                    })
                })
                .collect::<Result<_, _>>()?,
        })
    }

    fn answer(self) -> Result<Answer, MessageError> {
        let swarm_id = self.swarm_id()?;
        let Object(answer) = self.answer.ok_or(MessageError::Missing("answer"))?;
        Ok(Answer {
            swarm_id,
            peer_id: given("peer_id", self.peer_id.as_deref())?.into(),
            to_peer_id: given("to_peer_id", self.to_peer_id.as_deref())?.into(),
            offer_id: given("offer_id", self.offer_id.as_deref())?,
            sdp: answer.sdp(ANSWER)?,
        })
    }

    fn scrape(self) -> Result<ScrapeRequest, MessageError> {
        let ids = match self.info_hash.ok_or(MessageError::Missing("info_hash"))? {
            Swarms::One(text) => vec![text],
            Swarms::Many(Few { more: true, .. }) => return Err(MessageError::BadScrape),
            Swarms::Many(Few { items, .. }) if items.is_empty() => {
                return Err(MessageError::BadScrape);
            }
            Swarms::Many(Few { items, .. }) => items,
        };
        let ids = ids
            .iter()
            .map(|text| bytes("info_hash", text).map(SwarmId::new));
        Ok(ScrapeRequest {
            swarm_ids: ids.collect::<Result<_, _>>()?,
        })
    }
}

fn given(key: &'static str, text: Option<&str>) -> Result<[u8; 20], MessageError> {
    bytes(key, text.ok_or(MessageError::Missing(key))?)
}

/// Undoes [`latin1`], for 20 bytes.
fn bytes(key: &'static str, text: &str) -> Result<[u8; 20], MessageError> {
    let mut chars = text.chars();
    let mut id = [0; 20];
    for byte in &mut id {
        let next = chars.next().and_then(|c| u8::try_from(u32::from(c)).ok());
        *byte = next.ok_or(MessageError::BadId(key))?;
    }
    match chars.next() {
        None => Ok(id),
        Some(_) => Err(MessageError::BadId(key)),
    }
}

/// A number as JavaScript may write it: what is not at least 0 and whole is not given. `Infinity`
/// comes as null.
fn count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    struct Count;
    impl Visitor<'_> for Count {
        type Value = Option<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number")
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
            Ok(Some(value))
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
            Ok(u64::try_from(value).ok())
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }
    from.deserialize_any(Count)
}

/// An object written as one; serde would take a list of values in its place.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Map<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Map<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        from.deserialize_map(Map(PhantomData))
    }
}

/// The front of a list: what comes after `MAX` items is checked to be JSON and not kept.
#[derive(Debug)]
struct Few<T, const MAX: usize> {
    items: Vec<T>,
    more: bool,
}

impl<T, const MAX: usize> Few<T, MAX> {
    fn from(items: impl Iterator<Item = T>) -> Self {
        Self {
            items: items.collect(),
            more: false,
        }
    }
}

impl<T: Serialize, const MAX: usize> Serialize for Few<T, MAX> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.items.serialize(to)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Few<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
            type Value = Few<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while items.len() < MAX {
                    match list.next_element()? {
                        Some(item) => items.push(item),
                        None => return Ok(Few { items, more: false }),
                    }
                }
                let mut more = false;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    more = true;
                }
                Ok(Few { items, more })
            }
        }
        from.deserialize_seq(List(PhantomData))
    }
}

/// `info_hash`: one in an announce, one or a list of them in a scrape.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Swarms {
    One(String),
    Many(Few<String, SCRAPE_HASHES_MAX>),
}

impl<'de> Deserialize<'de> for Swarms {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Swarms;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Swarms::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Few::deserialize(SeqAccessDeserializer::new(list)).map(Swarms::Many)
            }
        }
        from.deserialize_any(OneOrMany)
    }
}
