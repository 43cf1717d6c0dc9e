//! What an answer says of the bridge that gave it. Pure.

use hyper::StatusCode;
use hyper::header::{self, HeaderMap};
use swarm_proto::manifest::{FileEntry, SiteName, SitePath};
use url::Url;

use super::fetch::{Failed, Got};
use crate::registry::{Finding, Shown, essence};

/// Longest media type that is looked at: what a manifest can have, and more.
const MEDIA_TYPE_LEN_MAX: usize = 256;

/// Compares what came for `path` of `site` with `file` of its manifest. `host` is what the bridge
/// was asked as.
pub(super) fn judge(
    site: &SiteName,
    host: &str,
    path: &SitePath,
    file: &FileEntry,
    result: &Result<Got, Failed>,
) -> Finding {
    let got = match result {
        Ok(got) => got,
        Err(Failed::Refused) => return Finding::Shut,
        Err(Failed::TimedOut | Failed::Broken) => return Finding::Silent,
    };
    if got.headers.contains_key("refresh") {
        return Finding::Forged("a header sends visitors elsewhere");
    }
    if got.status.is_redirection() {
        return match got.headers.get(header::LOCATION) {
            Some(location) if !stays(site, host, location.as_bytes()) => {
                Finding::Forged("a redirect to elsewhere")
            }
            _ => Finding::Away,
        };
    }
    if got.status != StatusCode::OK {
        return Finding::Away;
    }
    let coded = got.headers.get(header::CONTENT_ENCODING);
    if coded.is_some_and(|coding| coding != "identity") {
        // Nothing that comes over the network is decompressed (T5).
        return Finding::Away;
    }
    if !got.is_whole {
        return Finding::Silent;
    }
    let shown = Shown {
        digest: got.digest,
        media_type: media_type(&got.headers),
    };
    if shown == Shown::of(file) {
        Finding::Right
    } else {
        Finding::Wrong(path.clone(), shown)
    }
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok());
    essence(
        text.filter(|text| text.len() <= MEDIA_TYPE_LEN_MAX)
            .unwrap_or_default(),
    )
}

/// Whether a redirect leads to the site itself, or to another path of this bridge.
fn stays(site: &SiteName, host: &str, location: &[u8]) -> bool {
    let Ok(location) = std::str::from_utf8(location) else {
        return false;
    };
    let Ok(base) = Url::parse(&format!("http://{host}/")) else {
        return false;
    };
    let (Ok(target), Ok(bridge)) = (base.join(location), SiteName::of(&base)) else {
        return false;
    };
    SiteName::of(&target).is_ok_and(|named| named == *site || named == bridge)
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};
    use swarm_proto::id::Digest;

    use super::*;

    const HTML: &str = "text/html; charset=utf-8";

    fn file() -> FileEntry {
        FileEntry {
            bundle: 0,
            file: 0,
            length: 5,
            digest: Digest::of(b"right"),
            media_type: HTML.into(),
            cache_secs: 0,
            modified: 0,
            variants: Vec::new(),
        }
    }

    fn answer(status: u16, body: &[u8], headers: &[(&str, &str)]) -> Result<Got, Failed> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).expect("a name");
            map.insert(name, HeaderValue::from_str(value).expect("a value"));
        }
        Ok(Got {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: map,
            is_whole: true,
            digest: Digest::of(body),
            kept: Vec::new(),
        })
    }

    fn judged(result: &Result<Got, Failed>) -> Finding {
        let site = SiteName::parse("example.org:8443").expect("a site");
        let path = SitePath::parse("/index.html").expect("a path");
        judge(
            &site,
            "example-org.bridges.example:8080",
            &path,
            &file(),
            result,
        )
    }

    #[test]
    fn bytes_and_type_are_as_the_manifest_says_or_wrong() {
        let shown = |body: &[u8], headers: &[(&str, &str)]| judged(&answer(200, body, headers));
        let html = [("content-type", HTML)];
        assert_eq!(shown(b"right", &html), Finding::Right);
        assert_eq!(
            shown(b"right", &[("content-type", "Text/HTML")]),
            Finding::Right
        );
        for (body, headers) in [
            (b"wrong".as_slice(), html.as_slice()),
            (b"righ", &html),
            (b"right!", &html),
            (b"", &html),
            (b"right", &[("content-type", "text/plain")]),
            (b"right", &[]),
        ] {
            let found = shown(body, headers);
            assert!(matches!(found, Finding::Wrong(..)), "{found:?}");
        }
        let mut cut = answer(200, b"righ", &html);
        if let Ok(got) = &mut cut {
            got.is_whole = false;
        }
        assert_eq!(judged(&cut), Finding::Silent);
    }

    #[test]
    fn an_honest_no_is_no_lie() {
        let home = "http://example.org:8443/index.html?spikeswarm=home";
        for (status, headers) in [
            (302, [("location", home)]),
            (302, [("location", "https://example.org:8443/")]),
            (301, [("location", "/docs/")]),
            (
                301,
                [("location", "http://example-org.bridges.example:8080/docs/")],
            ),
            (404, [("content-type", HTML)]),
            (421, [("content-type", HTML)]),
            (503, [("retry-after", "5")]),
            (200, [("content-encoding", "gzip")]),
        ] {
            let found = judged(&answer(status, b"", &headers));
            assert_eq!(found, Finding::Away, "{status} {headers:?}");
        }
        assert_eq!(judged(&Err(Failed::Refused)), Finding::Shut);
        assert_eq!(judged(&Err(Failed::TimedOut)), Finding::Silent);
        assert_eq!(judged(&Err(Failed::Broken)), Finding::Silent);
    }

    #[test]
    fn whoever_sends_visitors_elsewhere_lies() {
        for location in [
            "http://evil.example/",
            "//evil.example/",
            "https://example.org/",
            "http://example.org:8443@evil.example/",
            "http://example.org.evil.example:8443/",
            "/\\evil.example/",
            "javascript:alert(1)",
            "data:text/html,x",
            "ftp://example.org:8443/",
        ] {
            for status in [301, 302, 303, 307, 308] {
                let found = judged(&answer(status, b"", &[("location", location)]));
                assert!(matches!(found, Finding::Forged(_)), "{status} {location}");
            }
        }
        let headers = [
            ("content-type", HTML),
            ("refresh", "0; url=http://evil.example/"),
        ];
        let found = judged(&answer(200, b"right", &headers));
        assert!(matches!(found, Finding::Forged(_)));
    }
}
