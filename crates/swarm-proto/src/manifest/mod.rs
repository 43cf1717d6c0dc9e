//! What a site signs: keys, manifest, freshness stamp, alarm; and how a reader comes to believe it.
//!
//! Formats and processing are spec 0002. Everything is canonical bencode inside an [`Envelope`]
//! whose signature covers exact bytes, a type and the site's name. The order of trust:
//!
//! ```text
//! root key (pinned, or learnt over TLS) ─▶ SignedKeySet ─▶ KeySet ─▶ SignedManifest ─▶ SiteManifest
//!                                                             └────▶ SignedStamp, SignedAlarm
//! ```
//!
//! What is *claimed* is always named so; what is believed comes out of `verify`, `open` or a
//! [`SiteTrust`]. Deliberately absent: clocks (`now` is seconds since 1970, an argument), storage,
//! fetching.

mod alarm;
mod consent;
mod envelope;
mod error;
mod fields;
mod home;
mod key;
mod keyset;
mod name;
mod path;
mod record;
mod signed;
mod site;
mod stamp;
mod trust;

#[cfg(test)]
mod tests;

pub use alarm::{Alarm, SignedAlarm};
pub use consent::{CONSENTS_MAX, Consent, ConsentError, consent_name};
pub use envelope::{Envelope, PayloadType};
pub use error::{FormatError, TrustError};
pub use home::HomeUrl;
pub use key::{KeyError, PublicKey, Role, SecretKey};
pub use keyset::{Anchor, KeySet, SignedKeySet};
pub use name::{NameError, SiteName};
pub use path::{PathError, SitePath};
pub use record::SiteRecord;
pub use signed::{ManifestHead, SignedManifest};
pub use site::{
    BundleEntry, Encoding, FileEntry, INDEX_PAGES, Lookup, SiteManifest, Variant, is_media_type,
};
pub use stamp::{SignedStamp, Stamp};
pub use trust::SiteTrust;
