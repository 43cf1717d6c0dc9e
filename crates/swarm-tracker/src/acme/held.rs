//! A certificate with its key, as it is kept and shown.

use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use x509_parser::parse_x509_certificate;

use crate::config::CertificateName;

/// Certificates of a chain; authorities send two or three.
const CHAIN_MAX: usize = 10;

/// When a certificate may be shown, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: u64,
    pub(super) not_after: u64,
}

/// One that is good for a name.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) validity: Validity,
}

impl Held {
    /// Reads a key and the chain of its certificate, in PEM.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub(super) fn read(
        pem: &[u8],
        name: &CertificateName,
        provider: &CryptoProvider,
    ) -> Result<Self, String> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .take(CHAIN_MAX + 1)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("certificate: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| format!("key: {error}"))?;
        if chain.len() > CHAIN_MAX {
            return Err(format!("a chain of more than {CHAIN_MAX}"));
        }
        let own = chain.first().ok_or("no certificate")?;
        if !bears(own, name) {
            return Err(format!("the certificate is not for {name}"));
        }
        let (_, parsed) = parse_x509_certificate(own).map_err(|error| error.to_string())?;
        let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp());
        let validity = Validity {
            not_before: seconds(parsed.validity().not_before).unwrap_or(0),
            not_after: seconds(parsed.validity().not_after).map_err(|_| "it ended before 1970")?,
        };
        let key =
            CertifiedKey::from_der(chain, key, provider).map_err(|error| error.to_string())?;
        Ok(Self {
            key: Arc::new(key),
            validity,
        })
    }
}

/// Whether a certificate is for a name.
pub(crate) fn bears(certificate: &CertificateDer<'_>, name: &CertificateName) -> bool {
    let Ok(server) = ServerName::try_from(name.as_str()) else {
        return false;
    };
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|parsed| verify_server_name(&parsed, &server).is_ok())
}
