//! Visitors who come with the site's own name, and what keeps them from going round in circles.

use hyper::header::HOST;

use super::*;

const ORIGIN: &str = "https://origin.example.org:8443";

/// The tracker of the other tests; example.org and a site that it knows nothing else of have said
/// where they are at home.
async fn app_with_home() -> Arc<App> {
    let mut config = TrackerConfig::default();
    for site in ["example.org", "example.com"] {
        let site = SiteName::parse(site).expect("a site");
        config.homes.insert(site, ORIGIN.parse().expect("a home"));
    }
    app_with(&config).await
}

struct Answer {
    status: u16,
    location: String,
    reply: Reply,
}

/// As `http::answer` does; `None`: not a site's name, or refused by the HTTP layer.
fn at_host(app: &App, host: &str, method: &str, target: &str) -> Option<Answer> {
    with_headers(app, host, method, target, &[])
}

fn with_headers(
    app: &App,
    host: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> Option<Answer> {
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).ok()?;
    let site = named_site(&request)?;
    if !app.homes.contains_key(&site) && !app.registry().knows(&site) {
        return None;
    }
    let reply = hosted(app, HERE, site, &request);
    let location = reply.headers().get(header::LOCATION);
    let location = location.map(|value| value.to_str().expect("ASCII").to_owned());
    Some(Answer {
        status: reply.status().as_u16(),
        location: location.unwrap_or_default(),
        reply,
    })
}

#[tokio::test]
async fn a_sites_own_name_leads_to_its_bridges_or_home() {
    let app = app_with_home().await;
    let home = |path: &str| format!("{ORIGIN}{path}spikeswarm=home&spikeswarm=home");
    let table = [
        ("/", "http://example-org.localhost:8081/".to_owned()),
        (
            "/docs",
            "http://example-org.localhost:8081/docs/".to_owned(),
        ),
        (
            "/a%20b/%C3%BC.png",
            "http://example-org.localhost:8081/a%20b/%C3%BC.png".to_owned(),
        ),
        // What no manifest lists, or could.
        ("/none", home("/none?")),
        ("/?q=1", home("/?q=1&")),
        ("/?q=1&spikeswarm=home", home("/?q=1&")),
        ("/.well-known/swarm/keys", home("/.well-known/swarm/keys?")),
        ("/a/../b", home("/a/../b?")),
        ("//evil.example/", home("//evil.example/?")),
        ("/announce", home("/announce?")),
        ("/metrics", home("/metrics?")),
        ("/swarm/sites", home("/swarm/sites?")),
    ];
    for (target, location) in table {
        let answer = at_host(&app, "example.org", "GET", target).expect(target);
        assert_eq!(
            (answer.status, answer.location),
            (302, location),
            "{target}"
        );
    }
}

#[tokio::test]
async fn a_host_is_a_sites_or_it_is_not() {
    let app = app_with_home().await;
    for host in [
        "example.org",
        "EXAMPLE.ORG",
        "Example.Org:80",
        "example.org:443",
        "example.net:8443",
        "[::1]:8080",
        "[0:0::1]:8080",
        // Not pinned, but its home is known.
        "example.com",
    ] {
        assert!(at_host(&app, host, "GET", "/").is_some(), "{host}");
    }
    for host in [
        "",
        "t",
        "localhost",
        "127.0.0.1",
        "127.0.0.1:6969",
        "example.org:8080",
        "example.org:8443",
        "example.org:0",
        "example.org:",
        "example.org:80:80",
        "example.org:080",
        "example.net",
        "example.net:443",
        "[::1]",
        "::1:8080",
        "example.org.evil.example",
        "evil.example",
        "evil-example.org",
        "www.example.org",
        "example.org@evil.example",
        "evil.example@example.org",
        "example.org/",
        "example.org/x",
        "example.org?x",
        "example.org#x",
        "http://example.org",
        "//example.org",
        "example.org evil.example",
        "example.org,evil.example",
        "example.org\\",
        "example%2Eorg",
        "example.org%00",
        "exampl\u{435}.org",
        "xn--exampl-8of.org",
        "*.org",
        ".example.org",
        "example..org",
    ] {
        assert!(at_host(&app, host, "GET", "/").is_none(), "{host}");
    }
    // Two of them are nobody's; an absolute target says whose it is.
    let two = [("host", "example.org")];
    assert!(with_headers(&app, "example.org", "GET", "/", &two).is_none());
    let absolute = |target: &str| at_host(&app, "t", "GET", target).map(|a| a.location);
    let there = "http://example-org.localhost:8081/docs/";
    assert_eq!(absolute("http://example.org/docs/").as_deref(), Some(there));
    assert_eq!(absolute("http://evil.example/"), None);
}

