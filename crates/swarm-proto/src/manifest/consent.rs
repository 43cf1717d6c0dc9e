//! What a site that installs nothing says in DNS: whose copy of it may be handed out, and where it
//! is at home (spec 0006, 10).
//!
//! ```text
//! _spikeswarm.example.org. TXT "v=1; origin=https://origin.example.org; operator=<root key>"
//! ```

use std::net::IpAddr;

use super::{HomeUrl, PublicKey, SiteName};

/// The label below which a site's record stands.
const LABEL: &str = "_spikeswarm";
/// Longest text of a record that is read, bytes.
const CONSENT_LEN_MAX: usize = 1024;
/// Records of one site that are looked at.
pub const CONSENTS_MAX: usize = 8;

/// One operator whom a site lets carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// Where the site itself answers; never the public name.
    pub origin: HomeUrl,
    /// The operator's key, which is the root of the site's keys.
    pub operator: PublicKey,
}

/// Why a record that begins as ours is not taken. The site's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConsentError {
    /// Longer than any record needs to be.
    #[error("record of {0} bytes is too long")]
    TooLong(usize),
    /// Something between two semicolons is no `key=value`.
    #[error("{0:?} is no key=value")]
    Field(String),
    /// The same key twice: which one is meant?
    #[error("{0} is given twice")]
    Twice(&'static str),
    /// A key without which it says nothing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A value that is none.
    #[error("{key}: {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        why: String,
    },
    /// Visitors sent home would come back to the tracker.
    #[error("origin: {0} is the public name itself")]
    OriginIsPublic(SiteName),
}

impl Consent {
    /// Reads the text of one TXT record of `site`; `None`: the record is about something else.
    ///
    /// Fields stand between semicolons, in any order but for `v=1`, which is the first. What is
    /// not known is passed over, so that more can be said one day.
    ///
    /// # Errors
    /// [`ConsentError`]: it begins with `v=1` and is not good.
    pub fn parse(site: &SiteName, text: &str) -> Result<Option<Self>, ConsentError> {
        let mut fields = text.split(';').map(str::trim);
        if fields.next().map(without_spaces).as_deref() != Some("v=1") {
            return Ok(None);
        }
        if text.len() > CONSENT_LEN_MAX {
            return Err(ConsentError::TooLong(text.len()));
        }
        let (mut origin, mut operator) = (None, None);
        for field in fields.filter(|field| !field.is_empty()) {
            let Some((key, value)) = field.split_once('=') else {
                return Err(ConsentError::Field(field.to_owned()));
            };
            let (key, value) = (key.trim(), value.trim());
            let (place, key) = match key {
                "origin" => (&mut origin, "origin"),
                "operator" => (&mut operator, "operator"),
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(ConsentError::Twice(key));
            }
        }
        let origin: HomeUrl = origin
            .ok_or(ConsentError::Missing("origin"))?
            .parse()
            .map_err(|why| ConsentError::Value { key: "origin", why })?;
        let operator = operator.ok_or(ConsentError::Missing("operator"))?;
        let operator = operator
            .parse()
            .map_err(|error: super::KeyError| ConsentError::Value {
                key: "operator",
                why: error.to_string(),
            })?;
        if origin.site() == site {
            return Err(ConsentError::OriginIsPublic(site.clone()));
        }
        Ok(Some(Self { origin, operator }))
    }

    /// The record as a site's owner writes it.
    pub fn to_text(&self) -> String {
        format!("v=1; origin={}; operator={}", self.origin, self.operator)
    }
}

fn without_spaces(text: &str) -> String {
    text.split_whitespace().collect()
}

/// The name to ask for a site's record; `None`: the site's host has no name, or one that DNS does
/// not know (RFC 6761), or its name is too long for one more label.
pub fn consent_name(site: &SiteName) -> Option<String> {
    let host = site.host();
    let local = host == "localhost" || host.ends_with(".localhost");
    let named = !local && !host.starts_with('[') && host.parse::<IpAddr>().is_err();
    let name = format!("{LABEL}.{host}.");
    (named && name.len() <= 254).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::SecretKey;

    fn site() -> SiteName {
        SiteName::parse("example.org").unwrap()
    }

    fn key() -> PublicKey {
        SecretKey::new([7; 32]).public()
    }

    #[test]
    fn a_record_is_read_in_any_order_and_written_as_it_is_read() {
        let key = key();
        let plain = format!("v=1; origin=https://origin.example.org; operator={key}");
        let consent = Consent::parse(&site(), &plain).unwrap().unwrap();
        assert_eq!(consent.origin.base(), "https://origin.example.org");
        assert_eq!(consent.operator, key);
        assert_eq!(consent.to_text(), plain);
        for same in [
            format!("v=1;operator={key};origin=https://origin.example.org/"),
            format!(
                " v = 1 ;; later=any thing; operator = {key} ; origin=https://ORIGIN.example.org:443;"
            ),
        ] {
            assert_eq!(
                Consent::parse(&site(), &same),
                Ok(Some(consent.clone())),
                "{same}"
            );
        }
    }

    #[test]
    fn other_records_are_passed_over_and_bad_ones_named() {
        for other in [
            "",
            "v=2; origin=x",
            "v=spf1 -all",
            "origin=https://x.example",
            "v=10",
        ] {
            assert_eq!(Consent::parse(&site(), other), Ok(None), "{other}");
        }
        let key = key();
        let bad = |text: &str| Consent::parse(&site(), text).unwrap_err().to_string();
        for (text, why) in [
            ("v=1".to_owned(), "origin is missing"),
            (
                "v=1; origin=https://o.example".into(),
                "operator is missing",
            ),
            (format!("v=1; operator={key}; origin"), "no key=value"),
            (
                format!("v=1; operator={key}; operator={key}; origin=https://o.example"),
                "operator is given twice",
            ),
            (
                format!("v=1; operator={key}; origin=ftp://o.example"),
                "origin: ",
            ),
            (
                format!("v=1; operator={key}; origin=https://o.example/path"),
                "more than scheme",
            ),
            (
                format!("v=1; operator={key}; origin=https://u@o.example"),
                "more than scheme",
            ),
            (
                format!("v=1; operator={key}; origin=https://example.org"),
                "the public name itself",
            ),
            (
                format!("v=1; operator={key}; origin=http://EXAMPLE.org."),
                "the public name itself",
            ),
            (
                "v=1; operator=00; origin=https://o.example".into(),
                "operator: a public key",
            ),
            (
                format!(
                    "v=1; operator={}; origin=https://o.example",
                    "00".repeat(32)
                ),
                "operator: ",
            ),
            (format!("v=1; x={}", "y".repeat(1100)), "too long"),
        ] {
            assert!(bad(&text).contains(why), "{text}: {}", bad(&text));
        }
    }

    #[test]
    fn only_names_are_asked_for() {
        let name = |site: &str| consent_name(&SiteName::parse(site).unwrap());
        assert_eq!(
            name("example.org").as_deref(),
            Some("_spikeswarm.example.org.")
        );
        assert_eq!(
            name("example.org:8080").as_deref(),
            Some("_spikeswarm.example.org.")
        );
        let long = [
            "a".repeat(63),
            "b".repeat(63),
            "c".repeat(63),
            "d".repeat(60),
        ]
        .join(".");
        for none in ["127.0.0.1", "[::1]:80", "localhost", "x.localhost", &long] {
            assert_eq!(name(none), None, "{none}");
        }
    }
}
