//! [`Alarm`]: "this site is in need until then" (spec 0002, 7).

use super::envelope::{Envelope, Lifetime, PayloadType};
use super::error::{FormatError, TrustError};
use super::fields::{Fields as _, decode_dict, field, int};
use super::key::{Role, SecretKey};
use super::keyset::KeySet;
use super::name::SiteName;
use crate::bencode::Item;
use crate::limits;

/// What the alarm key signs in a spike. Short-lived, and renewed while the spike lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// The site in need.
    pub site: SiteName,
    /// Seconds since 1970.
    pub issued: u64,
    /// Seconds since 1970, at most an hour after `issued`.
    pub until: u64,
    /// How bad it is: 0 for warming, higher for worse. Volunteers may rank by it.
    pub level: u8,
    /// URL of the site itself, scheme included: where visitors are sent home to. Its host and
    /// port are those of `site`, so that an alarm sends nobody elsewhere.
    pub home: String,
    /// Sequence of the manifest that the site wants served.
    pub manifest_sequence: u64,
}

impl Alarm {
    fn lifetime(&self) -> Lifetime {
        Lifetime {
            what: "alarm",
            made: self.issued,
            expires: self.until,
            max: limits::ALARM_LIFETIME_SECS_MAX,
        }
    }

    fn check(&self) -> Result<(), FormatError> {
        // It becomes a `Location` header; URL parsers forgive line breaks.
        if !self.home.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(field("home", "not printable"));
        }
        if SiteName::from_url(&self.home)? != self.site {
            return Err(field("home", "another site than the alarm's"));
        }
        Ok(())
    }

    fn from_payload(payload: &[u8]) -> Result<Self, FormatError> {
        let dict = decode_dict("alarm", payload, limits::ENVELOPE_LEN_MAX, 64)?;
        let alarm = Self {
            site: dict.need_site()?,
            issued: dict.need_u64("issued")?,
            until: dict.need_u64("until")?,
            level: u8::try_from(dict.need_u64("level")?)
                .map_err(|_| field("level", "too large"))?,
            home: dict.need_str("home", limits::URL_LEN_MAX)?.to_owned(),
            manifest_sequence: dict.need_u64("manifest")?,
        };
        alarm.check()?;
        Ok(alarm)
    }
}

/// An alarm as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedAlarm {
    envelope: Envelope,
    claimed: Alarm,
}

impl SignedAlarm {
    /// Signs an alarm with an alarm key.
    ///
    /// # Errors
    /// [`TrustError::LivesTooLong`] or [`TrustError::Malformed`]: it would be refused by readers.
    pub fn sign(alarm: &Alarm, key: &SecretKey) -> Result<Self, TrustError> {
        alarm.check()?;
        alarm.lifetime().check_span()?;
        let payload = Item::dict([
            ("home", Item::bytes(&alarm.home)),
            ("issued", int("issued", alarm.issued)?),
            ("level", Item::int(alarm.level.into())),
            ("manifest", int("manifest", alarm.manifest_sequence)?),
            ("site", Item::bytes(alarm.site.as_str())),
            ("until", int("until", alarm.until)?),
        ])
        .to_bytes();
        Ok(Self {
            envelope: Envelope::sign(PayloadType::Alarm, payload, &[key]),
            claimed: alarm.clone(),
        })
    }

    /// Reads an alarm.
    ///
    /// # Errors
    /// [`TrustError::Malformed`] or [`TrustError::WrongType`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        let envelope = Envelope::parse(PayloadType::Alarm, bytes)?;
        let claimed = Alarm::from_payload(envelope.payload())?;
        Ok(Self { envelope, claimed })
    }

    /// Canonical bencode.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.envelope.to_bytes()
    }

    /// The alarm as it claims to be; nothing is verified.
    pub fn claimed(&self) -> &Alarm {
        &self.claimed
    }

    /// Parses and verifies in one step; see [`SignedAlarm::verify`].
    ///
    /// # Errors
    /// As [`SignedAlarm::parse`] and [`SignedAlarm::verify`].
    pub fn open(bytes: &[u8], keys: &KeySet, now: u64) -> Result<Alarm, TrustError> {
        Self::parse(bytes)?.verify(keys, now)
    }

    /// Believes the alarm, or names the reason not to. `now` is seconds since 1970.
    ///
    /// # Errors
    /// [`TrustError`]: signature, site, or time.
    pub fn verify(&self, keys: &KeySet, now: u64) -> Result<Alarm, TrustError> {
        self.envelope.verify(Role::Alarm, &keys.alarm, 1)?;
        if self.claimed.site != keys.site {
            return Err(TrustError::WrongSite {
                expected: keys.site.clone(),
                got: self.claimed.site.clone(),
            });
        }
        self.claimed.lifetime().check(now)?;
        Ok(self.claimed.clone())
    }
}
