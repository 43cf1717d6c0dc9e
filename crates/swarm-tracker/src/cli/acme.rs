//! Flags for certificates that the tracker gets itself.

use std::path::PathBuf;

use clap::Args;
use swarm_tracker::config::{AcmeConfig, CertificateName, ChallengeKind};

#[derive(Debug, Args, Default)]
pub(super) struct AcmeArgs {
    /// A name of this tracker to get a certificate for (ACME); may be given more than once. Its
    /// port 80 must lead to --http, or its port 443 to --https.
    #[arg(
        long,
        value_name = "HOST",
        env = "SWARM_TRACKER_ACME_NAME",
        value_delimiter = ','
    )]
    acme_name: Vec<CertificateName>,
    /// Get certificates for the names of sites as well, whose DNS leads here.
    #[arg(long, env = "SWARM_TRACKER_ACME_SITES")]
    acme_sites: bool,
    /// Directory of the certificate authority. Default: Let's Encrypt's.
    #[arg(long, value_name = "URL", env = "SWARM_TRACKER_ACME_DIRECTORY")]
    acme_directory: Option<String>,
    /// Where the authority may write to, as mailto:who@example.org; may be given more than once.
    #[arg(
        long,
        value_name = "MAILTO",
        env = "SWARM_TRACKER_ACME_CONTACT",
        value_delimiter = ','
    )]
    acme_contact: Vec<String>,
    /// Keep account, keys and certificates here. Default: acme below --state.
    #[arg(long, value_name = "DIR", env = "SWARM_TRACKER_ACME_DIR")]
    acme_dir: Option<PathBuf>,
    /// Roots to believe in when talking to the authority (PEM), in place of the usual ones.
    #[arg(long, value_name = "FILE", env = "SWARM_TRACKER_ACME_CA_FILE")]
    acme_ca_file: Option<PathBuf>,
    /// Show that names lead here by http-01 or tls-alpn-01 alone.
    #[arg(long, value_name = "KIND", env = "SWARM_TRACKER_ACME_CHALLENGE")]
    acme_challenge: Option<ChallengeKind>,
    /// Agree to the authority's terms of service.
    #[arg(long, env = "SWARM_TRACKER_ACME_AGREE_TERMS")]
    acme_agree_terms: bool,
}

impl AcmeArgs {
    /// What the file says, with what the flags say in its place.
    pub(super) fn over(self, file: Option<AcmeConfig>) -> Option<AcmeConfig> {
        let says_something = !self.acme_name.is_empty()
            || self.acme_sites
            || self.acme_directory.is_some()
            || !self.acme_contact.is_empty()
            || self.acme_dir.is_some()
            || self.acme_ca_file.is_some()
            || self.acme_challenge.is_some()
            || self.acme_agree_terms;
        if !says_something {
            return file;
        }
        let mut config = file.unwrap_or_default();
        if !self.acme_name.is_empty() {
            config.names = self.acme_name;
        }
        if !self.acme_contact.is_empty() {
            config.contact = self.acme_contact;
        }
        config.directory = self.acme_directory.unwrap_or(config.directory);
        config.dir = self.acme_dir.or(config.dir);
        config.ca_file = self.acme_ca_file.or(config.ca_file);
        config.challenge = self.acme_challenge.or(config.challenge);
        config.sites |= self.acme_sites;
        config.terms_agreed |= self.acme_agree_terms;
        Some(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_none_leave_it_as_it_is() {
        let file = AcmeConfig {
            names: vec!["file.example".parse().expect("a name")],
            contact: vec!["mailto:who@file.example".to_owned()],
            sites: true,
            ..AcmeConfig::default()
        };
        assert_eq!(AcmeArgs::default().over(None), None);
        assert_eq!(
            AcmeArgs::default().over(Some(file.clone())),
            Some(file.clone())
        );
        let flags = AcmeArgs {
            acme_name: vec!["flag.example".parse().expect("a name")],
            acme_agree_terms: true,
            acme_challenge: Some(ChallengeKind::TlsAlpn01),
            ..AcmeArgs::default()
        };
        let both = flags.over(Some(file.clone())).expect("some");
        let expected = AcmeConfig {
            names: vec!["flag.example".parse().expect("a name")],
            terms_agreed: true,
            challenge: Some(ChallengeKind::TlsAlpn01),
            ..file
        };
        assert_eq!(both, expected);
    }
}
