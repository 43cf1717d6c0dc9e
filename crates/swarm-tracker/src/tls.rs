//! The certificate that HTTPS is answered with: read from files, and anew when these change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::acme::{ACME_ALPN, Certificates, Shown, bears};
use crate::config::{CertificateName, TlsConfig};

/// How often it is looked whether the files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Why a certificate cannot be used. The operator's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be read, or holds no PEM of its kind.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// The two files do not belong together, or are of a kind that is not known.
    #[error("{certificate} and {key}: {source}")]
    Pair {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
        /// What is wrong with them.
        source: rustls::Error,
    },
}

/// What changes when a file is written or another put in its place.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// The certificate in force.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: TlsConfig,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
    /// The files as they were when they were last read, whether they could be used or not.
    read: Mutex<Stamp>,
}

impl Certificate {
    pub(crate) fn open(files: TlsConfig) -> Result<Arc<Self>, CertificateError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let read = stamp(&files);
        let current = load(&files, &provider)?;
        Ok(Arc::new(Self {
            files,
            provider,
            current: RwLock::new(Arc::new(current)),
            read: Mutex::new(read),
        }))
    }

    /// Reads the files again. If they are of no use, what was in force stays so. Blocks.
    pub(crate) fn reload(&self) {
        self.read_again(true);
    }

    /// Reads the files again whenever they have changed; never ends.
    pub(crate) async fn keep(self: Arc<Self>) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            let held = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || held.read_again(false));
            if let Err(error) = looked.await {
                tracing::error!(%error, "certificate not looked after");
            }
        }
    }

    fn read_again(&self, always: bool) {
        // Held all the while: of two at a time the one with the older files might end last.
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.files);
        if !always && now == *read {
            return;
        }
        *read = now;
        match load(&self.files, &self.provider) {
            Ok(new) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                tracing::info!(certificate = %self.files.certificate.display(), "read anew");
            }
            Err(error) => tracing::error!(%error, "the certificate before stays in force"),
        }
    }

    /// What is in force.
    pub(crate) fn current(&self) -> Arc<CertifiedKey> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }

    /// Whether it is for this name.
    pub(crate) fn bears(&self, name: &CertificateName) -> bool {
        let current = self.current();
        current.cert.first().is_some_and(|own| bears(own, name))
    }
}

/// Takes clients' handshakes with whatever certificate is in force: of files, or of those that the
/// tracker got itself as well.
pub(crate) fn acceptor(
    files: Option<&Arc<Certificate>>,
    got: Option<&Arc<Certificates>>,
) -> Result<Option<TlsAcceptor>, rustls::Error> {
    let mut protocols = vec![b"http/1.1".to_vec()];
    let resolver: Arc<dyn ResolvesServerCert> = match (files, got) {
        (None, None) => return Ok(None),
        (Some(files), None) => Arc::clone(files) as _,
        (files, Some(got)) => {
            protocols.push(ACME_ALPN.to_vec());
            Arc::new(Shown {
                certificates: Arc::clone(got),
                files: files.cloned(),
            })
        }
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = protocols;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn stamp(files: &TlsConfig) -> Stamp {
    [&files.certificate, &files.key].map(|path| {
        let about = std::fs::metadata(path).ok()?;
        Some((about.modified().ok()?, about.len()))
    })
}

fn load(files: &TlsConfig, provider: &CryptoProvider) -> Result<CertifiedKey, CertificateError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CertificateError::File { path, source }
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(failed(&files.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(failed(&files.key))?;
    let pair = |source| CertificateError::Pair {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    };
    if chain.is_empty() {
        return Err(pair(rustls::Error::NoCertificatesPresented));
    }
    CertifiedKey::from_der(chain, key, provider).map_err(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(files: &TlsConfig, name: &str) -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("made");
        std::fs::write(&files.certificate, made.cert.pem()).expect("written");
        std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
        made.cert.der().to_vec()
    }

    fn in_force(certificate: &Certificate) -> Vec<u8> {
        let current = certificate.current.read().expect("whole");
        current.cert[0].to_vec()
    }

    #[test]
    fn a_certificate_of_no_use_leaves_the_one_before_in_force() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = TlsConfig {
            certificate: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
        };
        let opens = |files: &TlsConfig| Certificate::open(files.clone()).map(|_| ());
        assert!(matches!(opens(&files), Err(CertificateError::File { .. })));
        let first = write(&files, "one.test");
        let certificate = Certificate::open(files.clone()).expect("good");
        assert_eq!(in_force(&certificate), first);
        // A key of another, no key, no certificate: each is said at the start, and changes nothing
        // later.
        let other = rcgen::generate_simple_self_signed(["two.test".to_owned()]).expect("made");
        for (path, text) in [
            (&files.key, other.signing_key.serialize_pem()),
            (&files.key, "no PEM\n".to_owned()),
            (&files.certificate, String::new()),
        ] {
            let before = std::fs::read(path).expect("there");
            std::fs::write(path, text).expect("written");
            assert!(opens(&files).is_err());
            certificate.reload();
            assert_eq!(in_force(&certificate), first);
            std::fs::write(path, before).expect("written");
        }
        let second = write(&files, "two.test");
        certificate.reload();
        assert_eq!(in_force(&certificate), second);
    }

    #[tokio::test(start_paused = true)]
    async fn files_that_change_are_read_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = TlsConfig {
            certificate: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
        };
        write(&files, "one.test");
        let certificate = Certificate::open(files.clone()).expect("good");
        let keeping = tokio::spawn(Arc::clone(&certificate).keep());
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Another length: the clock of the file system may stand still in between.
        let second = write(&files, "another-name.test");
        for _ in 0..100 {
            tokio::time::sleep(LOOK_EVERY).await;
            if in_force(&certificate) == second {
                return keeping.abort();
            }
        }
        panic!("the first is still in force");
    }
}
