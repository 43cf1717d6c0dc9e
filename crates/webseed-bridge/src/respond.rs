//! A request to a response: manifest lookup, negotiation, preconditions, ranges, then the body.
//!
//! No cookie is read or set, nothing of the request but path, query and validators is looked at,
//! and no request of a visitor causes one of ours. What the manifest does not name is not served.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, HeaderName, HeaderValue, LAST_MODIFIED, LINK, LOCATION, VARY,
};
use http::{HeaderMap, Method, Response, StatusCode, request};
use swarm_proto::geometry::ByteRange;
use swarm_proto::manifest::{FileEntry, Lookup, SitePath};
use swarm_proto::tracker::proof::PROOF_PATH;

use crate::body::{DigestCheck, Segment, VerifiedBody};
use crate::cache::SmallFiles;
use crate::conditional::{self, Precondition, Validators};
use crate::encoding;
use crate::error::BridgeError;
use crate::invitation::Invitation;
use crate::limits::SMALL_FILE_LEN;
use crate::page;
use crate::range::{self, RangeAnswer};
use crate::request::Target;
use crate::site::{Edition, Representation, Site};
use crate::sites::{Addressing, Found, Sites};

/// Path of the page that a site shows for paths it does not have.
const NOT_FOUND_PAGE: &str = "/404.html";

/// How long a request waits for the swarm.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the request to the first byte; past it the answer is a 504.
    pub first_byte: Duration,
    /// Between two runs of bytes; past it the connection is broken.
    pub stall: Duration,
}

/// Answers requests from the sites carried.
pub struct Responder {
    sites: Arc<Sites>,
    patience: Patience,
    small: SmallFiles,
    /// `None`: no tracker is told of this bridge.
    invitation: Option<Arc<Invitation>>,
}

/// A request for one page of one site.
struct SiteRequest<'a> {
    site: &'a Arc<Site>,
    path: SitePath,
    query: Option<&'a str>,
    addressing: Addressing,
    method: &'a Method,
    headers: &'a HeaderMap,
    now: SystemTime,
}

type Answer = Result<Response<VerifiedBody>, BridgeError>;

impl Responder {
    /// Answers from `sites`, and trackers that call back by `invitation`; keeps small files in at
    /// most `cache_max` bytes of memory.
    pub fn new(
        sites: Arc<Sites>,
        patience: Patience,
        cache_max: usize,
        invitation: Option<Arc<Invitation>>,
    ) -> Self {
        Self {
            sites,
            patience,
            small: SmallFiles::new(cache_max),
            invitation,
        }
    }

    /// Answers one request. Never fails: errors are answers too.
    pub async fn respond(&self, request: &request::Parts) -> Response<VerifiedBody> {
        let mut response = match self.answer(request).await {
            Ok(response) => response,
            Err(error) => {
                if let BridgeError::Internal(source) = &error {
                    tracing::error!(%source, "request failed");
                }
                page::error(&error)
            }
        };
        page::shared_headers(response.headers_mut());
        if request.method == Method::HEAD {
            page::keep_head_only(&mut response);
        }
        response
    }

    async fn answer(&self, request: &request::Parts) -> Answer {
        let target = Target::parse(
            &request.method,
            &request.uri,
            request.version,
            &request.headers,
        )?;
        let (host, path, query) = match &target {
            Target::Options => return Ok(page::options()),
            Target::Page { host, path, query } => (host, path, query),
        };
        if let Some(invitation) = &self.invitation
            && path == PROOF_PATH
        {
            return invitation.answer(&request.method, host, query.as_deref());
        }
        match self.sites.find(host, path)? {
            Found::Index => Ok(page::index(&self.sites.all())),
            Found::Robots => Ok(page::robots()),
            Found::NeedsSlash => redirect(
                StatusCode::MOVED_PERMANENTLY,
                &with_query(format!("{path}/"), query.as_deref()),
            ),
            Found::Page {
                site,
                path,
                addressing,
            } => {
                let mut response = self
                    .page(&SiteRequest {
                        site: &site,
                        path: SitePath::parse(&path).map_err(|_| BridgeError::NotFound)?,
                        query: query.as_deref(),
                        addressing,
                        method: &request.method,
                        headers: &request.headers,
                        now: SystemTime::now(),
                    })
                    .await?;
                if addressing == Addressing::Path {
                    // Sites share this origin: nothing of theirs may run in it.
                    response.headers_mut().insert(
                        HeaderName::from_static("content-security-policy"),
                        HeaderValue::from_static("sandbox"),
                    );
                }
                Ok(response)
            }
        }
    }

