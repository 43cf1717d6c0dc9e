//! Whole answers, from bundles in memory.

use super::*;
use std::collections::BTreeMap;
use std::io;

use http::header::{
    ALLOW, CONTENT_LENGTH, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE, RETRY_AFTER,
};
use http_body_util::BodyExt;
use swarm_proto::id::{Digest, InfoHashV1, InfoHashV2};
use swarm_proto::manifest::{BundleEntry, Encoding, SiteManifest, SiteName, Variant};

use crate::body::{ByteStream, Source};
use crate::join::{Bundle, BundleFiles};
use crate::site::Standing;

const PAGE: &[u8] = b"<!doctype html><p>hello</p>";
const PAGE_BR: &[u8] = b"brotli, as if";
const MODIFIED: u64 = 1_700_000_000;
const SAME: &str = "Tue, 14 Nov 2023 22:13:20 GMT";

fn large() -> Vec<u8> {
    (0..200_000u32).map(|n| ((n * 31) >> 3) as u8).collect()
}

/// A bundle in memory. Files that are `None` never come.
struct Memory(Vec<Option<Vec<u8>>>);

struct MemoryFile(Option<Vec<u8>>);

impl BundleFiles for Memory {
    fn file(&self, index: u32) -> Arc<dyn Source> {
        Arc::new(MemoryFile(self.0[index as usize].clone()))
    }
}

impl Source for MemoryFile {
    fn open(&self, range: ByteRange) -> ByteStream {
        let Some(bytes) = &self.0 else {
            return futures_util::stream::pending().boxed();
        };
        let bytes = Bytes::copy_from_slice(&bytes[range.start as usize..range.end as usize]);
        let steps = (0..bytes.len()).step_by(16 * 1024);
        let chunks: Vec<io::Result<Bytes>> = steps
            .map(|at| Ok(bytes.slice(at..bytes.len().min(at + 16 * 1024))))
            .collect();
        futures_util::stream::iter(chunks).boxed()
    }

    fn holds(&self, _: ByteRange) -> bool {
        self.0.is_some()
    }
}

struct Setup {
    responder: Responder,
    sites: Arc<Sites>,
}

/// `example.org` with a few files, at `example-org.localhost` and `/example.org/`.
fn setup(standing: Standing, not_found_page: bool, expires: u64) -> Setup {
    let mut files = BTreeMap::new();
    let mut contents = Vec::new();
    let mut add = |path: &str, media_type: &str, claimed: &[u8], content: Option<&[u8]>| {
        let file = FileEntry {
            bundle: 0,
            file: contents.len() as u32,
            length: claimed.len() as u64,
            digest: Digest::of(claimed),
            media_type: media_type.into(),
            cache_secs: 300,
            modified: MODIFIED,
            variants: vec![],
        };
        contents.push(content.map(<[u8]>::to_vec));
        files.insert(SitePath::parse(path).unwrap(), file);
    };
    let html = "text/html; charset=utf-8";
    let other = vec![7; 200_000];
    add("/index.html", html, PAGE, Some(PAGE));
    add("/docs/index.html", html, b"docs", Some(b"docs"));
    add(
        "/a%20b/%C3%A9.txt",
        "text/plain",
        b"odd name",
        Some(b"odd name"),
    );
    add(
        "/large.bin",
        "application/octet-stream",
        &large(),
        Some(&large()),
    );
    add("/empty", "text/plain", b"", Some(b""));
    add("/lost.bin", "image/png", b"lost", None);
    add("/wrong-small", "text/plain", b"right", Some(b"wrong"));
    add("/wrong-large", "text/plain", &large(), Some(&other));
    if not_found_page {
        add("/404.html", html, b"ours is gone", Some(b"ours is gone"));
    }
    let page = files
        .get_mut(&SitePath::parse("/index.html").unwrap())
        .unwrap();
    page.variants.push(Variant {
        encoding: Encoding::Brotli,
        file: contents.len() as u32,
        length: PAGE_BR.len() as u64,
        digest: Digest::of(PAGE_BR),
    });
    contents.push(Some(PAGE_BR.to_vec()));
    let manifest = SiteManifest {
        site: SiteName::parse("example.org").unwrap(),
        sequence: 1,
        created: 0,
        expires,
        stamped: false,
        bundles: vec![BundleEntry {
            v1: InfoHashV1::of_info(b"x"),
            v2: InfoHashV2::of_info(b"x"),
            alias: None,
            length: 0,
            trackers: vec![],
        }],
        files,
    };
    let bundles: Vec<Bundle> = vec![Arc::new(Memory(contents))];
    let edition = Edition::new(manifest, bundles, u64::MAX);
    let site = Site::new(edition, standing, Some("https://example.org"));
    let sites = Arc::new(Sites::new("localhost", false));
    sites.insert(Arc::new(site)).unwrap();
    let patience = Patience {
        first_byte: Duration::from_secs(10),
        stall: Duration::from_secs(10),
    };
    let responder = Responder::new(sites.clone(), patience, 1 << 20, None);
    Setup { responder, sites }
}

