//! A visitor: opens one page as a browser does, and waits only so long.
//!
//! At most [`CONNECTIONS_PER_HOST`] connections to each host, redirects followed, style sheets read
//! for what they name, an empty cache. Nothing here knows of gate, bridge or swarm.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use url::Url;

use super::assets::{self, Asset, Want};
use super::expect::{Expected, Wrong};

/// As browsers have it for HTTP/1.1.
const CONNECTIONS_PER_HOST: usize = 6;

/// The most a visitor takes of one file, in bytes.
const BODY_MAX: usize = 64 << 20;

/// Redirects followed for one file.
const REDIRECTS_MAX: usize = 5;

/// Files loaded for one page.
const ASSETS_MAX: usize = 512;

/// What all visitors share: where the site is, who judges, and what is counted.
pub(super) struct Street {
    /// Address of the front page; pages are resolved against it.
    pub home: Url,
    /// The judge.
    pub expected: Arc<Expected>,
    /// How long a visitor waits for a page with all its files.
    pub patience: Duration,
    /// The count.
    pub tally: Tally,
}

/// Counts of one run.
#[derive(Debug, Default)]
pub(super) struct Tally {
    inner: Mutex<Counts>,
}

/// See [`Tally`].
#[derive(Debug, Default, Clone)]
pub(super) struct Counts {
    /// Pages asked for.
    pub arrived: u64,
    /// Load times of pages that were complete in time.
    pub completed: Vec<Duration>,
    /// Pages given up or wrong.
    pub failed: u64,
    /// Bytes of bodies by `host:port`.
    pub bytes: HashMap<String, u64>,
    /// Bytes of bodies that were not what the manifest says.
    pub wrong_bytes: u64,
    /// Why pages failed, with how often; bounded.
    pub reasons: HashMap<String, u64>,
}

/// Distinct reasons kept.
const REASONS_MAX: usize = 64;

