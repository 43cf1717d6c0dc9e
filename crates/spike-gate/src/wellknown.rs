//! `/.well-known/swarm/`: what the site says about itself, answered by the gate.
//!
//! | path | answer |
//! |---|---|
//! | `keys` | the chain of keys (spec 0002) |
//! | `manifest` | the site record: keys, manifest, stamp |
//! | `alarm` | the standing alarm, or 204 |
//! | `bundle/<v2 hash>.torrent` | a bundle's metainfo |
//! | `join` | how a visitor can help |

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};

use crate::proxy::body::{self, AnyBody};

/// The prefix of everything here.
pub const PREFIX: &str = "/.well-known/swarm/";

/// What is served.
#[derive(Debug, Default)]
pub struct WellKnown {
    said: RwLock<Said>,
}

/// The bytes of each answer.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// The chain of keys.
    pub keys: Option<Bytes>,
    /// The site record.
    pub record: Option<Bytes>,
    /// The standing alarm.
    pub alarm: Option<Bytes>,
    /// Torrents by the hexadecimal v2 info hash.
    pub torrents: HashMap<String, Bytes>,
    /// The page that tells how to help.
    pub join: Option<String>,
}

impl WellKnown {
    /// Changes what is served.
    pub fn change(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.said.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The record as served now.
    pub fn record(&self) -> Option<Bytes> {
        self.said
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .record
            .clone()
    }

    /// Answers a request below [`PREFIX`]; `None` if the path is not there.
    pub fn answer(&self, method: &Method, path: &str) -> Option<Response<AnyBody>> {
        let name = path.strip_prefix(PREFIX)?;
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut refused = status(StatusCode::METHOD_NOT_ALLOWED);
            refused
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(refused);
        }
        let said = self
            .said
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let bytes = |bytes: Option<Bytes>| {
            bytes.map_or_else(
                || status(StatusCode::NOT_FOUND),
                |bytes| content(bytes, "application/octet-stream", "no-cache"),
            )
        };
        let mut response = match name {
            "keys" => bytes(said.keys),
            "manifest" => bytes(said.record),
            "alarm" => match said.alarm {
                Some(alarm) => content(alarm, "application/octet-stream", "no-store"),
                None => status(StatusCode::NO_CONTENT),
            },
            "join" => match said.join {
                Some(page) => content(page, "text/html; charset=utf-8", "no-cache"),
                None => status(StatusCode::NOT_FOUND),
            },
            other => {
                let torrent = other
                    .strip_prefix("bundle/")
                    .and_then(|name| name.strip_suffix(".torrent"))
                    .and_then(|hash| said.torrents.get(hash));
                match torrent {
                    // Named by its hash: it never changes.
                    Some(torrent) => content(
                        torrent.clone(),
                        "application/x-bittorrent",
                        "public, max-age=86400, immutable",
                    ),
                    None => status(StatusCode::NOT_FOUND),
                }
            }
        };
        if method == Method::HEAD {
            // hyper keeps the length and leaves the bytes out.
            *response.body_mut() = body::empty();
        }
        Some(response)
    }
}

fn content(
    bytes: impl Into<Bytes>,
    media_type: &'static str,
    cache: &'static str,
) -> Response<AnyBody> {
    let bytes = bytes.into();
    let mut response = Response::new(body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    *response.body_mut() = body::full(bytes);
    response
}

fn status(status: StatusCode) -> Response<AnyBody> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The page behind `join`.
pub fn join_page(site: &str, tracker: &str, root_key: &str) -> String {
    let escape = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('"', "&quot;")
    };
    let (site, tracker, key) = (escape(site), escape(tracker), escape(root_key));
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Help {site}</title>\
         <body style=\"font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem\">\
         <h1>Lend {site} a hand</h1>\
         <p>When more people come than this site's line can carry, volunteers pass its files on. \
         Every file is checked against the site's signature before it is served. You decide how \
         much you give; stop the program and nothing remains.</p>\
         <pre style=\"white-space:pre-wrap;background:#f0f4f8;padding:1rem\">\
         webseed-bridge run --volunteer --tracker {tracker} --site {site} --site-key {site}={key}</pre>\
         <p><a href=\"/\">Back to the site</a></p></body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn get(known: &WellKnown, path: &str) -> (u16, Vec<u8>) {
        let response = known.answer(&Method::GET, path).unwrap();
        let status = response.status().as_u16();
        (
            status,
            response
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .to_vec(),
        )
    }

    #[tokio::test]
    async fn each_name_has_its_answer() {
        let known = WellKnown::default();
        assert!(known.answer(&Method::GET, "/index.html").is_none());
        assert_eq!(get(&known, "/.well-known/swarm/alarm").await.0, 204);
        assert_eq!(get(&known, "/.well-known/swarm/manifest").await.0, 404);
        known.change(|said| {
            said.keys = Some(Bytes::from_static(b"K"));
            said.record = Some(Bytes::from_static(b"R"));
            said.alarm = Some(Bytes::from_static(b"A"));
            said.torrents
                .insert("ab".repeat(32), Bytes::from_static(b"T"));
            said.join = Some(join_page("s.example", "http://t/announce", "<key>"));
        });
        for (name, body) in [("keys", "K"), ("manifest", "R"), ("alarm", "A")] {
            let found = get(&known, &format!("{PREFIX}{name}")).await;
            assert_eq!(found, (200, body.as_bytes().to_vec()), "{name}");
        }
        let torrent = format!("{PREFIX}bundle/{}.torrent", "ab".repeat(32));
        assert_eq!(get(&known, &torrent).await, (200, b"T".to_vec()));
        for name in [
            "",
            "bundle/",
            "bundle/x.torrent",
            "bundle/../keys",
            "keys/",
            "worker.js",
        ] {
            assert_eq!(
                get(&known, &format!("{PREFIX}{name}")).await.0,
                404,
                "{name}"
            );
        }
        let (_, page) = get(&known, &format!("{PREFIX}join")).await;
        assert!(
            String::from_utf8(page)
                .unwrap()
                .contains("s.example=&lt;key>")
        );
        let refused = known
            .answer(&Method::POST, "/.well-known/swarm/alarm")
            .unwrap();
        assert_eq!(refused.status(), 405);
        let head = known
            .answer(&Method::HEAD, "/.well-known/swarm/keys")
            .unwrap();
        assert_eq!(head.headers()["content-length"], "1");
    }
}