    async fn page(&self, request: &SiteRequest<'_>) -> Answer {
        if request.addressing == Addressing::Path && request.headers.contains_key("service-worker")
        {
            return Err(BridgeError::SharedOrigin);
        }
        let edition = request.site.edition();
        let now = unix(request.now);
        if !request.site.standing().serves(now) {
            return go_home(request).unwrap_or(Err(BridgeError::UnknownSite));
        }
        if edition.is_stale(now) {
            return go_home(request).unwrap_or(Err(BridgeError::Stale));
        }
        match edition.manifest().lookup(&request.path) {
            Lookup::File(path, file) => self.file(request, &edition, path, file).await,
            Lookup::RedirectSlash => {
                let prefix = match request.addressing {
                    Addressing::Host => String::new(),
                    Addressing::Path => format!("/{}", request.site.name()),
                };
                let location = format!("{prefix}{}/", request.path.to_url());
                redirect(
                    StatusCode::MOVED_PERMANENTLY,
                    &with_query(location, request.query),
                )
            }
            Lookup::Missing => self.missing(request, &edition).await,
        }
    }

    /// The site's own page for what it lacks; without one, somebody who navigates goes home, for
    /// the site may answer there what no manifest can hold.
    async fn missing(&self, request: &SiteRequest<'_>, edition: &Edition) -> Answer {
        let page = SitePath::parse(NOT_FOUND_PAGE).ok();
        if let Some(path) = page
            && let Lookup::File(_, file) = edition.manifest().lookup(&path)
        {
            let coding = encoding::negotiate(request.headers, &edition.offers(file));
            let found = represent(edition, file, coding)?;
            let mut response = Response::new(self.whole(&found, request.site).await?.0);
            *response.status_mut() = StatusCode::NOT_FOUND;
            let headers = response.headers_mut();
            describe(headers, file, &found);
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            return Ok(response);
        }
        let navigates = request
            .headers
            .get("sec-fetch-mode")
            .is_some_and(|mode| mode == "navigate");
        match go_home(request) {
            Some(answer) if navigates => answer,
            _ => Err(BridgeError::NotFound),
        }
    }

