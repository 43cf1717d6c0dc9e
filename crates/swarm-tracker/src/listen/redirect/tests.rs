use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http_body_util::BodyExt as _;
use tokio_util::sync::CancellationToken;

mod hosted;

use super::*;
use crate::config::TrackerConfig;
use crate::testing::TestSite;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn unix() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock after 1970").as_secs()
}

/// A tracker with three sites: one with a bridge that has a domain, one with a bare bridge, one
/// with none.
async fn app() -> Arc<App> {
    app_with(&TrackerConfig::default()).await
}

async fn app_with(config: &TrackerConfig) -> Arc<App> {
    let app = App::open(config, CancellationToken::new()).expect("no state");
    let app = Arc::new(app);
    let sites = [
        ("example.org", 1, Some("localhost")),
        ("[::1]:8080", 2, None),
        ("example.net:8443", 3, None),
    ];
    for (name, n, domain) in sites {
        let site = TestSite::new(name, n);
        app.pin(site.name.clone(), site.root()).await;
        let files = [
            ("/index.html", n),
            ("/docs/index.html", n),
            ("/a b/ü.png", n),
            ("/app.js", n),
        ];
        let record = site.record(1, unix(), &files);
        app.register(record.into()).await.expect("a good record");
        if n == 3 {
            continue;
        }
        app.list_bridge(n, 8080 + u16::from(n), domain);
    }
    app
}

/// Status and `Location`; `None` where the HTTP layer itself refuses the target.
fn ask(app: &App, target: &str) -> Option<(StatusCode, Option<String>)> {
    let request = Request::builder().uri(target).body(()).ok()?;
    let reply = linked(app, HERE, &request);
    let location = reply.headers().get(header::LOCATION);
    let location = location.map(|value| value.to_str().expect("ASCII").to_owned());
    Some((reply.status(), location))
}

#[tokio::test]
async fn visitors_are_sent_where_the_page_is() {
    let app = app().await;
    let table = [
        (
            "/r/https://example.org/",
            "http://example-org.localhost:8081/",
        ),
        (
            "/r/https://EXAMPLE.org",
            "http://example-org.localhost:8081/",
        ),
        (
            "/r/http://example.org:80/docs",
            "http://example-org.localhost:8081/docs/",
        ),
        (
            "/r/HTTPS://example.org/docs/",
            "http://example-org.localhost:8081/docs/",
        ),
        (
            "/r/https:/example.org/docs/",
            "http://example-org.localhost:8081/docs/",
        ),
        (
            "/r/example.org/docs/index.html",
            "http://example-org.localhost:8081/docs/index.html",
        ),
        ("/r/example.org", "http://example-org.localhost:8081/"),
        (
            "/r/https%3A%2F%2Fexample.org%2Fdocs%2F",
            "http://example-org.localhost:8081/docs/",
        ),
        (
            "/r/https://example.org/a%20b/%C3%BC.png",
            "http://example-org.localhost:8081/a%20b/%C3%BC.png",
        ),
        (
            "/r/https%3a%2f%2fexample.org%2fa%2520b%2f%25c3%25bc.png",
            "http://example-org.localhost:8081/a%20b/%C3%BC.png",
        ),
        (
            "/r/http://[::1]:8080/docs/",
            "http://127.0.0.1:8082/[::1]:8080/docs/",
        ),
        ("/r/[0:0::1]:8080/", "http://127.0.0.1:8082/[::1]:8080/"),
        (
            "/r/http%3A%2F%2F%5B%3A%3A1%5D%3A8080%2Fdocs%2F",
            "http://127.0.0.1:8082/[::1]:8080/docs/",
        ),
        // Nobody holds it, it is not published, or it has a query: home.
        (
            "/r/https://example.net:8443/docs/",
            "https://example.net:8443/docs/?spikeswarm=home",
        ),
        (
            "/r/example.net:8443/docs/",
            "https://example.net:8443/docs/?spikeswarm=home",
        ),
        (
            "/r/http://example.org/none",
            "http://example.org/none?spikeswarm=home",
        ),
        (
            "/r/example.org/none",
            "https://example.org/none?spikeswarm=home",
        ),
        // Nor is a script ever redirected to a stranger.
        (
            "/r/example.org/app.js",
            "https://example.org/app.js?spikeswarm=home",
        ),
        (
            "/r/[::1]:8080/none",
            "http://[::1]:8080/none?spikeswarm=home",
        ),
        (
            "/r/https://example.org/?q=1&b=%26",
            "https://example.org/?q=1&b=%26&spikeswarm=home",
        ),
        (
            "/r/https://example.org/?spikeswarm=home",
            "https://example.org/?spikeswarm=home",
        ),
        (
            "/r/https%3A%2F%2Fexample.org%2F%3Fq%3D1",
            "https://example.org/?q=1&spikeswarm=home",
        ),
        (
            "/r/https%3A%2F%2Fexample.org%2F%3Fq%3D%2522%0D%0Ax",
            "https://example.org/?q=%22%0D%0Ax&spikeswarm=home",
        ),
    ];
    for (target, location) in table {
        let found = ask(&app, target);
        let expected = Some((StatusCode::FOUND, Some(location.to_owned())));
        assert_eq!(found, expected, "{target}");
    }
}

