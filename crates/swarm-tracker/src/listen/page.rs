//! Small pages for people that load nothing.

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use super::http::{Reply, set, text};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:3em auto;\
padding:0 1em;color:#222;background:#fff}table{border-collapse:collapse}\
td{padding:.2em 1.5em .2em 0}td+td{text-align:right}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}}";

/// A small page that loads nothing and may not be framed. `body` is HTML.
pub(super) fn html(status: StatusCode, title: &str, body: &str) -> Reply {
    let page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}</style><h1>{title}</h1>{body}\n"
    );
    let mut reply = text(status, page);
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
        ),
    ] {
        set(&mut reply, name, HeaderValue::from_static(value));
    }
    reply
}

/// Text as HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
