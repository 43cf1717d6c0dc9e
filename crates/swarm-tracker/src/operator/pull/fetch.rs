//! One page of a site, fetched.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, LAST_MODIFIED, LOCATION, RETRY_AFTER, USER_AGENT,
};
use sha2::{Digest as _, Sha256};
use swarm_peer::http::{HttpError, Lane, Streaming};
use swarm_peer::uplink::Downlink;
use swarm_proto::id::Digest;
use swarm_proto::manifest::SitePath;
use tokio::io::AsyncWriteExt as _;
use url::Url;

use super::copy::Held;
use super::frontier::REST_SECS_MAX;
use super::judge::{Fit, Unfit, judge};
use super::links::{Links, Within, of_page, of_sheet};

/// Pages and sheets longer than this are not read for links.
const READ_LEN_MAX: u64 = 4 << 20;
/// How long a site that has enough is left alone where it does not say: at first, least and most.
const BUSY: [Duration; 3] = [
    Duration::from_secs(60),
    Duration::from_secs(5),
    Duration::from_secs(3600),
];

/// What is to be fetched, and how.
pub(super) struct Errand {
    pub(super) path: SitePath,
    /// Where the site is at home, without a slash at the end.
    pub(super) base: String,
    /// What is held of the path.
    pub(super) held: Option<Held>,
    /// Where the content is written.
    pub(super) part: PathBuf,
    /// Bytes it may have.
    pub(super) len_max: u64,
    /// For the head, and between two parts of the body.
    pub(super) timeout: Duration,
    /// Least time until it is asked for again, seconds.
    pub(super) refresh_secs: u64,
    pub(super) within: Within,
    /// The URL by which the page is known to visitors.
    pub(super) known_as: Url,
    pub(super) lane: Lane,
    pub(super) line: Downlink,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Came {
    /// A new version, in the errand's part.
    New(Box<Held>, Links),
    /// The version that is held, with what is new about it.
    Same(Box<Held>),
    /// Not to be copied.
    Unfit(Unfit),
    /// Longer than it may be.
    TooLong,
    /// It is elsewhere on the site.
    Moved(SitePath),
    /// There is no such thing.
    Gone,
    /// The site has enough, for so long.
    Busy(Duration),
    /// The site could not be reached, or failed.
    Failed(String),
    /// Our disk failed.
    Disk(io::Error),
}

impl Errand {
    /// Runs it.
    pub(super) async fn run(self) -> (SitePath, PathBuf, Came) {
        let came = self.fetch().await.unwrap_or_else(|came| came);
        (self.path, self.part, came)
    }

    async fn fetch(&self) -> Result<Came, Came> {
        let url = format!("{}{}", self.base, self.path.to_url());
        let asked = self.lane.get_once(&url, self.headers(), self.timeout);
        let mut answer = asked.await.map_err(failed)?;
        let now = SystemTime::now();
        let status = answer.status;
        let retry = retry_after(&answer.headers, now);
        let overloaded = matches!(status.as_u16(), 429 | 503 | 509);
        if overloaded || (status.is_server_error() && retry.is_some()) {
            return Ok(Came::Busy(retry.unwrap_or(BUSY[0]).clamp(BUSY[1], BUSY[2])));
        }
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(Came::Gone),
            StatusCode::NOT_MODIFIED => return Ok(self.same(&answer.headers, now)),
            status if status.is_server_error() => {
                return Ok(Came::Failed(format!("the site answers {status}")));
            }
            status if status.is_redirection() => return Ok(self.moved(&answer)),
            _ => {}
        }
        let fit = judge(&self.path, status, &answer.headers, now).map_err(Came::Unfit)?;
        let said = answer.headers.get(CONTENT_LENGTH);
        let said = said.and_then(|said| said.to_str().ok()?.parse::<u64>().ok());
        if said.is_some_and(|said| said > self.len_max) {
            return Ok(Came::TooLong);
        }
        let (digest, length) = self.receive(&mut answer).await?;
        let field = |name| Some(answer.headers.get(name)?.to_str().ok()?.to_owned());
        let held = Held {
            file: digest.to_string(),
            length,
            media_type: fit.media_type.clone(),
            cache_secs: fit.cache_secs,
            modified: fit.modified,
            fresh_until: self.fresh_until(&fit, now),
            etag: field(ETAG),
            last_modified: field(LAST_MODIFIED),
        };
        let links = self.links(&held).await.map_err(Came::Disk)?;
        Ok(Came::New(Box::new(held), links))
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let agent = concat!(
            "Spikeswarm/",
            env!("CARGO_PKG_VERSION"),
            " (consent in DNS)"
        );
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let held = self.held.as_ref();
        for (name, value) in [
            (IF_NONE_MATCH, held.and_then(|held| held.etag.as_ref())),
            (
                IF_MODIFIED_SINCE,
                held.and_then(|held| held.last_modified.as_ref()),
            ),
        ] {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        }
        headers
    }