#[tokio::test]
async fn who_can_be_served_nowhere_is_told_so_and_when_to_come_back() {
    let app = app_with_home().await;
    // No bridge, and no home but the name that led here.
    for target in ["/", "/none", "/?q=1", "/?spikeswarm=home"] {
        let answer = at_host(&app, "example.net:8443", "GET", target).expect("a site");
        assert_eq!((answer.status, &*answer.location), (503, ""), "{target}");
        let headers = answer.reply.headers();
        assert_eq!(headers[header::RETRY_AFTER], "60");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        let body = answer.reply.into_body().collect().await.expect("in memory");
        let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        assert!(body.contains("None of them can serve this page"), "{body}");
    }
    assert_eq!(app.metrics.redirects_nowhere.get(), 4);
    // Pinned, and nothing published.
    let site = TestSite::new("silent.example", 9);
    app.pin(site.name.clone(), site.root()).await;
    let answer = at_host(&app, "silent.example", "GET", "/").expect("a site");
    assert_eq!(answer.status, 503);
    let by_link = ask(&app, "/r/https://silent.example/");
    assert_eq!(by_link, Some((StatusCode::NOT_FOUND, None)));
    // Nothing but a home.
    let answer = at_host(&app, "example.com", "GET", "/x").expect("a site");
    let home = format!("{ORIGIN}/x?spikeswarm=home&spikeswarm=home");
    assert_eq!((answer.status, answer.location), (302, home));
}

/// T58: a bridge that lacks a page sends its visitor to the site's public name, marked, and from
/// there he goes home. A home that sends him back ends it.
#[tokio::test]
async fn t58_a_visitor_is_bounced_once_and_then_home() {
    let app = app_with_home().await;
    let go = |target: &str| {
        let answer = at_host(&app, "example.org", "GET", target).expect("a site");
        (answer.status, answer.location)
    };
    let (status, bridge) = go("/docs/");
    assert_eq!(status, 302);
    assert!(
        !bridge.contains("spikeswarm"),
        "no page sees a mark: {bridge}"
    );
    // The bridge hands him home (spec 0007, 3.5).
    let (status, home) = go("/docs/?spikeswarm=home");
    assert_eq!(status, 302);
    let query = home.strip_prefix(ORIGIN).expect("home and not a bridge");
    // The home answers with the public name, as servers do that know one name only.
    let (status, nowhere) = go(query);
    assert_eq!((status, &*nowhere), (508, ""));
    assert_eq!(app.metrics.redirects_looped.get(), 1);
    assert_eq!(app.metrics.redirects_bridge.get(), 1, "bounced once");
    // By way of /r/ too he is sent to a bridge once at most.
    let by_link = "/r/https://example.net:8443/docs/?spikeswarm=home";
    let (_, location) = ask(&app, by_link).expect("a reply");
    let home = "https://example.net:8443/docs/?spikeswarm=home";
    assert_eq!(location.as_deref(), Some(home));
}

#[tokio::test]
async fn only_what_reads_leaves_the_site() {
    let app = app_with_home().await;
    let home = format!("{ORIGIN}/docs/?spikeswarm=home&spikeswarm=home");
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
        let answer = at_host(&app, "example.org", method, "/docs/").expect("a site");
        assert_eq!((answer.status, &answer.location), (307, &home), "{method}");
        let request = Request::builder()
            .method(method)
            .uri("/r/example.net:8443/");
        let reply = linked(&app, HERE, &request.body(()).expect("a request"));
        assert_eq!(reply.status(), 307, "{method}");
    }
    let answer = at_host(&app, "example.org", "HEAD", "/docs/").expect("a site");
    assert_eq!(answer.status, 302);
    assert!(answer.location.starts_with("http://example-org.localhost"));
    for method in ["TRACE", "CONNECT"] {
        let answer = at_host(&app, "example.org", method, "/").expect("a site");
        assert_eq!(answer.status, 405, "{method}");
    }
    // Code would run in the origin of the page that asked for it; secrets are the site's.
    for headers in [
        [("sec-fetch-dest", "script")],
        [("sec-fetch-dest", "Style")],
        [("sec-fetch-dest", "worker")],
        [("sec-fetch-dest", "serviceworker")],
        [("authorization", "Basic eDp5")],
    ] {
        let answer = with_headers(&app, "example.org", "GET", "/docs/", &headers);
        let answer = answer.expect("a site");
        assert_eq!(
            (answer.status, &answer.location),
            (302, &home),
            "{headers:?}"
        );
        let mut request = Request::builder().uri("/r/example.org/docs/");
        request = request.header(headers[0].0, headers[0].1);
        let reply = linked(&app, HERE, &request.body(()).expect("a request"));
        assert_eq!(reply.headers()[header::LOCATION], home, "{headers:?}");
    }
    for destination in ["document", "image", "video", "font", "empty", "iframe"] {
        let headers = [("sec-fetch-dest", destination)];
        let answer = with_headers(&app, "example.org", "GET", "/docs/", &headers);
        let location = answer.expect("a site").location;
        assert!(
            location.starts_with("http://example-org.localhost"),
            "{destination}"
        );
    }
}

