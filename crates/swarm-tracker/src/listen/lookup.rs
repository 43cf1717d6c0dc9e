//! `GET /lookup?url=`: whether the swarm has a page, for plug-ins and service workers (spec 0006,
//! 6).

use std::net::IpAddr;

use data_encoding::HEXLOWER;
use hyper::header::{self, HeaderValue};
use hyper::{Request, StatusCode};
use serde::Serialize;
use swarm_proto::manifest::SiteName;
use swarm_proto::tracker::register::SITE_PATH;

use super::http::{Reply, set, with_type};
use super::register;
use super::target;
use crate::app::App;
use crate::registry::{Found, NotHeld};

/// Bridges in an answer: more than a page's loader tries.
const BRIDGES_MAX: usize = 16;

/// Seconds for which an answer may be used again by who asked: bridges come and go.
const FOUND_FOR: &str = "private, max-age=10";

/// The same for a page that is not there.
const MISSING_FOR: &str = "private, max-age=30";

/// The answer to a URL that the swarm has.
#[derive(Debug, Serialize)]
struct Hit<'a> {
    found: bool,
    site: &'a str,
    path: String,
    in_need: bool,
    manifest: ManifestAt,
    bundle: Bundle<'a>,
    file: File<'a>,
    bridges: Vec<Bridge>,
}

#[derive(Debug, Serialize)]
struct ManifestAt {
    url: String,
    sequence: u64,
    created: u64,
    expires: u64,
}

#[derive(Debug, Serialize)]
struct Bundle<'a> {
    v1: String,
    v2: String,
    length: u64,
    trackers: &'a [String],
}

#[derive(Debug, Serialize)]
struct File<'a> {
    index: u32,
    length: u64,
    sha256: String,
    media_type: &'a str,
    cache_seconds: u32,
}

#[derive(Debug, Serialize)]
struct Bridge {
    base: String,
    url: String,
}

/// The answer to any other.
#[derive(Debug, Serialize)]
struct Miss {
    found: bool,
    reason: &'static str,
}

/// Answers whoever asks from `source`.
pub(super) fn lookup<B>(app: &App, source: IpAddr, request: &Request<B>) -> Reply {
    if let Some(reply) = register::preflight(request) {
        return reply;
    }
    let now = app.now();
    if !app.may_ask(now, source, 1) {
        let mut reply = miss(StatusCode::TOO_MANY_REQUESTS, "too_many_requests");
        set(
            &mut reply,
            header::RETRY_AFTER,
            HeaderValue::from_static("1"),
        );
        set(
            &mut reply,
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        );
        return reply;
    }
    let mut urls = register::query(request).filter(|(key, _)| key == "url");
    let target = match (urls.next(), urls.next()) {
        (Some((_, url)), None) => target::from_url(&url),
        _ => Err(target::NoTarget),
    };
    let Ok(target) = target else {
        app.metrics.lookups_missing.add();
        return miss(StatusCode::BAD_REQUEST, "no_page_url");
    };
    let found = match &target.path {
        Some(path) if !target.has_query() => {
            app.registry()
                .lookup(now, &target.site, path, source, BRIDGES_MAX)
        }
        // No manifest lists pages with a query yet.
        _ => Err(NotHeld::NotPublished),
    };
    match found {
        Ok(found) => {
            app.metrics.lookups_found.add();
            json(StatusCode::OK, FOUND_FOR, &hit(&target.site, &found))
        }
        Err(missing) => {
            app.metrics.lookups_missing.add();
            let reason = match missing {
                NotHeld::UnknownSite => "unknown_site",
                NotHeld::NoManifest => "no_manifest",
                NotHeld::Expired => "expired",
                NotHeld::NotPublished => "not_published",
            };
            miss(StatusCode::NOT_FOUND, reason)
        }
    }
}

fn hit<'a>(site: &'a SiteName, found: &'a Found) -> Hit<'a> {
    let Found {
        manifest,
        path,
        file,
        bundle,
        in_need,
        bridges,
    } = found;
    // Brackets of an IPv6 address have no place in a path (RFC 3986, 3.3).
    let name = site.as_str().replace('[', "%5B").replace(']', "%5D");
    Hit {
        found: true,
        site: site.as_str(),
        path: path.to_url(),
        in_need: *in_need,
        manifest: ManifestAt {
            url: format!("{SITE_PATH}/{name}"),
            sequence: manifest.sequence,
            created: manifest.created,
            expires: manifest.expires,
        },
        bundle: Bundle {
            v1: HEXLOWER.encode(bundle.v1.as_bytes()),
            v2: HEXLOWER.encode(bundle.v2.as_bytes()),
            length: bundle.length,
            trackers: &bundle.trackers,
        },
        file: File {
            index: file.file,
            length: file.length,
            sha256: HEXLOWER.encode(file.digest.as_bytes()),
            media_type: &file.media_type,
            cache_seconds: file.cache_secs,
        },
        bridges: bridges
            .iter()
            .map(|bridge| Bridge {
                base: bridge.base.clone(),
                url: bridge.url_for(site, path),
            })
            .collect(),
    }
}

fn miss(status: StatusCode, reason: &'static str) -> Reply {
    let body = Miss {
        found: false,
        reason,
    };
    json(status, MISSING_FOR, &body)
}

/// A JSON answer that any page may read.
fn json(status: StatusCode, cache: &'static str, body: &impl Serialize) -> Reply {
    // Serialising plain structs to memory does not fail.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut reply = register::open(with_type(status, "application/json", body));
    let cache = HeaderValue::from_static(cache);
    set(&mut reply, header::CACHE_CONTROL, cache);
    set(
        &mut reply,
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    reply
}

#[cfg(test)]
mod tests;
