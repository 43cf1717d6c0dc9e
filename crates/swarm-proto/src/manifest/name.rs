//! [`SiteName`]: which site, as a signed format, a DNS label and a `Host` header spell it.
//!
//! Nothing here resolves a name; whether it may be dialled is the connector's business.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};
use unicode_security::{MixedScript as _, RestrictionLevel, RestrictionLevelDetection as _};
use url::{Host, Url};

use crate::limits;

/// A site: host, and port where it is not the scheme's own.
///
/// Always canonical: lower case, IDNA in its ASCII form (`xn--…`, which is also what is shown), no
/// trailing dot, no label of mixed scripts, IPv6 in brackets. Two equal sites are therefore equal byte strings, which signed formats rely on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteName(Arc<str>);

/// Why a text is no site name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Longer than a DNS name with a port can be.
    #[error("site name of {0} bytes is too long")]
    TooLong(usize),
    /// A character that no `host[:port]` has.
    #[error("site name has the character {0:?}")]
    Character(char),
    /// The host is no domain name and no IP address.
    #[error("no host name: {0}")]
    Host(String),
    /// A label mixes scripts as no language does, so that it can pass for another.
    #[error("a label mixes scripts: {0}")]
    MixedScripts(String),
    /// The port is no number from 1 to 65535.
    #[error("bad port in the site name")]
    Port,
    /// Not an `http` or `https` URL, or one with a user name or password in it.
    #[error("not a plain http or https URL: {0}")]
    Url(String),
    /// Another spelling of a name than the one signed formats use.
    #[error("site name is not spelt canonically")]
    NotCanonical,
}

impl SiteName {
    /// Reads `host` or `host:port`, in any spelling, and keeps the canonical one.
    ///
    /// # Errors
    /// [`NameError`]: the text is no host with an optional port.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.len() > limits::SITE_NAME_LEN_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        // The URL host parser decodes `%41` and forgives much; a name typed here has none of it.
        if let Some(bad) = text.chars().find(|c| {
            c.is_control() || c.is_whitespace() || matches!(c, '/' | '\\' | '@' | '?' | '#' | '%')
        }) {
            return Err(NameError::Character(bad));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        let port = match port {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(
                digits
                    .parse::<u16>()
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or(NameError::Port)?,
            ),
            Some(_) => return Err(NameError::Port),
            None => None,
        };
        Self::from_parts(host, port)
    }

    /// Reads a name as signed formats hold it: any spelling but the canonical one is refused.
    ///
    /// # Errors
    /// [`NameError::NotCanonical`], or what [`SiteName::parse`] finds.
    pub fn parse_canonical(text: &str) -> Result<Self, NameError> {
        let name = Self::parse(text)?;
        if name.as_str() == text {
            Ok(name)
        } else {
            Err(NameError::NotCanonical)
        }
    }

    /// The site of an `http` or `https` URL; path, query and fragment do not matter.
    ///
    /// # Errors
    /// [`NameError::Url`] for another scheme, no host, or a user name or password.
    pub fn from_url(url: &str) -> Result<Self, NameError> {
        if url.len() > limits::URL_LEN_MAX {
            return Err(NameError::TooLong(url.len()));
        }
        let parsed = Url::parse(url).map_err(|error| NameError::Url(error.to_string()))?;
        Self::of(&parsed)
    }

    /// The site of a parsed URL, as [`SiteName::from_url`].
    ///
    /// # Errors
    /// As [`SiteName::from_url`].
    pub fn of(url: &Url) -> Result<Self, NameError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(NameError::Url(format!("scheme {}", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(NameError::Url("it has a user name".into()));
        }
        let host = url
            .host_str()
            .ok_or_else(|| NameError::Url("it has no host".into()))?;
        Self::from_parts(host, url.port())
    }

    fn from_parts(host: &str, port: Option<u16>) -> Result<Self, NameError> {
        let host = match Host::parse(host).map_err(|error| NameError::Host(error.to_string()))? {
            Host::Domain(domain) => {
                let domain = domain.strip_suffix('.').unwrap_or(&domain);
                let labels_fit = domain
                    .split('.')
                    .all(|label| !label.is_empty() && label.len() <= 63);
                if domain.is_empty() || domain.len() > 253 || !labels_fit {
                    return Err(NameError::Host("a label is empty or too long".into()));
                }
                // Seldom so: most names have no label in punycode.
                let labels = domain.split('.').filter(|label| label.starts_with("xn--"));
                if let Some(label) = labels.into_iter().find(|label| mixes_scripts(label)) {
                    return Err(NameError::MixedScripts(label.to_owned()));
                }
                domain.to_owned()
            }
            address => address.to_string(),
        };
        Ok(Self(match port {
            Some(port) => format!("{host}:{port}").into(),
            None => host.into(),
        }))
    }

    /// `host` or `host:port`, canonical.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host alone; IPv6 keeps its brackets.
    pub fn host(&self) -> &str {
        match self.0.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => host,
            _ => &self.0,
        }
    }

    /// The port, where the name has one.
    pub fn port(&self) -> Option<u16> {
        let (_, port) = self.0.rsplit_once(':')?;
        port.parse().ok()
    }

