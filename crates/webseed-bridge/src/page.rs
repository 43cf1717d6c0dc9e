//! The few pages that are the bridge's own: what it carries, and honest words when it cannot help.

use std::fmt::Write as _;
use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_LENGTH,
    CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Response, StatusCode};

use crate::body::VerifiedBody;
use crate::error::BridgeError;
use crate::site::Site;

const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// Headers of every answer: what a page of the site's own address needs in order to use files
/// from here with `integrity=`, and no guessing of types.
pub(crate) fn shared_headers(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("cross-origin"),
    );
    headers.insert(
        HeaderName::from_static("timing-allow-origin"),
        HeaderValue::from_static("*"),
    );
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Content-Encoding, Content-Range, ETag, Server-Timing"),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// The answer to OPTIONS, a preflight among them.
pub(crate) fn options() -> Response<VerifiedBody> {
    let mut response = Response::new(VerifiedBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ALLOW, ALLOWED);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, ALLOWED);
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static(
            "Range, If-Range, If-None-Match, If-Modified-Since, Cache-Control",
        ),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

/// A page that says what went wrong.
pub(crate) fn error(error: &BridgeError) -> Response<VerifiedBody> {
    let status = error.status();
    let mut response = html(&format!(
        "<h1>{status}</h1>\n<p>{}.</p>\n",
        escape(&error.to_string()),
    ));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if matches!(error, BridgeError::Method) {
        headers.insert(ALLOW, ALLOWED);
    }
    if let Some(secs) = error.retry_after_secs() {
        headers.insert(RETRY_AFTER, secs.into());
    }
    response
}

/// The sites carried, and what was given.
pub(crate) fn index(sites: &[Arc<Site>]) -> Response<VerifiedBody> {
    let mut text = String::from("<h1>Sites carried here</h1>\n");
    if sites.is_empty() {
        text.push_str("<p>None is in need now.</p>\n");
    } else {
        text.push_str("<table>\n<tr><th>site</th><th>answers</th><th>bytes</th></tr>\n");
        for site in sites {
            let name = escape(site.name().as_str());
            let (hits, bytes) = (site.stats().hits(), site.stats().bytes());
            let _ = writeln!(
                text,
                "<tr><td><a href=\"/{name}/\">{name}</a></td><td>{hits}</td><td>{bytes}</td></tr>"
            );
        }
        text.push_str("</table>\n");
    }
    html(&text)
}

/// Search engines find the sites at home.
pub(crate) fn robots() -> Response<VerifiedBody> {
    let mut response = Response::new(VerifiedBody::full("User-agent: *\nDisallow: /\n"));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// Makes a response to GET one to HEAD: the same head, no body (RFC 9110, 9.3.2).
pub(crate) fn keep_head_only(response: &mut Response<VerifiedBody>) {
    let body = std::mem::replace(response.body_mut(), VerifiedBody::empty());
    let bodiless = matches!(
        response.status(),
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    if !bodiless && !response.headers().contains_key(CONTENT_LENGTH) {
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, body.len().into());
    }
}

fn html(text: &str) -> Response<VerifiedBody> {
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Spikeswarm bridge</title>\n{text}</html>\n"
    );
    let mut response = Response::new(VerifiedBody::full(page));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        HeaderName::from_static("content-security-policy"),
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox"),
    );
    response
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
