//! The page for people, and the figures for machines (spec 0005, 2.9).
//!
//! The page is made here, plots and all, and needs no script; where there is one it fetches the
//! page's middle anew every two seconds.

mod plot;

use std::fmt::Write as _;

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use super::http::{Reply, set, text, with_type};
use super::page::escape;
use super::register;
use crate::app::App;
use crate::status::{SiteStatus, Status};
use plot::Plot;

const STYLE: &str = include_str!("status/status.css");
const SCRIPT: &str = include_str!("status/status.js");

/// Nothing from elsewhere, nothing inline, in nobody's frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
    connect-src 'self'; img-src data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";

/// `GET /`; with `part=main` only what changes.
pub(super) fn page(app: &App, query: &str) -> Reply {
    let status = app.status();
    let main = main(&status);
    if query == "part=main" {
        return uncached(with_type(StatusCode::OK, "text/html; charset=utf-8", main));
    }
    let page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <meta name=color-scheme content=\"light dark\"><title>Spikeswarm tracker</title>\
         <link rel=icon href=\"data:,\"><link rel=stylesheet href=status.css>\
         <script src=status.js defer></script>\
         <header><h1>Spikeswarm tracker</h1>\
         <p id=live><noscript>Reload for newer figures</noscript></p></header>\
         <main>{main}</main>\
         <footer><a href=api/v1/status>JSON</a><a href=metrics>Prometheus</a>\
         <span>version {}</span></footer>\n",
        status.version
    );
    let mut reply = uncached(with_type(StatusCode::OK, "text/html; charset=utf-8", page));
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        set(&mut reply, name, HeaderValue::from_static(value));
    }
    reply
}

/// `GET /status.css`.
pub(super) fn style() -> Reply {
    asset("text/css; charset=utf-8", STYLE)
}

/// `GET /status.js`.
pub(super) fn script() -> Reply {
    asset("text/javascript; charset=utf-8", SCRIPT)
}

/// `GET /api/v1/status`.
pub(super) fn json(app: &App) -> Reply {
    // Serialising plain structs to memory does not fail.
    let body = serde_json::to_vec(&*app.status()).unwrap_or_default();
    let mut reply = register::open(with_type(StatusCode::OK, "application/json", body));
    let nosniff = HeaderValue::from_static("nosniff");
    set(&mut reply, header::X_CONTENT_TYPE_OPTIONS, nosniff);
    reply
}

/// `GET /metrics`.
pub(super) fn metrics(app: &App) -> Reply {
    let totals = app.registry().totals();
    let certificates = app.certificates.as_ref().map(|held| held.summary());
    let certificates = certificates.unwrap_or_default();
    let mut figures = app
        .metrics
        .render(&totals, app.carried(), app.started_unix, certificates);
    figures.push_str(&app.store.render());
    with_type(StatusCode::OK, "text/plain; version=0.0.4", figures)
}

