//! What HTTPS is answered with.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Files of a certificate, read anew when they change and on SIGHUP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate and those that lead to its root, as PEM, its own first.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
}
