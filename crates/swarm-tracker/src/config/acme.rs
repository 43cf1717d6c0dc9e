//! Certificates that the tracker gets itself (RFC 8555).

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use swarm_proto::manifest::{NameError, SiteName};
use url::Url;

/// Names for which certificates are got and kept at a time: each is an order at the authority every
/// two months, and what its limits allow for.
pub(crate) const NAMES_MAX: usize = 1000;

/// Why certificates cannot be got as told. The operator's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcmeConfigError {
    /// Nobody has agreed to the authority's terms.
    #[error(
        ": the terms of service of {0} must be agreed to: --acme-agree-terms, or \
         acme.terms_agreed = true"
    )]
    TermsNotAgreed(String),
    /// No https URL for the authority.
    #[error(".directory: {0:?} is no https URL")]
    Directory(String),
    /// Certificates would be got anew at each start.
    #[error(": nowhere to keep certificates: --acme-dir, or --state")]
    NoDir,
    /// No name to get a certificate for.
    #[error(": no name to get a certificate for: --acme-name, or --acme-sites")]
    NoNames,
    /// More names than there may be.
    #[error(".names: more than {NAMES_MAX}")]
    TooManyNames,
    /// A contact that is no address of mail.
    #[error(".contact: {0:?} does not begin with mailto:")]
    Contact(String),
}

/// Which certificates are got, and from whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AcmeConfig {
    /// The certificate authority's directory, an https URL. Default: Let's Encrypt's.
    pub directory: String,
    /// Where the authority may write to, as `mailto:who@example.org`. Default: nowhere.
    pub contact: Vec<String>,
    /// Names of this tracker. The first for which there is a certificate is shown to whoever asks
    /// for no name or for one that is not known. Default: none.
    pub names: Vec<CertificateName>,
    /// Whether certificates are got for names of sites as well, which lead here in host mode: those
    /// of `site_keys` and `homes`, and who asks for it later. Default: no.
    pub sites: bool,
    /// Where account, keys and certificates are kept, for this program's eyes only. Default: `acme`
    /// below `state`.
    pub dir: Option<PathBuf>,
    /// Roots to believe in when talking to the authority, as PEM, in place of the usual ones: for
    /// an authority of one's own. Default: none.
    pub ca_file: Option<PathBuf>,
    /// That the operator agrees to the authority's terms of service. Must be true.
    pub terms_agreed: bool,
    /// How it is shown that a name leads here. Default: what the authority offers, `http-01` first.
    pub challenge: Option<ChallengeKind>,
}

impl Default for AcmeConfig {
    fn default() -> Self {
        Self {
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            contact: Vec::new(),
            names: Vec::new(),
            sites: false,
            dir: None,
            ca_file: None,
            terms_agreed: false,
            challenge: None,
        }
    }
}

impl AcmeConfig {
    /// Checks what the types do not; `with_state`: whether there is a directory of state.
    pub(super) fn check(&self, with_state: bool) -> Result<(), AcmeConfigError> {
        let url = Url::parse(&self.directory).ok();
        if !url.is_some_and(|url| url.scheme() == "https" && url.has_host()) {
            return Err(AcmeConfigError::Directory(self.directory.clone()));
        }
        if !self.terms_agreed {
            return Err(AcmeConfigError::TermsNotAgreed(self.directory.clone()));
        }
        if self.dir.is_none() && !with_state {
            return Err(AcmeConfigError::NoDir);
        }
        if self.names.is_empty() && !self.sites {
            return Err(AcmeConfigError::NoNames);
        }
        if self.names.len() > NAMES_MAX {
            return Err(AcmeConfigError::TooManyNames);
        }
        let bad = |contact: &&String| contact.strip_prefix("mailto:").is_none_or(str::is_empty);
        match self.contact.iter().find(bad) {
            Some(contact) => Err(AcmeConfigError::Contact(contact.clone())),
            None => Ok(()),
        }
    }
}

/// How an authority is shown that a name leads here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ChallengeKind {
    /// A file over HTTP, at port 80 of the name (RFC 8555, 8.3).
    #[serde(rename = "http-01")]
    Http01,
    /// A certificate over TLS, at port 443 of the name (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

