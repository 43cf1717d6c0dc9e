//! The page for people, and the figures for machines.

use std::fmt::Write as _;

use hyper::StatusCode;

use super::http::{Reply, with_type};
use super::page::{escape, html};
use crate::app::App;

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