impl Tally {
    /// The counts so far.
    pub(super) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// Arrived, completed, failed.
    pub(super) fn pages(&self) -> (u64, u64, u64) {
        let counts = self.lock();
        (counts.arrived, counts.completed.len() as u64, counts.failed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a page did not load.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("gave up waiting")]
    Impatient,
    #[error("could not connect")]
    Connect(#[source] std::io::Error),
    #[error("connection broke")]
    Http(#[source] hyper::Error),
    #[error("status {0}")]
    Status(u16),
    #[error("answer could not be read")]
    Body,
    #[error("redirected in circles, or nowhere")]
    Redirect,
    #[error("wrong bytes: {0}")]
    Wrong(#[from] Wrong),
}

impl Street {
    /// Loads one page and counts how it went.
    pub(super) async fn visit(&self, path: &str) {
        self.tally.lock().arrived += 1;
        let started = Instant::now();
        let visit = tokio::time::timeout(self.patience, self.load(path)).await;
        let mut counts = self.tally.lock();
        match visit.unwrap_or(Err(LoadError::Impatient)) {
            Ok(()) => counts.completed.push(started.elapsed()),
            Err(error) => {
                tracing::debug!(path, %error, "page failed");
                counts.failed += 1;
                let reason = error.to_string();
                if counts.reasons.len() < REASONS_MAX || counts.reasons.contains_key(&reason) {
                    *counts.reasons.entry(reason).or_default() += 1;
                }
            }
        }
    }

    async fn load(&self, path: &str) -> Result<(), LoadError> {
        let browser = Browser::default();
        let page = self.home.join(path).map_err(|_| LoadError::Redirect)?;
        let got = self.fetch(&browser, &page, None, None).await?;
        let text = String::from_utf8_lossy(&got.body);
        let base = got.url.clone();
        let mut seen: HashSet<Url> = HashSet::new();
        let mut loading = FuturesUnordered::new();
        let want = |asset: Asset| {
            let (browser, base) = (&browser, &base);
            async move {
                let integrity = asset.integrity.as_deref();
                let got = self
                    .fetch(browser, &asset.url, Some((asset.want, base)), integrity)
                    .await?;
                Ok::<_, LoadError>(match asset.want {
                    Want::Style => assets::of_sheet(&got.url, &String::from_utf8_lossy(&got.body)),
                    _ => Vec::new(),
                })
            }
        };
        for asset in assets::of_page(&base, &text) {
            if seen.len() < ASSETS_MAX && seen.insert(asset.url.clone()) {
                loading.push(want(asset));
            }
        }
        while let Some(found) = loading.next().await {
            for asset in found? {
                if seen.len() < ASSETS_MAX && seen.insert(asset.url.clone()) {
                    loading.push(want(asset));
                }
            }
        }
        Ok(())
    }

    /// One file, over redirects.
    async fn fetch(
        &self,
        browser: &Browser,
        asked: &Url,
        part_of: Option<(Want, &Url)>,
        integrity: Option<&str>,
    ) -> Result<Got, LoadError> {
        let mut url = asked.clone();
        for _ in 0..=REDIRECTS_MAX {
            let (status, location, body) = browser.get(&url, part_of).await?;
            let source = authority(&url);
            *self.tally.lock().bytes.entry(source).or_default() += body.len() as u64;
            if let Some(location) = location {
                url = url.join(&location).map_err(|_| LoadError::Redirect)?;
                if !matches!(url.scheme(), "http") {
                    return Err(LoadError::Redirect);
                }
                continue;
            }
            if status != 200 {
                return Err(LoadError::Status(status));
            }
            if let Err(wrong) = self.expected.judge(asked, integrity, &body) {
                tracing::warn!(%url, %wrong, "visitor got wrong bytes");
                self.tally.lock().wrong_bytes += body.len() as u64;
                return Err(wrong.into());
            }
            return Ok(Got { url, body });
        }
        Err(LoadError::Redirect)
    }
}

struct Got {
    /// After redirects.
    url: Url,
    body: Bytes,
}

fn authority(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or(0);
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

/// The connections of one visitor, gone with it.
#[derive(Default)]
struct Browser {
    hosts: Mutex<HashMap<String, Arc<Host>>>,
}

struct Host {
    slots: Semaphore,
    idle: Mutex<Vec<SendRequest<Empty<Bytes>>>>,
}

impl Browser {
    fn host(&self, name: String) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            Arc::new(Host {
                slots: Semaphore::new(CONNECTIONS_PER_HOST),
                idle: Mutex::default(),
            })
        };
        hosts.entry(name).or_insert_with(new).clone()
    }

    /// Status, where a redirect leads, body.
    async fn get(
        &self,
        url: &Url,
        part_of: Option<(Want, &Url)>,
    ) -> Result<(u16, Option<String>, Bytes), LoadError> {
        let host = self.host(authority(url));
        let _slot = host
            .slots
            .acquire()
            .await
            .map_err(|_| LoadError::Impatient)?;
        loop {
            let idle = host
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let (mut sender, reused) = match idle {
                Some(sender) if sender.is_closed() => continue,
                Some(sender) => (sender, true),
                None => (connect(url).await?, false),
            };
            if sender.ready().await.is_err() && reused {
                continue;
            }
            let response = match sender.send_request(request(url, part_of)).await {
                Ok(response) => response,
                // The server may close an idle connection at any time; a browser asks again.
                Err(error) if reused && error.is_canceled() => continue,
                Err(error) => return Err(LoadError::Http(error)),
            };
            let status = response.status();
            let location = response.headers().get(header::LOCATION);
            let location = location.filter(|_| status.is_redirection());
            let location = location.and_then(|to| to.to_str().ok()).map(str::to_owned);
            let body = Limited::new(response.into_body(), BODY_MAX).collect().await;
            let body = body.map_err(|_| LoadError::Body)?.to_bytes();
            if sender.ready().await.is_ok() {
                host.idle
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(sender);
            }
            return Ok((status.as_u16(), location, body));
        }
    }
}

fn request(url: &Url, part_of: Option<(Want, &Url)>) -> Request<Empty<Bytes>> {
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let host = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    };
    let mut request = Request::get(target)
        .header(header::HOST, host)
        .header(header::USER_AGENT, "Mozilla/5.0 (demo visitor)");
    request = match part_of {
        None => request
            .header(header::ACCEPT, "text/html,*/*;q=0.8")
            .header("sec-fetch-dest", "document")
            .header("sec-fetch-mode", "navigate"),
        Some((want, page)) => {
            let mode = if want == Want::Font {
                "cors"
            } else {
                "no-cors"
            };
            let referer = if page.authority() == url.authority() {
                page.as_str().to_owned()
            } else {
                format!("{}/", page.origin().ascii_serialization())
            };
            request
                .header(header::ACCEPT, "*/*")
                .header("sec-fetch-dest", want.dest())
                .header("sec-fetch-mode", mode)
                .header(header::REFERER, referer)
        }
    };
    // What `Url` has spelt is fit for a request's head.
    request.body(Empty::new()).unwrap_or_default()
}

async fn connect(url: &Url) -> Result<SendRequest<Empty<Bytes>>, LoadError> {
    let port = url.port_or_known_default().unwrap_or(80);
    let host = url.host_str().unwrap_or_default();
    // Names under localhost are loopback (RFC 6761, section 6.3), whatever the resolver thinks.
    let stream = if host == "localhost" || host.ends_with(".localhost") {
        TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
    } else {
        TcpStream::connect((host.trim_matches(['[', ']']), port)).await
    };
    let stream = stream.map_err(LoadError::Connect)?;
    let _ = stream.set_nodelay(true);
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(LoadError::Http)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "visitor's connection ended");
        }
    });
    Ok(sender)
}
