//! The page for people, and the figures for machines.

use std::fmt::Write as _;

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use super::http::{Reply, set, text, with_type};
use crate::app::App;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:3em auto;\
padding:0 1em;color:#222;background:#fff}table{border-collapse:collapse}\
td{padding:.2em 1.5em .2em 0}td+td{text-align:right}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}}";

/// `GET /`.
pub(super) fn page(app: &App) -> Reply {
    let (totals, sites) = {
        let registry = app.registry();
        (registry.totals(), registry.sites_in_need())
    };
    let mut body = String::from("<table>");
    for (what, count) in [
        ("Sites known", totals.sites),
        ("Sites in need", totals.alarms),
        ("Bundles", totals.bundles),
        ("Bridges of volunteers", totals.bridges),
        ("Swarms", totals.swarms),
        ("Peers", totals.peers),
    ] {
        // Writing to a String does not fail.
        let _ = write!(body, "<tr><td>{what}</td><td>{count}</td></tr>");
    }
    body.push_str("</table>");
    if sites.sites.is_empty() {
        body.push_str("<p>No site is in need.</p>");
    } else {
        body.push_str("<h2>In need now</h2><ul>");
        for entry in &sites.sites {
            let _ = write!(body, "<li>{}</li>", escape(entry.site.as_str()));
        }
        body.push_str("</ul>");
    }
    html(StatusCode::OK, "Tracker", &body)
}

/// `GET /metrics`.
pub(super) fn metrics(app: &App) -> Reply {
    let totals = app.registry().totals();
    let figures = app.metrics.render(&totals);
    with_type(StatusCode::OK, "text/plain; version=0.0.4", figures)
}

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

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