/// T48: whatever follows the site's name, a visitor ends at a bridge or at home.
#[tokio::test]
async fn t48_no_path_makes_an_open_redirect() {
    let app = app_with_home().await;
    let mut taken = 0;
    for evil in [
        "//evil.example",
        "//evil.example/..",
        "///evil.example",
        "/\\evil.example",
        "/\\/evil.example",
        "/%5Cevil.example",
        "/%2Fevil.example",
        "/%2e%2e/evil.example",
        "/../../evil.example",
        "/@evil.example",
        "/:80@evil.example/",
        "/.evil.example",
        "/%0d%0aLocation:%20http://evil.example/",
        "/%0aSet-Cookie:a=b",
        "/docs/%0d%0aX:y",
        "/?next=//evil.example",
        "/?%0d%0aLocation:%20http://evil.example",
        "/?\"><script>",
        "/docs/#@evil.example",
        "/%E3%80%82evil.example/",
        "/http://evil.example/",
        "/https:%2f%2fevil.example/",
        "/%",
        "/%zz",
        "/%ff%fe",
        "/a%00b",
        "/a;b=c/d",
        "/'\"<>`{}|^",
        "/\u{fc}",
    ] {
        let Some(answer) = at_host(&app, "example.org", "GET", evil) else {
            continue;
        };
        taken += 1;
        let location = answer.location;
        assert_eq!(answer.status, 302, "{evil}");
        let good = [
            "http://example-org.localhost:8081/",
            "https://origin.example.org:8443/",
        ];
        assert!(
            good.iter().any(|good| location.starts_with(good)),
            "{evil}: {location}"
        );
        assert!(
            !location.contains(['\\', '\r', '\n', ' ', '"', '<', '>', '#']) && location.is_ascii(),
            "{evil}: {location}"
        );
    }
    assert!(taken >= 20, "only {taken} got so far");
}

#[tokio::test]
async fn other_bridges_are_named_beside_the_one_chosen() {
    let app = app_with_home().await;
    for n in 0..5 {
        app.list_bridge(1, 9000 + n, Some("localhost"));
    }
    let answer = at_host(&app, "example.org", "GET", "/docs/").expect("a site");
    let links = answer.reply.headers()[header::LINK]
        .to_str()
        .expect("ASCII");
    let links: Vec<&str> = links.split(", ").collect();
    assert_eq!(links.len(), 3);
    for (at, link) in links.iter().enumerate() {
        let (url, rest) = link
            .strip_prefix('<')
            .and_then(|link| link.split_once('>'))
            .expect("RFC 8288");
        assert!(url.starts_with("http://example-org.localhost:"), "{url}");
        assert!(url.ends_with("/docs/") && url != answer.location, "{url}");
        assert_eq!(rest, format!("; rel=\"duplicate\"; pri={}", at + 1));
    }
    // Of one bridge alone there is nothing more to say, nor on the way home.
    let alone = at_host(&app, "[::1]:8080", "GET", "/docs/").expect("a site");
    assert!(!alone.location.is_empty() && !alone.reply.headers().contains_key(header::LINK));
    let home = at_host(&app, "example.org", "GET", "/none").expect("a site");
    assert!(!home.reply.headers().contains_key(header::LINK));
}

#[tokio::test]
async fn one_network_does_not_use_up_all_leases() {
    let config = TrackerConfig {
        announce: crate::config::AnnounceConfig {
            per_address_rate: 5,
            ..Default::default()
        },
        ..TrackerConfig::default()
    };
    let app = app_with(&config).await;
    let stranger = "203.0.113.9".parse().expect("an address");
    let request = Request::builder().uri("/r/example.org/docs/").body(());
    let request = request.expect("a request");
    let statuses: Vec<u16> = (0..20)
        .map(|_| linked(&app, stranger, &request).status().as_u16())
        .collect();
    // A second may turn meanwhile.
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert!(refused >= 10, "{statuses:?}");
    assert_eq!(statuses[0], 302);
}