    /// The one DNS label under which bridges serve this site (`<label>.<bridge domain>`).
    ///
    /// `.` becomes `-`, `-` becomes `--` and `:` becomes `---`, which is injective as long as no
    /// part begins or ends with `-`. A name where that does not hold, that has other characters,
    /// or whose label would be too long or look like punycode, gets `x` and the base32 of its
    /// SHA-256 instead. There is no way back from a label: compare labels of known sites.
    pub fn label(&self) -> String {
        if let Some(label) = self.spelt_label() {
            return label;
        }
        let digest = Sha256::digest(self.0.as_bytes());
        format!("x{}", BASE32_NOPAD.encode(&digest).to_ascii_lowercase())
    }

    fn spelt_label(&self) -> Option<String> {
        let mut label = String::with_capacity(64);
        for part in self.0.split(['.', ':']) {
            if part.starts_with('-') || part.ends_with('-') {
                return None;
            }
        }
        for c in self.0.chars() {
            match c {
                'a'..='z' | '0'..='9' => label.push(c),
                '.' => label.push('-'),
                '-' => label.push_str("--"),
                ':' => label.push_str("---"),
                _ => return None,
            }
        }
        // A bare word of this shape could be another site's hashed label.
        let looks_hashed = label.len() == 53 && label.starts_with('x') && !label.contains('-');
        // Browsers refuse a label that starts like punycode and is none.
        let looks_punycode = label.get(..4) == Some("xn--");
        (label.len() <= 63 && !looks_hashed && !looks_punycode).then_some(label)
    }
}

/// Whether a label in punycode mixes scripts, other than those that are written together: Latin
/// with Chinese, Japanese or Korean ("highly restrictive" of UTS 39, 5.2).
fn mixes_scripts(label: &str) -> bool {
    let (label, _) = idna::domain_to_unicode(label);
    !label.is_single_script() && !label.check_restriction_level(RestrictionLevel::HighlyRestrictive)
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SiteName({})", self.0)
    }
}

impl FromStr for SiteName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_canonical_whatever_was_typed() {
        for (text, canonical) in [
            ("example.org", "example.org"),
            ("EXAMPLE.org:8080", "example.org:8080"),
            ("example.org.", "example.org"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("0x7f.1", "127.0.0.1"),
            ("[::1]:80", "[::1]:80"),
            ("[0:0::1]", "[::1]"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(SiteName::parse(text).unwrap().as_str(), canonical, "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_site_are_refused() {
        let long = "a.".repeat(200);
        let label = format!("{}.org", "a".repeat(64));
        for text in [
            "",
            ":80",
            ".",
            "..",
            "a..b",
            "a b",
            "a/b",
            "user@host",
            "host:",
            "host:0",
            "host:65536",
            "host:8x",
            "host:+80",
            "a%2eb",
            "a\\b",
            "[::1",
            "[::1]x",
            "::1",
            "a\0b",
            "a?b",
            "a#b",
            "1.2.3.4.5",
            &long,
            &label,
        ] {
            assert!(SiteName::parse(text).is_err(), "{text:?} was taken");
        }
        assert_eq!(
            SiteName::parse_canonical("Example.org"),
            Err(NameError::NotCanonical)
        );
    }

    #[test]
    fn a_url_names_its_site_without_the_default_port() {
        for (url, canonical) in [
            ("https://Example.org/", "example.org"),
            ("https://example.org:443/a/b?c#d", "example.org"),
            ("http://example.org:443/", "example.org:443"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ] {
            assert_eq!(
                SiteName::from_url(url).unwrap().as_str(),
                canonical,
                "{url}"
            );
        }
        for url in [
            "ftp://example.org/",
            "example.org",
            "https://u:p@example.org/",
            "https:///",
            "data:,a",
        ] {
            assert!(SiteName::from_url(url).is_err(), "{url} was taken");
        }
    }

    #[test]
    fn labels_are_one_dns_label_and_differ_where_names_differ() {
        for (name, label) in [
            ("example.org", "example-org"),
            ("my-site.example.org", "my--site-example-org"),
            ("127.0.0.1:8080", "127-0-0-1---8080"),
        ] {
            assert_eq!(SiteName::parse(name).unwrap().label(), label);
        }
        let long = format!("{}.org", "a".repeat(63));
        let hashed = SiteName::parse("[::1]").unwrap().label();
        let odd = [
            "xn--bcher-kva.example",
            "xn-a.org",
            "a_b.org",
            "a-.b",
            "a.-b",
            "[::1]:80",
            &long,
            &hashed,
        ];
        let mut seen = vec![hashed.clone()];
        for name in odd {
            let label = SiteName::parse(name).unwrap().label();
            assert_eq!(label.len(), 53, "{name}");
            assert!(!seen.contains(&label), "{name}");
            seen.push(label);
        }
    }

    #[test]
    fn host_and_port_come_apart_again() {
        let name = SiteName::parse("[::1]:8080").unwrap();
        assert_eq!((name.host(), name.port()), ("[::1]", Some(8080)));
        let name = SiteName::parse("[::1]").unwrap();
        assert_eq!((name.host(), name.port()), ("[::1]", None));
        let name = SiteName::parse("a.org").unwrap();
        assert_eq!((name.host(), name.port()), ("a.org", None));
    }
}
