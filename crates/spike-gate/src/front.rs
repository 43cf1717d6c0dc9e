//! One request, from its head to its answer: checked, decided, and passed on, rewritten or sent
//! to a bridge.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::response;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::sleep;
use url::Url;

use crate::csp::Policy;
use crate::decide::Decision;
use crate::divert::{Divert, Shared};
use crate::facts::{Dest, Facts};
use crate::lane::Slot;
use crate::proxy::body::{self, AnyBody, Holding, Large};
use crate::proxy::{Proxy, Visitor, check};
use crate::rewrite::body::RewrittenBody;
use crate::rewrite::{Page, Rewriter, banner};
use crate::wellknown::WellKnown;

/// Answers visitors.
#[derive(Debug)]
pub struct Front {
    /// The way to the origin.
    pub proxy: Proxy,
    /// What is known and counted.
    pub shared: Arc<Shared>,
    /// What the site says of itself.
    pub known: Arc<WellKnown>,
    /// Only log what would have been done.
    pub shadow: bool,
    /// How long somebody waits in the lane before being served all the same.
    pub patience: Duration,
}

/// Answers from this length on, pages apart, go out by a lane of their own, so that pages and
/// redirects find room.
const LARGE_LEN: u64 = 64 * 1024;

impl Front {
    /// Answers one request of the visitor at `ip`.
    pub async fn answer(&self, request: Request<Incoming>, ip: IpAddr) -> Response<AnyBody> {
        self.shared.meter().request();
        let (parts, body) = request.into_parts();
        if let Err(doubt) = check::check(&parts) {
            return refusal(doubt);
        }
        if let Some(answer) = self.known.answer(&parts.method, parts.uri.path()) {
            return answer;
        }
        let facts = Facts::of(&parts);
        let (divert, decision, slot) = self.decide(&facts, parts.uri.path()).await;
        match decision {
            Decision::Redirect {
                location,
                bytes,
                bridge,
            } => match redirect(&location) {
                Some(answer) => {
                    self.shared.meter().redirected(&bridge, bytes);
                    answer
                }
                None => self.pass(parts, body, ip, None).await,
            },
            Decision::Rewrite { banner } => {
                self.rewrite(parts, body, ip, facts, divert, banner).await
            }
            Decision::Pass | Decision::Wait { .. } => self.pass(parts, body, ip, slot).await,
        }
    }

    /// Decides, and waits where that is the decision.
    async fn decide(&self, facts: &Facts, path: &str) -> (Divert, Decision, Option<Slot>) {
        let patience = sleep(self.patience);
        tokio::pin!(patience);
        let mut changes = self.shared.changes();
        let mut waiting = None;
        loop {
            changes.mark_unchanged();
            let divert = Divert::now(&self.shared);
            let decision = divert.decide(facts, Instant::now());
            if self.shadow && decision != Decision::Pass {
                tracing::info!(path, ?decision, "shadow: would have diverted");
                return (divert, Decision::Pass, None);
            }
            let Decision::Wait { bytes } = decision else {
                return (divert, decision, None);
            };
            waiting.get_or_insert_with(|| self.shared.meter().wait(bytes));
            tokio::select! {
                biased;
                slot = self.shared.lane().enter() => return (divert, decision, slot),
                // The gate is never the reason that somebody gets nothing.
                () = &mut patience => return (divert, Decision::Pass, None),
                _ = changes.changed() => {}
            }
        }
    }

    fn visitor(&self, ip: IpAddr) -> Visitor {
        Visitor {
            ip,
            secure: self.shared.frontage().site.scheme() == "https",
        }
    }

    async fn pass(
        &self,
        parts: Parts,
        body: Incoming,
        ip: IpAddr,
        slot: Option<Slot>,
    ) -> Response<AnyBody> {
        let path = parts.uri.path().to_owned();
        match self.proxy.pass(parts, body, self.visitor(ip), false).await {
            Ok(answer) => {
                if is_page(answer.headers()) {
                    self.shared.note_policy(&path, Policy::of(answer.headers()));
                }
                let length = answer.body().size_hint().exact();
                let mut answer = answer;
                if length.is_none_or(|length| length >= LARGE_LEN) && !is_page(answer.headers()) {
                    answer.extensions_mut().insert(Large);
                }
                if let Some(slot) = slot {
                    answer.extensions_mut().insert(Large);
                    return answer.map(|body| Holding::new(body, slot).boxed_unsync());
                }
                answer
            }
            Err(error) => self.failed(&error),
        }
    }

