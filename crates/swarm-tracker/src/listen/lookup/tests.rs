use std::sync::Arc;

use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use swarm_proto::id::Digest;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::TrackerConfig;
use crate::testing::TestSite;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A tracker with a site whose front page 40 bridges hold, one without manifest, one with an
/// address for a name.
async fn app() -> Arc<App> {
    let app = App::open(&TrackerConfig::default(), CancellationToken::new()).expect("no state");
    let app = Arc::new(app);
    for (name, n) in [("example.org", 1), ("[::1]:8080", 2), ("silent.example", 3)] {
        let site = TestSite::new(name, n);
        app.pin(site.name.clone(), site.root()).await;
        if n < 3 {
            let now = app.now().unix;
            let files = [("/index.html", n), ("/docs/a b.html", n + 10)];
            let record = site.record(7, now, &files);
            app.register(record.into()).await.expect("a good record");
        }
    }
    for n in 0..40 {
        app.list_bridge(1, 8000 + n, Some("localhost"));
    }
    app
}

async fn ask_from(app: &App, source: IpAddr, target: &str) -> (u16, Value) {
    let request = Request::builder().uri(target).body(()).expect("a request");
    let reply = lookup(app, source, &request);
    let status = reply.status().as_u16();
    assert_eq!(reply.headers()["access-control-allow-origin"], "*");
    assert_eq!(reply.headers()["content-type"], "application/json");
    let cache = reply.headers()["cache-control"].to_str().expect("ASCII");
    assert!(cache.starts_with("private, max-age="), "{cache}");
    let body = reply.into_body().collect().await.expect("in memory");
    let body = serde_json::from_slice(&body.to_bytes()).expect("JSON");
    (status, body)
}

async fn ask(app: &App, url: &str) -> (u16, Value) {
    let query: String = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("url", url)
        .finish();
    ask_from(app, HERE, &format!("/lookup?{query}")).await
}

#[tokio::test]
async fn what_the_swarm_has_is_told_with_all_that_is_needed_to_get_it() {
    let app = app().await;
    let (status, body) = ask(&app, "https://EXAMPLE.org:443/").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["found"], true);
    assert_eq!(body["site"], "example.org");
    assert_eq!(body["path"], "/");
    assert_eq!(body["in_need"], false);
    assert_eq!(body["manifest"]["url"], "/swarm/site/example.org");
    assert_eq!(body["manifest"]["sequence"], 7);
    assert_eq!(body["bundle"]["v1"], "01".repeat(20));
    assert_eq!(body["bundle"]["v2"], "81".repeat(32));
    assert_eq!(body["file"]["length"], 1);
    let digest = HEXLOWER.encode(Digest::of(b"/index.html").as_bytes());
    assert_eq!(body["file"]["sha256"], digest);
    assert_eq!(body["file"]["media_type"], "text/html");
    let bridges = body["bridges"].as_array().expect("a list");
    assert_eq!(bridges.len(), BRIDGES_MAX, "of 40");
    for bridge in bridges {
        let base = bridge["base"].as_str().expect("a URL");
        let port = base.strip_prefix("http://127.0.0.1:").expect(base);
        let url = format!("http://example-org.localhost:{port}/");
        assert_eq!(bridge["url"], url);
    }
    // Who cannot reach them is told of none.
    let far = "203.0.113.9".parse().expect("an address");
    let (status, body) = ask_from(&app, far, "/lookup?url=example.org/index.html").await;
    assert_eq!((status, &body["bridges"]), (200, &json!([])));
    // No lease was used, and nobody was sent anywhere.
    assert_eq!(app.metrics.redirects_bridge.get(), 0);
    assert_eq!(app.metrics.lookups_found.get(), 2);
    // A folder without its slash, a path that must be encoded, a name that must be.
    let (status, body) = ask(&app, "https://example.org/docs/a%20b.html").await;
    assert_eq!((status, &body["path"]), (200, &json!("/docs/a%20b.html")));
    let (status, body) = ask(&app, "http://[::1]:8080/").await;
    assert_eq!(status, 200);
    assert_eq!(body["manifest"]["url"], "/swarm/site/%5B::1%5D:8080");
}