fn named() -> Setup {
    setup(Standing::Named, false, u64::MAX)
}

/// An answer with its body read; `None` where the body broke off.
struct Got {
    status: u16,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Got {
    fn header(&self, name: impl http::header::AsHeaderName) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    fn body(&self) -> &[u8] {
        self.body.as_ref().expect("a body to its end")
    }
}

async fn ask(
    setup: &Setup,
    method: &str,
    host: &str,
    path: &str,
    headers: &[(HeaderName, &str)],
) -> Got {
    let mut request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", host);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let (parts, body) = setup.responder.respond(&parts).await.into_parts();
    Got {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: body.collect().await.ok().map(|body| body.to_bytes()),
    }
}

async fn get(setup: &Setup, path: &str, headers: &[(HeaderName, &str)]) -> Got {
    ask(setup, "GET", "example-org.localhost", path, headers).await
}

#[tokio::test]
async fn a_page_has_all_its_headers() {
    let setup = named();
    let got = get(&setup, "/", &[]).await;
    assert_eq!((got.status, got.body()), (200, PAGE));
    assert_eq!(got.header(CONTENT_TYPE), "text/html; charset=utf-8");
    assert_eq!(got.header(CACHE_CONTROL), "public, max-age=300");
    assert_eq!(got.header(LAST_MODIFIED), SAME);
    assert_eq!(got.header(VARY), "accept-encoding");
    assert_eq!(got.header(ACCEPT_RANGES), "bytes");
    assert_eq!(got.header("x-content-type-options"), "nosniff");
    assert_eq!(got.header("access-control-allow-origin"), "*");
    assert_eq!(got.header("cross-origin-resource-policy"), "cross-origin");
    assert_eq!(got.header("timing-allow-origin"), "*");
    assert_eq!(
        got.header(LINK),
        "<https://example.org/index.html>; rel=\"canonical\""
    );
    assert!(got.header("server-timing").starts_with("store;dur="));
    assert!(got.header(ETAG).starts_with('"'));
    for absent in [
        "set-cookie",
        "content-encoding",
        "content-security-policy",
        "content-range",
    ] {
        assert!(!got.headers.contains_key(absent), "{absent}");
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let setup = named();
    for path in [
        "/",
        "/large.bin",
        "/empty",
        "/docs",
        "/nothing",
        "/lost.bin",
    ] {
        let head = ask(
            &setup,
            "HEAD",
            "example-org.localhost",
            path,
            &[(RANGE, "bytes=0-1")],
        )
        .await;
        assert_eq!(head.body(), b"", "{path}");
        if path == "/lost.bin" {
            assert_eq!((head.status, head.header(CONTENT_LENGTH)), (200, "4"));
            continue;
        }
        let got = get(&setup, path, &[]).await;
        assert_eq!(head.status, got.status, "{path}");
        assert_eq!(
            head.header(CONTENT_LENGTH),
            got.body().len().to_string(),
            "{path}"
        );
        assert_eq!(head.header(ETAG), got.header(ETAG), "{path}");
        assert_eq!(
            head.header(CONTENT_TYPE),
            got.header(CONTENT_TYPE),
            "{path}"
        );
    }
}

#[tokio::test]
async fn variants_are_negotiated_and_tagged_apart() {
    let setup = named();
    let br = get(&setup, "/", &[(ACCEPT_ENCODING, "gzip, br")]).await;
    assert_eq!((br.status, br.body()), (200, PAGE_BR));
    assert_eq!(br.header(CONTENT_ENCODING), "br");
    assert_eq!(br.header(CONTENT_TYPE), "text/html; charset=utf-8");
    let plain = get(&setup, "/", &[(ACCEPT_ENCODING, "gzip")]).await;
    assert_eq!(plain.body(), PAGE);
    assert_ne!(br.header(ETAG), plain.header(ETAG));
    // A range is one of the representation chosen.
    let part = get(
        &setup,
        "/",
        &[(ACCEPT_ENCODING, "br"), (RANGE, "bytes=0-5")],
    )
    .await;
    assert_eq!((part.status, part.body()), (206, &b"brotli"[..]));
    // A tag of another coding is no match.
    let headers = [(ACCEPT_ENCODING, "br"), (IF_NONE_MATCH, plain.header(ETAG))];
    assert_eq!(get(&setup, "/", &headers).await.status, 200);
}

#[tokio::test]
async fn conditions_answer_304_and_412() {
    let setup = named();
    let etag = get(&setup, "/", &[]).await.header(ETAG).to_owned();
    for headers in [
        &[(IF_NONE_MATCH, etag.as_str())][..],
        &[(IF_MODIFIED_SINCE, SAME)],
    ] {
        let got = get(&setup, "/", headers).await;
        assert_eq!((got.status, got.body()), (304, &b""[..]));
        assert_eq!(got.header(ETAG), etag);
        assert_eq!(got.header(VARY), "accept-encoding");
        assert_eq!(got.header(CACHE_CONTROL), "public, max-age=300");
        for absent in [CONTENT_LENGTH, CONTENT_TYPE, LAST_MODIFIED] {
            assert!(!got.headers.contains_key(&absent), "{absent}");
        }
    }
    assert_eq!(
        get(&setup, "/", &[(IF_MATCH, "\"other\"")]).await.status,
        412
    );
    // A condition comes before a range.
    let headers = [(IF_NONE_MATCH, etag.as_str()), (RANGE, "bytes=0-1")];
    assert_eq!(get(&setup, "/", &headers).await.status, 304);
}

#[tokio::test]
async fn ranges_are_exact() {
    let setup = named();
    let large = large();
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=70000-170000", 70_000, 170_001),
        ("bytes=-1000", 199_000, 200_000),
        ("bytes=199990-", 199_990, 200_000),
    ] {
        let got = get(&setup, "/large.bin", &[(RANGE, range)]).await;
        assert_eq!(
            (got.status, got.body()),
            (206, &large[start..end]),
            "{range}"
        );
        assert_eq!(
            got.header(CONTENT_RANGE),
            format!("bytes {start}-{}/200000", end - 1)
        );
    }
    let got = get(&setup, "/large.bin", &[(RANGE, "bytes=200000-")]).await;
    assert_eq!(
        (got.status, got.header(CONTENT_RANGE)),
        (416, "bytes */200000")
    );
    let got = get(&setup, "/large.bin", &[(RANGE, "bytes=9-1")]).await;
    assert_eq!((got.status, got.body()), (200, &large[..]));
    let got = get(
        &setup,
        "/large.bin",
        &[(RANGE, "bytes=0-1"), (IF_RANGE, "\"x\"")],
    )
    .await;
    assert_eq!((got.status, got.body()), (200, &large[..]));
    let got = get(&setup, "/empty", &[(RANGE, "bytes=0-")]).await;
    assert_eq!((got.status, got.header(CONTENT_RANGE)), (416, "bytes */0"));
    assert_eq!(get(&setup, "/empty", &[]).await.body(), b"");
}

#[tokio::test]
async fn several_ranges_come_as_multipart() {
    let setup = named();
    let large = large();
    let got = get(
        &setup,
        "/large.bin",
        &[(RANGE, "bytes=0-99,150000-199999,500-500")],
    )
    .await;
    assert_eq!(got.status, 206);
    assert!(!got.headers.contains_key(CONTENT_RANGE));
    let boundary = got
        .header(CONTENT_TYPE)
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap()
        .to_owned();
    let mut expected = Vec::new();
    for (start, end) in [(0, 100), (150_000, 200_000), (500, 501)] {
        expected.extend_from_slice(
            format!(
                "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {start}-{}/200000\r\n\r\n",
                end - 1
            )
            .as_bytes(),
        );
        expected.extend_from_slice(&large[start..end]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert!(got.body() == expected);
}

#[tokio::test]
async fn folders_and_odd_names_are_found() {
    let setup = named();
    let got = get(&setup, "/docs?q=1", &[]).await;
    assert_eq!((got.status, got.header(LOCATION)), (301, "/docs/?q=1"));
    assert_eq!(get(&setup, "/docs/", &[]).await.body(), b"docs");
    assert_eq!(
        get(&setup, "/%64ocs/index.html?v=2", &[]).await.body(),
        b"docs"
    );
    assert_eq!(
        get(&setup, "/a%20b/%c3%a9.txt", &[]).await.body(),
        b"odd name"
    );
    for path in [
        "/nothing",
        "/docs/nothing/",
        "/../index.html",
        "/docs/%2e%2e/index.html",
        "//index.html",
        "/docs%2findex.html",
        "/.well-known/x",
        "/%00",
        "/%ff",
        "/%",
        "/docs\\index.html",
        "/INDEX.HTML",
    ] {
        let got = get(&setup, path, &[]).await;
        assert_eq!(got.status, 404, "{path}");
        assert_eq!(got.header(CACHE_CONTROL), "no-store");
    }
}

#[tokio::test]
async fn what_is_missing_gets_the_sites_own_page_or_home() {
    let setup = setup(Standing::Named, true, u64::MAX);
    let got = get(&setup, "/nothing", &[(RANGE, "bytes=0-1")]).await;
    assert_eq!((got.status, got.body()), (404, &b"ours is gone"[..]));
    assert!(!got.headers.contains_key(ETAG));
    let setup = named();
    let headers = [(HeaderName::from_static("sec-fetch-mode"), "navigate")];
    let got = get(&setup, "/search?q=x", &headers).await;
    assert_eq!(got.status, 302);
    assert_eq!(
        got.header(LOCATION),
        "https://example.org/search?q=x&spikeswarm=home"
    );
}

#[tokio::test]
async fn a_shared_address_is_sandboxed() {
    let setup = named();
    let at = async |path, headers| ask(&setup, "GET", "127.0.0.1:8080", path, headers).await;
    let got = at("/example.org/", &[]).await;
    assert_eq!((got.status, got.body()), (200, PAGE));
    assert_eq!(got.header("content-security-policy"), "sandbox");
    let got = at("/example.org/docs", &[]).await;
    assert_eq!(
        (got.status, got.header(LOCATION)),
        (301, "/example.org/docs/")
    );
    let got = at("/example.org?x", &[]).await;
    assert_eq!((got.status, got.header(LOCATION)), (301, "/example.org/?x"));
    let worker = [(HeaderName::from_static("service-worker"), "script")];
    assert_eq!(at("/example.org/", &worker).await.status, 403);
    let index = at("/", &[]).await;
    assert!(String::from_utf8_lossy(index.body()).contains("example.org"));
    assert!(
        at("/robots.txt", &[])
            .await
            .body()
            .ends_with(b"Disallow: /\n")
    );
    assert_eq!(at("/other.example/", &[]).await.status, 404);
    assert_eq!(
        ask(&setup, "GET", "other.example", "/", &[]).await.status,
        421
    );
}

#[tokio::test]
async fn small_files_are_kept_and_answered_alike() {
    let setup = named();
    for headers in [
        &[][..],
        &[(RANGE, "bytes=3-8")],
        &[(RANGE, "bytes=0-0,-2")],
        &[(ACCEPT_ENCODING, "br")],
        &[(ACCEPT_ENCODING, "br"), (RANGE, "bytes=-3")],
    ] {
        let cold = get(&named(), "/", headers).await;
        get(&setup, "/", headers).await;
        let warm = get(&setup, "/", headers).await;
        assert_eq!(cold.status, warm.status, "{headers:?}");
        assert_eq!(
            cold.header(CONTENT_RANGE),
            warm.header(CONTENT_RANGE),
            "{headers:?}"
        );
        if !cold.header(CONTENT_TYPE).starts_with("multipart") {
            assert_eq!(cold.body(), warm.body(), "{headers:?}");
        }
        assert_eq!(cold.body().len(), warm.body().len(), "{headers:?}");
    }
    // What contradicts the manifest is not kept.
    for _ in 0..3 {
        assert_eq!(get(&setup, "/wrong-small", &[]).await.status, 502);
    }
    assert_eq!(
        get(&setup, "/", &[]).await.header("server-timing"),
        "store;dur=0.0"
    );
    let site = setup.sites.all().remove(0);
    assert!(site.stats().bytes() > PAGE.len() as u64 * 2);
}

#[tokio::test]
async fn only_get_and_head_are_answered() {
    let setup = named();
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
        let got = ask(&setup, method, "example-org.localhost", "/", &[]).await;
        assert_eq!(
            (got.status, got.header(ALLOW)),
            (405, "GET, HEAD, OPTIONS"),
            "{method}"
        );
    }
    let got = ask(&setup, "OPTIONS", "example-org.localhost", "/", &[]).await;
    assert_eq!((got.status, got.body()), (204, &b""[..]));
    assert_eq!(
        got.header("access-control-allow-methods"),
        "GET, HEAD, OPTIONS"
    );
}

#[tokio::test]
async fn visitors_go_home_when_no_alarm_stands() {
    let setup = setup(Standing::Alarmed { until: 1 }, false, u64::MAX);
    for (path, home) in [
        ("/", "https://example.org/?spikeswarm=home"),
        (
            "/docs/?a=b",
            "https://example.org/docs/?a=b&spikeswarm=home",
        ),
        (
            "/a%20b/%c3%a9.txt",
            "https://example.org/a%20b/%C3%A9.txt?spikeswarm=home",
        ),
    ] {
        let got = get(&setup, path, &[]).await;
        assert_eq!((got.status, got.header(LOCATION)), (302, home));
        assert_eq!(got.header(CACHE_CONTROL), "no-store");
    }
    let site = setup.sites.all().remove(0);
    assert_eq!(site.stats().sent_home(), 3);
    site.set_standing(Standing::Alarmed { until: u64::MAX }, None);
    assert_eq!(get(&setup, "/", &[]).await.status, 200);
    assert_eq!(
        (site.stats().hits(), site.stats().bytes()),
        (1, PAGE.len() as u64)
    );
}

#[tokio::test]
async fn an_expired_manifest_is_not_shown() {
    let setup = setup(Standing::Named, false, MODIFIED);
    assert_eq!(get(&setup, "/", &[]).await.status, 302);
}

#[tokio::test(start_paused = true)]
async fn what_the_swarm_cannot_deliver_is_a_504() {
    let setup = named();
    let got = get(&setup, "/lost.bin", &[]).await;
    assert_eq!((got.status, got.header(RETRY_AFTER)), (504, "5"));
    let got = get(&setup, "/lost.bin", &[(RANGE, "bytes=1-2")]).await;
    assert_eq!(got.status, 504);
}

#[tokio::test]
async fn a_file_that_contradicts_the_manifest_never_arrives() {
    let setup = named();
    assert_eq!(get(&setup, "/wrong-small", &[]).await.status, 502);
    let first = get(&setup, "/wrong-large", &[]).await;
    assert_eq!(first.status, 200);
    assert!(first.body.is_none(), "the connection breaks before the end");
    assert_eq!(get(&setup, "/wrong-large", &[]).await.status, 502);
}

#[tokio::test]
async fn a_bridge_that_wants_no_visitors_answers_no_tracker() {
    let setup = named();
    let path = format!("{PROOF_PATH}?nonce={}&tracker=t.example", "00".repeat(32));
    for host in ["192.0.2.1:8080", "example-org.localhost"] {
        assert_eq!(
            ask(&setup, "GET", host, &path, &[]).await.status,
            404,
            "{host}"
        );
    }
}
