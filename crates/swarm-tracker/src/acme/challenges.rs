//! What an authority finds when it looks for us at a name. There is as much of it as there are
//! orders under way.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::config::CertificateName;

/// What is to be found now.
#[derive(Debug, Default)]
pub(crate) struct Challenges {
    /// Text of the file, by its token.
    files: RwLock<HashMap<String, String>>,
    /// Certificate, by the name that it is asked for by.
    certificates: RwLock<HashMap<CertificateName, Arc<CertifiedKey>>>,
}

/// One thing to be found; until this is dropped.
#[derive(Debug)]
pub(super) struct Pending {
    challenges: Arc<Challenges>,
    what: What,
}

#[derive(Debug)]
enum What {
    File(String),
    Certificate(CertificateName),
}

impl Challenges {
    /// Puts a file there (RFC 8555, 8.3).
    pub(super) fn put_file(self: &Arc<Self>, token: &str, text: &str) -> Pending {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        files.insert(token.to_owned(), text.to_owned());
        Pending {
            challenges: Arc::clone(self),
            what: What::File(token.to_owned()),
        }
    }

    /// Puts a certificate there that has the digest of what a file would say (RFC 8737, 3).
    ///
    /// # Errors
    /// Such a certificate cannot be made, and why.
    pub(super) fn put_certificate(
        self: &Arc<Self>,
        name: &CertificateName,
        digest: &[u8; 32],
        provider: &CryptoProvider,
    ) -> Result<Pending, String> {
        let made = make(name, digest, provider)?;
        let mut all = self
            .certificates
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        all.insert(name.clone(), Arc::new(made));
        Ok(Pending {
            challenges: Arc::clone(self),
            what: What::Certificate(name.clone()),
        })
    }

    /// The text of a file.
    pub(crate) fn file(&self, token: &str) -> Option<String> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.get(token).cloned()
    }

    /// The certificate for whoever looks for this name.
    pub(super) fn certificate(&self, name: &CertificateName) -> Option<Arc<CertifiedKey>> {
        let all = self
            .certificates
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        all.get(name).cloned()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Challenges {
            files,
            certificates,
        } = &*self.challenges;
        match &self.what {
            What::File(token) => {
                let mut files = files.write().unwrap_or_else(PoisonError::into_inner);
                files.remove(token);
            }
            What::Certificate(name) => {
                let mut all = certificates.write().unwrap_or_else(PoisonError::into_inner);
                all.remove(name);
            }
        }
    }
}

fn make(
    name: &CertificateName,
    digest: &[u8; 32],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let failed = |error: rcgen::Error| error.to_string();
    let mut params = CertificateParams::new([name.as_str().to_owned()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|error| error.to_string())?;
    // Not checked against each other: what checks does not know that extension, which is critical.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_found_before_and_after() {
        let challenges = Arc::new(Challenges::default());
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let name: CertificateName = "t.example".parse().expect("a name");
        assert_eq!(challenges.file("token"), None);
        let file = challenges.put_file("token", "token.thumb");
        let certificate = challenges
            .put_certificate(&name, &[7; 32], &provider)
            .expect("made");
        assert_eq!(challenges.file("token").as_deref(), Some("token.thumb"));
        assert_eq!(challenges.file("Token"), None);
        assert!(challenges.certificate(&name).is_some());
        drop((file, certificate));
        assert_eq!(challenges.file("token"), None);
        assert!(challenges.certificate(&name).is_none());
    }
}