/// `GET /readyz`.
pub(super) fn ready(app: &App) -> Reply {
    match app.unready() {
        None => text(StatusCode::OK, "ready\n"),
        Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

fn asset(media_type: &'static str, body: &'static str) -> Reply {
    let mut reply = with_type(StatusCode::OK, media_type, body);
    for (name, value) in [
        (header::CACHE_CONTROL, "public, max-age=300"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        set(&mut reply, name, HeaderValue::from_static(value));
    }
    reply
}

fn uncached(mut reply: Reply) -> Reply {
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        set(&mut reply, name, HeaderValue::from_static(value));
    }
    reply
}

/// Writing to a String does not fail, so that results of `write!` are not looked at below.
fn main(status: &Status) -> String {
    let mut html = String::with_capacity(8192);
    let totals = &status.totals;
    let (class, state) = match totals.sites_in_need {
        0 => ("calm", "No site is in need".to_owned()),
        1 => ("need", "One site is in need".to_owned()),
        n => ("need", format!("{n} sites are in need")),
    };
    let _ = write!(
        html,
        "<p class=\"state {class}\"><strong>{state}</strong> \
         <span>up {}</span></p>",
        span(status.now.saturating_sub(status.started))
    );
    match status.store {
        "shared" => html.push_str("<p>Shares what it knows with other trackers</p>"),
        "alone" => html.push_str(
            "<p class=\"state need\"><strong>On its own</strong> \
             <span>the store that it shares with other trackers does not answer</span></p>",
        ),
        _ => {}
    }
    html.push_str("<dl class=tiles>");
    for (what, value) in [
        ("Volunteer bridges", grouped(totals.bridges as u64)),
        ("Announces a second", decimal(status.rates.announces)),
        ("Visitors sent on a second", decimal(status.rates.redirects)),
        ("Peers", grouped(totals.peers as u64)),
        ("Swarms", grouped(totals.swarms as u64)),
        ("Bundles of sites", grouped(totals.bundles as u64)),
    ] {
        let _ = write!(html, "<div><dt>{what}</dt><dd>{value}</dd></div>");
    }
    html.push_str("</dl><div class=plots>");
    let history = &status.history;
    let bridges: Vec<f64> = history.bridges.iter().map(|n| *n as f64).collect();
    for (title, values) in [
        ("Volunteer bridges", &bridges),
        ("Announces a second", &history.announces),
    ] {
        let plot = Plot {
            title,
            values,
            step_secs: history.step_seconds,
        };
        html.push_str(&plot.to_html());
    }
    html.push_str("</div>");
    sites(&mut html, status);
    html
}

fn sites(html: &mut String, status: &Status) {
    html.push_str("<h2>Sites</h2>");
    if status.sites.is_empty() {
        let why = match status.open {
            true => "This tracker takes any swarm, and works for no site in particular.",
            false => "This tracker has not been told of any site yet.",
        };
        let _ = write!(html, "<p>{why}</p>");
        return;
    }
    html.push_str(
        "<table><thead><tr><th>Site</th><th>State</th><th>Bridges</th>\
         <th class=wide>Bundles</th><th class=wide>Files</th><th>Visitors sent</th></tr></thead><tbody>",
    );
    for site in &status.sites {
        let _ = write!(
            html,
            "<tr><th scope=row>{}</th><td>{}</td><td data-what={}>{}</td>\
             <td class=wide>{}</td><td class=wide>{}</td><td data-what=sent>{}</td></tr>",
            escape(&site.site),
            state(site, status.now),
            if site.bridges == 1 {
                "bridge"
            } else {
                "bridges"
            },
            grouped(site.bridges as u64),
            grouped(site.bundles as u64),
            grouped(site.files as u64),
            grouped(site.sent),
        );
    }
    html.push_str("</tbody></table>");
    if status.sites_left_off > 0 {
        let left_off = grouped(status.sites_left_off as u64);
        let _ = write!(
            html,
            "<p>and {left_off} more that are calm or further down</p>"
        );
    }
}

fn state(site: &SiteStatus, now: u64) -> String {
    match (site.in_need_until, site.sequence) {
        (Some(until), _) => format!(
            "<span class=badge>in need</span> <small>{} more</small>",
            span(until.saturating_sub(now))
        ),
        (None, Some(_)) => "calm".to_owned(),
        (None, None) => "nothing published".to_owned(),
    }
}

/// `1234567` as `1 234 567`, with spaces that do not break.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// To a tenth where that says anything.
fn decimal(number: f64) -> String {
    if number < 100.0 && number.fract() != 0.0 {
        format!("{number:.1}")
    } else {
        grouped(number.round() as u64)
    }
}

/// For the side of a plot: `2`, `400`, `10k`, `2M`.
fn short(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{}M", n / 1e6),
        n if n >= 1e4 => format!("{}k", n / 1e3),
        n => decimal(n),
    }
}

/// A time as people say it, in its two largest units.
fn span(secs: u64) -> String {
    let (minutes, hours, days) = (secs / 60, secs / 3600, secs / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {} min", minutes % 60),
        (days, hours, _) => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests;