/// T48: whatever the link says, a visitor ends at a registered bridge, at the site, or nowhere.
#[tokio::test]
async fn t48_no_link_makes_an_open_redirect() {
    let app = app().await;
    let mut payloads: Vec<String> = Vec::new();
    for evil in [
        "//evil.example",
        "///evil.example",
        "////evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/%5Cevil.example",
        "/%2Fevil.example",
        "%2F%2Fevil.example",
        "%2f%2fevil.example%2f..",
        "/%2e%2e/evil.example",
        "/..;/evil.example",
        "/../../evil.example",
        "@evil.example",
        "@evil.example/",
        ":80@evil.example/",
        "%40evil.example/",
        ".evil.example/",
        "%2eevil.example/",
        "%00.evil.example/",
        "%0d%0aLocation:%20http://evil.example/",
        "/%0d%0aLocation:%20http://evil.example/",
        "/%0aSet-Cookie:a=b",
        "/?next=//evil.example",
        "/?%0d%0aLocation:%20http://evil.example",
        "#@evil.example/",
        "%23@evil.example/",
        "?@evil.example/",
        "%3f@evil.example/",
        ":443@evil.example:80/",
        "\u{3002}evil.example/",
        "%E3%80%82evil.example/",
        "\u{ff0f}evil.example/",
        "%EF%BC%8Fevil.example",
        "/.evil",
        "/.well-known/swarm/keys",
        "/http://evil.example/",
        "/https:%2f%2fevil.example/",
    ] {
        for front in [
            "/r/https://example.org",
            "/r/example.org",
            "/r/https%3A%2F%2Fexample.org",
        ] {
            payloads.push(format!("{front}{evil}"));
        }
    }
    for whole in [
        "//evil.example/r/https://example.org/",
        "/r//evil.example/",
        "/r///evil.example/",
        "/r/\\evil.example",
        "/r/%2F%2Fevil.example/",
        "/r/%5C%5Cevil.example/",
        "/r/https:///evil.example/",
        "/r/https:evil.example/",
        "/r/https://evil.example/",
        "/r/https://evil.example@example.net:1/",
        "/r/https://example.org@evil.example/",
        "/r/https://example.org%40evil.example/",
        "/r/https://evil.example%2F@example.org/",
        "/r/https://evil.example%5C@example.org/",
        "/r/https://evil.example%23.example.org/",
        "/r/https://evil.example%3F.example.org/",
        "/r/javascript:alert(1)",
        "/r/javascript://example.org/%0aalert(1)",
        "/r/JavaScript%3Aalert(1)",
        "/r/data:text/html,x",
        "/r/vbscript:x",
        "/r/ftp://example.org/",
        "/r/file:///etc/passwd",
        "/r/http://127.0.0.1:1/",
        "/r/http://0x7f.1/",
        "/r/http://2130706433/",
        "/r/http://[::ffff:127.0.0.1]/",
        "/r/http://169.254.169.254/latest/meta-data/",
        "/r/https://example.org:99999/",
        "/r/https://example.org:/",
        "/r/https://example.org:0/",
        "/r/https://example.org:80:80/",
        "/r/https://[::1/",
        "/r/https://",
        "/r/https:/",
        "/r/https:",
        "/r/",
        "/r/%",
        "/r/%zz",
        "/r/%ff%fe",
        "/r/example.org\r\nX: y",
        "/r/example.org/ HTTP/1.1",
        "/r/example.org\t",
        "/r/xn--a",
        "/r/..",
        "/r/../r/example.org/",
    ] {
        payloads.push(whole.to_owned());
    }
    assert!(payloads.len() >= 120, "{}", payloads.len());
    let allowed = [
        "http://example-org.localhost:8081/",
        "http://127.0.0.1:8082/[::1]:8080/",
        "https://example.org/",
        "http://example.org/",
        "http://[::1]:8080/",
        "https://example.net:8443/",
    ];
    let mut refused = 0;
    for payload in &payloads {
        match ask(&app, payload) {
            None => refused += 1,
            Some((StatusCode::NOT_FOUND, None)) => refused += 1,
            Some((StatusCode::FOUND, Some(location))) => {
                let good = allowed.iter().find(|good| location.starts_with(**good));
                let path = location
                    .strip_prefix(*good.expect(payload))
                    .expect("a prefix");
                let path = path.split('?').next().unwrap_or_default();
                assert!(
                    !path.starts_with('/') && !path.contains("//"),
                    "{payload}: {location}"
                );
                assert!(
                    !location.contains(['\\', '\r', '\n', '@', ' ']) || location.contains('?'),
                    "{payload}: {location}"
                );
                assert!(!path.contains(".."), "{payload}: {location}");
            }
            other => panic!("{payload}: {other:?}"),
        }
    }
    assert!(refused > 80, "only {refused} refused");
}

#[tokio::test]
async fn unknown_sites_get_an_honest_page() {
    let app = app().await;
    let uri = "/r/https://unknown.example/%3Cscript%3E";
    let request = Request::builder().uri(uri).body(()).expect("a request");
    let reply = linked(&app, HERE, &request);
    assert_eq!(reply.status(), StatusCode::NOT_FOUND);
    assert_eq!(reply.headers()["content-type"], "text/html; charset=utf-8");
    assert!(reply.headers().contains_key("content-security-policy"));
    let body = reply
        .into_body()
        .collect()
        .await
        .expect("in memory")
        .to_bytes();
    let body = String::from_utf8_lossy(&body);
    assert!(
        body.contains("has not") && !body.contains("script>"),
        "{body}"
    );
}

#[tokio::test]
async fn redirects_are_not_stored_and_tell_nobody_the_page() {
    let app = app().await;
    for target in ["/r/example.org/", "/r/example.org/none"] {
        let request = Request::builder().uri(target).body(());
        let reply = linked(&app, HERE, &request.expect("a request"));
        assert_eq!(reply.status(), StatusCode::FOUND);
        assert_eq!(reply.headers()["cache-control"], "no-store");
        assert_eq!(reply.headers()["referrer-policy"], "no-referrer");
        assert_eq!(reply.headers()["access-control-allow-origin"], "*");
    }
    assert_eq!(app.metrics.redirects_bridge.get(), 1);
    assert_eq!(app.metrics.redirects_home.get(), 1);
}