    async fn file(
        &self,
        request: &SiteRequest<'_>,
        edition: &Edition,
        path: &SitePath,
        file: &FileEntry,
    ) -> Answer {
        let coding = encoding::negotiate(request.headers, &edition.offers(file));
        let found = represent(edition, file, coding)?;
        let validators = Validators::new(&found.digest, found.coding, file.modified, request.now);
        let mut response = Response::new(VerifiedBody::empty());
        // RFC 9110, 15.4.5: a 304 has these too.
        let headers = response.headers_mut();
        headers.insert(ETAG, validators.etag_value());
        headers.insert(CACHE_CONTROL, cache_control(file.cache_secs));
        if !file.variants.is_empty() {
            headers.insert(VARY, ACCEPT_ENCODING.into());
        }
        match conditional::evaluate(request.headers, &validators) {
            Precondition::Proceed => {}
            Precondition::Failed => return Err(BridgeError::Precondition),
            Precondition::NotModified => {
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                return Ok(response);
            }
        }
        if let Some(modified) = validators.modified_value() {
            headers.insert(LAST_MODIFIED, modified);
        }
        describe(headers, file, &found);
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if let Some(url) = request.site.canonical_url(path)
            && let Ok(link) = HeaderValue::try_from(format!("<{url}>; rel=\"canonical\""))
        {
            headers.insert(LINK, link);
        }
        // RFC 9110, 14.2: Range means something to GET only.
        let ranges = if request.method == Method::GET
            && conditional::if_range_holds(request.headers, &validators, request.now)
        {
            range::of_headers(request.headers, found.length)
        } else {
            RangeAnswer::Whole
        };
        if request.method == Method::HEAD {
            headers.insert(http::header::CONTENT_LENGTH, found.length.into());
            return Ok(response);
        }
        let (body, timing) = match ranges {
            RangeAnswer::Whole => self.whole(&found, request.site).await?,
            RangeAnswer::Single(range) => {
                let content_range = range::content_range(&range, found.length);
                headers.insert(CONTENT_RANGE, content_range);
                let segments = [Segment::Range(range)].into();
                let opened = self.body(&found, segments, request.site, None).await?;
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                opened
            }
            RangeAnswer::Several(ranges) => {
                let boundary = format!("{:032x}", rand::random::<u128>());
                let media_type = media_type(file);
                let parts = multipart(&ranges, &boundary, &media_type, found.length);
                let value = format!("multipart/byteranges; boundary={boundary}");
                if let Ok(value) = HeaderValue::try_from(value) {
                    headers.insert(CONTENT_TYPE, value);
                }
                let opened = self.body(&found, parts, request.site, None).await?;
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                opened
            }
            RangeAnswer::Unsatisfiable => {
                let mut response = page::error(&BridgeError::Range);
                let value = range::content_range_unsatisfied(found.length);
                response.headers_mut().insert(CONTENT_RANGE, value);
                return Ok(response);
            }
        };
        request.site.stats().hit();
        *response.body_mut() = body;
        response
            .headers_mut()
            .insert(HeaderName::from_static("server-timing"), timing);
        Ok(response)
    }

    async fn whole(
        &self,
        found: &Representation,
        site: &Site,
    ) -> Result<(VerifiedBody, HeaderValue), BridgeError> {
        let range = ByteRange {
            start: 0,
            end: found.length,
        };
        let check = (!found.state.is_checked())
            .then(|| DigestCheck::new(found.digest, found.state.clone()));
        let (body, timing) = self
            .body(found, [Segment::Range(range)].into(), site, check)
            .await?;
        if found.length <= SMALL_FILE_LEN
            && found.state.is_checked()
            && let Some(bytes) = body.ready()
        {
            self.small.insert(found.digest, bytes);
        }
        Ok((body, timing))
    }

    /// The body of `segments`, once its first bytes are there. Small bodies are read, and checked,
    /// to their end first, so that what fails can still be answered honestly.
    async fn body(
        &self,
        found: &Representation,
        mut segments: VecDeque<Segment>,
        site: &Site,
        check: Option<DigestCheck>,
    ) -> Result<(VerifiedBody, HeaderValue), BridgeError> {
        let started = Instant::now();
        let lengths = segments.iter().map(Segment::len);
        let total = lengths.fold(0u64, u64::saturating_add);
        if found.length <= SMALL_FILE_LEN
            && let Some(bytes) = self.small.get(&found.digest)
        {
            let parts = segments.iter().filter_map(|segment| segment.cut(&bytes));
            let body = VerifiedBody::of_parts(parts).counted(site.stats().clone());
            return Ok((body, HeaderValue::from_static("store;dur=0.0")));
        }
        let first = segments.iter_mut().find_map(|segment| match segment {
            Segment::Range(range) if range.start < range.end => Some((*range, segment)),
            _ => None,
        });
        let mut how = "store";
        if let Some((range, segment)) = first {
            if !found.source.holds(range) {
                how = "swarm";
            }
            let mut stream = found.source.open(range);
            let first = tokio::time::timeout(self.patience.first_byte, stream.next())
                .await
                .map_err(|_| BridgeError::Unobtainable)?
                .ok_or(BridgeError::Unobtainable)?
                .map_err(|error| BridgeError::Internal(error.into()))?;
            let stream = futures_util::stream::iter([Ok(first)]).chain(stream);
            *segment = Segment::Opened(stream.boxed(), range.end.saturating_sub(range.start));
        }
        let elapsed = started.elapsed();
        let body =
            VerifiedBody::of_segments(found.source.clone(), segments, total, self.patience.stall)
                .checked(check)
                .counted(site.stats().clone());
        let body = if total <= SMALL_FILE_LEN {
            body.read_ahead()
                .await
                .map_err(|error| match error.kind() {
                    std::io::ErrorKind::TimedOut => BridgeError::Unobtainable,
                    std::io::ErrorKind::InvalidData => BridgeError::Inconsistent,
                    _ => BridgeError::Internal(error.into()),
                })?
        } else if found.state.is_wrong() {
            return Err(BridgeError::Inconsistent);
        } else {
            body
        };
        let timing = format!("{how};dur={:.1}", elapsed.as_secs_f64() * 1000.0);
        let timing = HeaderValue::try_from(timing).expect("ascii");
        Ok((body, timing))
    }
}