#[tokio::test]
async fn what_it_has_not_is_said_with_the_reason() {
    let app = app().await;
    for (url, status, reason) in [
        ("https://unknown.example/", 404, "unknown_site"),
        ("https://silent.example/", 404, "no_manifest"),
        ("https://example.org/none", 404, "not_published"),
        ("https://example.org/?q=1", 404, "not_published"),
        ("https://example.org/?", 200, ""),
        ("https://example.org/#top", 200, ""),
        ("", 400, "no_page_url"),
        ("/", 400, "no_page_url"),
        ("javascript:alert(1)", 400, "no_page_url"),
        ("ftp://example.org/", 400, "no_page_url"),
        ("https://example.org@evil.example/", 400, "no_page_url"),
        ("https://example.org/../x", 400, "no_page_url"),
        ("https://example.org/.git/config", 400, "no_page_url"),
        ("https://example.org/%00", 400, "no_page_url"),
        ("https://a b/", 400, "no_page_url"),
        (
            &format!("https://example.org/{}", "a".repeat(2048)),
            400,
            "no_page_url",
        ),
    ] {
        let (found, body) = ask(&app, url).await;
        assert_eq!(found, status, "{url}: {body}");
        if status != 200 {
            assert_eq!(body, json!({"found": false, "reason": reason}), "{url}");
        }
    }
    for target in [
        "/lookup",
        "/lookup?",
        "/lookup?URL=x",
        "/lookup?url=a.org&url=b.org",
    ] {
        let (status, _) = ask_from(&app, HERE, target).await;
        assert_eq!(status, 400, "{target}");
    }
    let later = crate::registry::Moment {
        unix: app.now().unix + 90_000,
        ..app.now()
    };
    let site = SiteName::parse("example.org").expect("a site");
    let path = swarm_proto::manifest::SitePath::parse("/").expect("a path");
    let expired = app.registry().lookup(later, &site, &path, HERE, 1);
    assert_eq!(expired.err(), Some(NotHeld::Expired));
}

#[tokio::test]
async fn any_page_may_ask_and_nobody_too_often() {
    let config = TrackerConfig {
        announce: crate::config::AnnounceConfig {
            per_address_rate: 5,
            ..Default::default()
        },
        ..TrackerConfig::default()
    };
    let app = App::open(&config, CancellationToken::new()).expect("no state");
    let asked = |method: &str| {
        let request = Request::builder().method(method).uri("/lookup?url=a.org");
        let far = "203.0.113.9".parse().expect("an address");
        lookup(&app, far, &request.body(()).expect("a request"))
    };
    let preflight = asked("OPTIONS");
    assert_eq!(preflight.status(), 204);
    assert_eq!(
        preflight.headers()["access-control-allow-methods"],
        "GET, HEAD"
    );
    assert_eq!(asked("POST").status(), 405);
    let refused: Vec<Reply> = (0..20)
        .map(|_| asked("GET"))
        .filter(|reply| reply.status() == 429)
        .collect();
    assert!(refused.len() >= 10, "{}", refused.len());
    assert_eq!(refused[0].headers()["retry-after"], "1");
    assert_eq!(refused[0].headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn answers_are_as_documented() {
    let app = app().await;
    let (_, found) = ask(&app, "https://example.org/").await;
    let (_, missing) = ask(&app, "https://example.org/none").await;
    let mut found = found;
    // The test's manifest names no tracker.
    found["bundle"]["trackers"] = json!(["http://t/announce"]);
    crate::schema::check(&[found], "0006-volunteer-registry.md", "### 6.1");
    crate::schema::check(&[missing], "0006-volunteer-registry.md", "### 6.2");
}