    async fn rewrite(
        &self,
        parts: Parts,
        body: Incoming,
        ip: IpAddr,
        facts: Facts,
        divert: Divert,
        with_banner: bool,
    ) -> Response<AnyBody> {
        let url = self.page_url(&parts);
        let path = parts.uri.path().to_owned();
        let answer = match self.proxy.pass(parts, body, self.visitor(ip), true).await {
            Ok(answer) => answer,
            Err(error) => return self.failed(&error),
        };
        let policy = Policy::of(answer.headers());
        let (mut head, body) = answer.into_parts();
        let (Some(url), true) = (url, may_be_rewritten(&head)) else {
            if is_page(&head.headers) {
                self.shared.note_policy(&path, policy);
            }
            return Response::from_parts(head, body);
        };
        self.shared.note_head_policy(&path, policy.clone());
        let banner = divert
            .invitation()
            .filter(|_| with_banner && policy.allows_inline_style())
            .map(banner::html);
        let page = Page {
            url,
            document: facts.dest != Dest::Absent,
            cookie: facts.cookie,
            policy,
            charset: charset(&head.headers),
            banner,
            referer: facts.referer,
        };
        let Some(rewriter) = Rewriter::new(page, Arc::new(divert)) else {
            return Response::from_parts(head, body);
        };
        for name in OF_THE_ORIGINAL {
            head.headers.remove(name);
        }
        // The page is of this moment: kept past the spike, it would name bridges that are gone.
        let stored = head
            .headers
            .get(header::CACHE_CONTROL)
            .and_then(|value| value.to_str().ok());
        if !stored.is_some_and(|value| value.contains("no-store")) {
            let brief = HeaderValue::from_static("private, no-cache");
            head.headers.insert(header::CACHE_CONTROL, brief);
        }
        Response::from_parts(head, RewrittenBody::new(body, rewriter).boxed_unsync())
    }

    /// The page's address as the visitor sees it.
    fn page_url(&self, parts: &Parts) -> Option<Url> {
        let site = &self.shared.frontage().site;
        let host = parts
            .headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let base = match host {
            Some(host) => Url::parse(&format!("{}://{host}/", site.scheme())).ok()?,
            None => site.clone(),
        };
        base.join(parts.uri.path_and_query()?.as_str())
            .ok()
            .filter(|url| url.origin() == base.origin())
    }

    fn failed(&self, error: &crate::proxy::ProxyError) -> Response<AnyBody> {
        self.shared.meter().origin_failed();
        tracing::warn!(error = %swarm_peer::http::chain(error), "no answer from the origin");
        plain(error.status())
    }
}

/// What described the bytes as the origin sent them.
const OF_THE_ORIGINAL: [HeaderName; 9] = [
    header::CONTENT_LENGTH,
    header::ETAG,
    header::LAST_MODIFIED,
    header::ACCEPT_RANGES,
    header::EXPIRES,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

fn is_page(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/html"))
}

fn charset(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let (_, label) = value
        .split(';')
        .skip(1)
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
    Some(label.trim().trim_matches('"').to_owned())
}

/// Whole, plain pages only, whose maker has not forbidden it (`no-transform`).
fn may_be_rewritten(head: &response::Parts) -> bool {
    let says = |name: HeaderName, word: &str| {
        head.headers.get_all(name).iter().any(|value| {
            value
                .to_str()
                .is_ok_and(|v| v.to_ascii_lowercase().contains(word))
        })
    };
    let encoded = head
        .headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    head.status == StatusCode::OK
        && is_page(&head.headers)
        && !encoded
        && !says(header::CACHE_CONTROL, "no-transform")
        && !says(header::CONTENT_DISPOSITION, "attachment")
}

fn redirect(location: &str) -> Option<Response<AnyBody>> {
    let mut answer = Response::new(body::empty());
    *answer.status_mut() = StatusCode::FOUND;
    let headers = answer.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::try_from(location).ok()?);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::VARY,
        HeaderValue::from_static("Sec-Fetch-Dest, Accept"),
    );
    // A volunteer need not learn which page is being read.
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    Some(answer)
}

/// What a request in doubt is answered; the connection closes.
pub fn refusal(doubt: check::Doubt) -> Response<AnyBody> {
    tracing::debug!(%doubt, "request refused");
    let mut answer = plain(doubt.status());
    answer
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn plain(status: StatusCode) -> Response<AnyBody> {
    let mut answer = Response::new(body::full(format!("{status}\n")));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
