//! Which certificate whoever comes over TLS is shown.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::Certificates;
use crate::config::CertificateName;
use crate::tls::Certificate;

/// How an authority that looks for us over TLS says so (RFC 8737).
pub(crate) const ACME_ALPN: &[u8] = b"acme-tls/1";

/// Files for the names they bear, what the tracker got itself for the others.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) files: Option<Arc<Certificate>>,
}

impl Shown {
    /// For whoever asks for a name, or for none.
    fn for_name(&self, name: Option<&CertificateName>) -> Option<Arc<CertifiedKey>> {
        let got = name.and_then(|name| Some((name, self.certificates.of(name)?)));
        match (&self.files, got) {
            (Some(files), Some((name, _))) if files.bears(name) => Some(files.current()),
            (_, Some((_, got))) => Some(got),
            (Some(files), None) => Some(files.current()),
            (None, None) => self.certificates.own(),
        }
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| name.parse().ok());
        let mut protocols = hello.alpn().into_iter().flatten();
        // An authority names this protocol alone. Who names another too gets that.
        if protocols.next() == Some(ACME_ALPN) && protocols.next().is_none() {
            return self.certificates.challenges.certificate(&name?);
        }
        self.for_name(name.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::tests::{certificates, hold, made};
    use crate::config::TlsConfig;

    #[test]
    fn files_serve_the_names_they_bear_and_nobody_is_shown_another_site() {
        let dir = tempfile::tempdir().expect("a directory");
        let name = |text: &str| text.parse::<CertificateName>().expect("a name");
        let certificates = certificates(dir.path(), &["t.example"]);
        let site = hold(&certificates, "site.example");
        let shown = |files| Shown {
            certificates: Arc::clone(&certificates),
            files,
        };
        let first = |shown: &Shown, asked: Option<&str>| {
            let key = shown.for_name(asked.map(name).as_ref())?;
            Some(key.cert[0].clone())
        };
        let alone = shown(None);
        assert_eq!(first(&alone, Some("site.example")), Some(site.clone()));
        // There is none of the tracker's own yet.
        assert_eq!(first(&alone, Some("other.example")), None);
        assert_eq!(first(&alone, None), None);
        let own = hold(&certificates, "t.example");
        for asked in [Some("t.example"), Some("other.example"), None] {
            assert_eq!(first(&alone, asked), Some(own.clone()), "{asked:?}");
        }
        let pem = made(&name("t.example"), 0, 2_000_000_000);
        let files = TlsConfig {
            certificate: dir.path().join("both.pem"),
            key: dir.path().join("both.pem"),
        };
        std::fs::write(&files.certificate, pem).expect("written");
        let files = Certificate::open(files).expect("good");
        let of_files = files.current().cert[0].clone();
        let both = shown(Some(files));
        for asked in [Some("t.example"), Some("other.example"), None] {
            assert_eq!(first(&both, asked), Some(of_files.clone()), "{asked:?}");
        }
        assert_eq!(first(&both, Some("site.example")), Some(site));
    }
}