    /// What a 304 says is true of what is held (RFC 9111, 4.3.4).
    fn same(&self, headers: &HeaderMap, now: SystemTime) -> Came {
        let Some(held) = &self.held else {
            return Came::Failed("the site answers 304 to who holds nothing".to_owned());
        };
        let mut headers = headers.clone();
        if let (None, Some(said)) = (headers.get(LAST_MODIFIED), &held.last_modified)
            && let Ok(said) = HeaderValue::from_str(said)
        {
            headers.insert(LAST_MODIFIED, said);
        }
        match judge(&self.path, StatusCode::OK, &headers, now) {
            Ok(fit) => Came::Same(Box::new(Held {
                cache_secs: fit.cache_secs,
                fresh_until: self.fresh_until(&fit, now),
                ..held.clone()
            })),
            Err(unfit) => Came::Unfit(unfit),
        }
    }

    fn fresh_until(&self, fit: &Fit, now: SystemTime) -> u64 {
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let secs = fit.fresh_secs.max(self.refresh_secs).min(REST_SECS_MAX);
        now.saturating_add(secs)
    }

    fn moved(&self, answer: &Streaming) -> Came {
        let to = answer.headers.get(LOCATION).and_then(|to| to.to_str().ok());
        let home = Url::parse(&format!("{}{}", self.base, self.path.to_url()));
        let to = to.and_then(|to| self.within.path(&home.ok()?, to));
        match to.filter(|to| *to != self.path) {
            Some(to) => Came::Moved(to),
            None => Came::Unfit(Unfit::Status(answer.status)),
        }
    }

    async fn receive(&self, answer: &mut Streaming) -> Result<(Digest, u64), Came> {
        let mut file = tokio::fs::File::create(&self.part)
            .await
            .map_err(Came::Disk)?;
        let (mut hash, mut length) = (Sha256::new(), 0_u64);
        loop {
            let chunk = tokio::time::timeout(self.timeout, answer.chunk()).await;
            let chunk = chunk.map_err(|_| Came::Failed("the site fell silent".to_owned()))?;
            let Some(chunk) = chunk else { break };
            let chunk = chunk.map_err(failed)?;
            length = length.saturating_add(chunk.len() as u64);
            if length > self.len_max {
                return Err(Came::TooLong);
            }
            hash.update(&chunk);
            file.write_all(&chunk).await.map_err(Came::Disk)?;
            self.line.pay(chunk.len()).await;
        }
        file.flush().await.map_err(Came::Disk)?;
        Ok((Digest::new(hash.finalize().into()), length))
    }

    async fn links(&self, held: &Held) -> io::Result<Links> {
        if held.length > READ_LEN_MAX {
            return Ok(Links::default());
        }
        let essence = held.media_type.split(';').next().unwrap_or_default().trim();
        let read = async |part: &Path| tokio::fs::read(part).await;
        match essence.to_ascii_lowercase().as_str() {
            "text/html" | "application/xhtml+xml" => {
                let html = read(&self.part).await?;
                Ok(of_page(&html, &self.known_as, &self.within))
            }
            "text/css" => {
                let css = read(&self.part).await?;
                let css = String::from_utf8_lossy(&css);
                Ok(of_sheet(&css, &self.known_as, &self.within))
            }
            _ => Ok(Links::default()),
        }
    }
}

fn failed(error: HttpError) -> Came {
    Came::Failed(swarm_peer::http::chain(&error))
}

/// How long to wait, as the site says (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let said = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(secs) = said.parse() {
        return Some(Duration::from_secs(secs));
    }
    let at = httpdate::parse_http_date(said).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}
