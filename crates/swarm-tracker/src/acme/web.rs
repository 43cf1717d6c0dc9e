//! HTTPS to an authority, with a bound on each answer and on the time for it.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::RETRY_AFTER;
use hyper::{Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::error::AcmeError;

/// Bytes of an answer: a directory, an order or a chain has some kilobytes.
const ANSWER_LEN_MAX: usize = 1 << 20;
/// Time for an answer, connecting included.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Whom to believe in.
#[derive(Debug, Clone)]
pub(super) enum Roots {
    /// Whom browsers do.
    Usual,
    /// An authority of one's own.
    Own(Arc<ClientConfig>),
}

impl Roots {
    /// Reads a file of roots, if one is named. Blocks.
    pub(super) fn read(
        file: Option<&Path>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, AcmeError> {
        let Some(path) = file else {
            return Ok(Self::Usual);
        };
        let bad = |why: String| AcmeError::Roots {
            path: path.to_owned(),
            why,
        };
        let mut roots = RootCertStore::empty();
        let all = CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))?;
        for root in all {
            let root = root.map_err(|error| bad(error.to_string()))?;
            roots.add(root).map_err(|error| bad(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(bad("no PEM of a certificate".to_owned()));
        }
        let config = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .map_err(AcmeError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self::Own(Arc::new(config)))
    }
}

/// What an authority last asked us to wait for: `Retry-After` as it came.
pub(super) type RetryAfter = Arc<Mutex<Option<String>>>;

/// A client for one order: its connections end with it.
pub(super) struct Web {
    client: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    retry_after: RetryAfter,
}

impl Web {
    pub(super) fn new(roots: &Roots, provider: &Arc<CryptoProvider>) -> Result<Self, AcmeError> {
        let builder = HttpsConnectorBuilder::new();
        let builder = match roots {
            Roots::Own(config) => builder.with_tls_config(ClientConfig::clone(config)),
            Roots::Usual => builder
                .with_provider_and_webpki_roots(Arc::clone(provider))
                .map_err(AcmeError::Tls)?,
        };
        let connector = builder.https_only().enable_http1().build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            retry_after: RetryAfter::default(),
        })
    }

    pub(super) fn retry_after(&self) -> RetryAfter {
        Arc::clone(&self.retry_after)
    }
}

impl HttpClient for Web {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.client.clone();
        let retry_after = Arc::clone(&self.retry_after);
        Box::pin(async move {
            let asked = async {
                let reply = client.request(request).await;
                let (head, body) = reply
                    .map_err(|error| Error::Other(error.into()))?
                    .into_parts();
                if matches!(
                    head.status,
                    StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
                ) {
                    let value = head.headers.get(RETRY_AFTER);
                    let value = value
                        .and_then(|value| value.to_str().ok())
                        .map(str::to_owned);
                    *retry_after.lock().unwrap_or_else(PoisonError::into_inner) = value;
                }
                let body = Limited::new(body, ANSWER_LEN_MAX).collect().await;
                let body = body.map_err(Error::Other)?.to_bytes();
                Ok(BytesResponse::from(Response::from_parts(
                    head,
                    Full::new(body),
                )))
            };
            match tokio::time::timeout(ANSWER_TIME, asked).await {
                Ok(answered) => answered,
                Err(_) => Err(Error::Other("no answer in 30 s".into())),
            }
        })
    }
}

/// Reads `Retry-After`; `now`: seconds since 1970.
pub(super) fn pause_asked_for(retry_after: &RetryAfter, now: u64) -> Option<Duration> {
    let value = retry_after
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()?;
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = httpdate::parse_http_date(&value).ok()?;
    let then = then.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(then.saturating_sub(Duration::from_secs(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_authority_asks_for_is_read_once() {
        let after = |text: &str| {
            let cell = Arc::new(Mutex::new(Some(text.to_owned())));
            let read = pause_asked_for(&cell, 784_111_700);
            assert_eq!(pause_asked_for(&cell, 0), None);
            read
        };
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(after(date), Some(Duration::from_secs(77)));
        assert_eq!(after("soon"), None);
        assert_eq!(pause_asked_for(&RetryAfter::default(), 0), None);
    }
}