impl ChallengeKind {
    /// As it is written in the protocol.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

impl FromStr for ChallengeKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = [Self::Http01, Self::TlsAlpn01].into_iter();
        all.find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("{text:?} is neither http-01 nor tls-alpn-01"))
    }
}

/// A host name for which there can be a certificate: canonical, in ASCII.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateName(Arc<str>);

/// Why there can be no certificate for a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadCertificateName {
    /// It is no name at all.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It has a port; certificates know none, and a site at a port of its own does not speak for
    /// the whole host.
    #[error("{0} has a port")]
    Port(SiteName),
    /// It is an address, has a `*`, or something else that no authority gives us a certificate for.
    #[error("{0} is no plain host name")]
    NotPlain(SiteName),
}

impl CertificateName {
    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&SiteName> for CertificateName {
    type Error = BadCertificateName;

    fn try_from(site: &SiteName) -> Result<Self, BadCertificateName> {
        if site.port().is_some() {
            return Err(BadCertificateName::Port(site.clone()));
        }
        let host = site.host();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        if !host.bytes().all(is_plain) || host.parse::<IpAddr>().is_ok() {
            return Err(BadCertificateName::NotPlain(site.clone()));
        }
        Ok(Self(host.into()))
    }
}

impl FromStr for CertificateName {
    type Err = BadCertificateName;

    fn from_str(text: &str) -> Result<Self, BadCertificateName> {
        Self::try_from(&SiteName::parse(text)?)
    }
}

impl TryFrom<String> for CertificateName {
    type Error = BadCertificateName;

    fn try_from(text: String) -> Result<Self, BadCertificateName> {
        text.parse()
    }
}

impl From<CertificateName> for String {
    fn from(name: CertificateName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_for_a_plain_host_name() {
        for (text, name) in [
            ("Tracker.Example.ORG.", "tracker.example.org"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("localhost", "localhost"),
        ] {
            let parsed: CertificateName = text.parse().expect(text);
            assert_eq!(parsed.as_str(), name);
        }
        for text in [
            "",
            "example.org:8443",
            "192.0.2.1",
            "[2001:db8::1]",
            "*.example.org",
            "_acme.example.org",
            "../etc",
            "a b",
        ] {
            assert!(text.parse::<CertificateName>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let good = AcmeConfig {
            names: vec!["t.example".parse().expect("a name")],
            terms_agreed: true,
            dir: Some("/var/lib/acme".into()),
            contact: vec!["mailto:who@example.org".into()],
            ..AcmeConfig::default()
        };
        assert_eq!(good.check(false), Ok(()));
        let text = toml::to_string(&good).expect("writable");
        assert_eq!(toml::from_str::<AcmeConfig>(&text).as_ref(), Ok(&good));
        let refused = |change: fn(&mut AcmeConfig)| {
            let mut config = good.clone();
            change(&mut config);
            let error = config.check(false).expect_err("refused");
            error.to_string()
        };
        let terms = refused(|c| c.terms_agreed = false);
        assert!(terms.contains("--acme-agree-terms"), "{terms}");
        assert!(terms.contains("letsencrypt.org"), "{terms}");
        assert!(refused(|c| c.dir = None).contains("--acme-dir"));
        assert!(refused(|c| c.names.clear()).contains("--acme-name"));
        assert!(refused(|c| c.directory = "http://ca.example/".into()).contains("https"));
        assert!(refused(|c| c.contact = vec!["who@example.org".into()]).contains("mailto:"));
        let many = refused(|c| {
            let all = (0..=NAMES_MAX).map(|n| format!("t{n}.example").parse().expect("a name"));
            c.names = all.collect();
        });
        assert!(many.contains("1000"), "{many}");
        let state = AcmeConfig {
            dir: None,
            ..good.clone()
        };
        assert_eq!(state.check(true), Ok(()));
        for text in [
            "challenge = 'dns-01'",
            "names = ['*.example.org']",
            "nmaes = []",
        ] {
            assert!(toml::from_str::<AcmeConfig>(text).is_err(), "{text}");
        }
    }
}