fn represent(
    edition: &Edition,
    file: &FileEntry,
    coding: encoding::Coding,
) -> Result<Representation, BridgeError> {
    edition
        .representation(file, coding)
        .ok_or(BridgeError::Inconsistent)
}

/// `None` if the site's own address is not known.
fn go_home(request: &SiteRequest<'_>) -> Option<Answer> {
    let url = request.site.home_url(&request.path, request.query)?;
    request.site.stats().home();
    Some(redirect(StatusCode::FOUND, &url))
}

fn redirect(status: StatusCode, location: &str) -> Answer {
    let location =
        HeaderValue::try_from(location).map_err(|_| BridgeError::BadRequest("malformed target"))?;
    let cache = match status {
        StatusCode::FOUND => "no-store",
        _ => "max-age=60",
    };
    let mut response = Response::new(VerifiedBody::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    Ok(response)
}

fn with_query(mut url: String, query: Option<&str>) -> String {
    if let Some(query) = query {
        url.push('?');
        url.push_str(query);
    }
    url
}

/// What the body is. Types come from the manifest only.
fn describe(headers: &mut HeaderMap, file: &FileEntry, found: &Representation) {
    headers.insert(CONTENT_TYPE, media_type(file));
    if found.coding != encoding::Coding::Identity {
        let name = HeaderValue::from_static(found.coding.name());
        headers.insert(CONTENT_ENCODING, name);
    }
}

fn media_type(file: &FileEntry) -> HeaderValue {
    HeaderValue::try_from(file.media_type.as_str())
        .unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

fn cache_control(secs: u32) -> HeaderValue {
    match secs {
        0 => HeaderValue::from_static("no-cache"),
        secs => HeaderValue::try_from(format!("public, max-age={secs}")).expect("ascii"),
    }
}

/// The segments of a `multipart/byteranges` body (RFC 9110, 14.6).
fn multipart(
    ranges: &[ByteRange],
    boundary: &str,
    media_type: &HeaderValue,
    length: u64,
) -> VecDeque<Segment> {
    let mut segments = VecDeque::with_capacity(ranges.len() * 2 + 1);
    for range in ranges {
        let mut head = BytesMut::new();
        let content_range = range::content_range(range, length);
        for piece in [
            b"\r\n--".as_slice(),
            boundary.as_bytes(),
            b"\r\nContent-Type: ",
            media_type.as_bytes(),
            b"\r\nContent-Range: ",
            content_range.as_bytes(),
            b"\r\n\r\n",
        ] {
            head.extend_from_slice(piece);
        }
        segments.push_back(Segment::Ready(head.freeze()));
        segments.push_back(Segment::Range(*range));
    }
    let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    segments.push_back(Segment::Ready(end));
    segments
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests;
