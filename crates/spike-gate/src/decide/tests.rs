use super::*;
use crate::assets::Reach;
use crate::csp::Policy;
use swarm_proto::id::{Digest, SwarmId};

fn asset(path: &str, media_type: &str) -> (String, Asset) {
    let asset = Asset {
        url_path: path.replace(' ', "%20"),
        length: 1000,
        digest: Digest::of(path.as_bytes()),
        kind: Kind::of(media_type),
        reach: Reach::Anywhere,
        swarms: vec![SwarmId::new(
            [if path.contains("other") { 2 } else { 1 }; 20],
        )],
    };
    (path.to_owned(), asset)
}

fn assets() -> Assets {
    [
        asset("/index.html", "text/html"),
        asset("/a.js", "text/javascript"),
        asset("/a.css", "text/css"),
        asset("/a.json", "application/json"),
        asset("/a b.png", "image/png"),
        asset("/f.woff2", "font/woff2"),
        asset("/v.mp4", "video/mp4"),
        asset("/d.zip", "application/zip"),
        asset("/other.png", "image/png"),
        asset("/private/x.png", "image/png"),
    ]
    .into_iter()
    .collect()
}

struct Case {
    state: State,
    assets: Assets,
    bridges: Vec<LiveBridge>,
    policies: PolicyBook,
    secure: bool,
}

impl Case {
    fn spike() -> Self {
        let bridge = LiveBridge::new("http://s.b.example:8080", [SwarmId::new([1; 20])]).unwrap();
        Self {
            state: State::Spike,
            assets: assets(),
            bridges: vec![bridge],
            policies: PolicyBook::default(),
            secure: false,
        }
    }

    /// Unless told otherwise, by an older browser that wants a picture.
    fn decide(&self, method: &str, uri: &str, headers: &[(&str, &str)]) -> Decision {
        let mut request = http::Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "s.example");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !headers
            .iter()
            .any(|(name, _)| matches!(*name, "accept" | "sec-fetch-dest"))
        {
            request = request.header("accept", IMAGE);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let keep = ["/private/".to_owned()];
        let view = View {
            state: self.state,
            assets: &self.assets,
            bridges: &self.bridges,
            secure: self.secure,
            host: "s.example",
            keep: &keep,
        };
        let mut spread = Spread::default();
        decide(
            &Facts::of(&parts),
            &view,
            &self.policies,
            &mut spread,
            Instant::now(),
        )
    }

    fn check(&self, method: &str, uri: &str, headers: &[(&str, &str)], expected: &str) {
        let found = match self.decide(method, uri, headers) {
            Decision::Pass => "pass".to_owned(),
            Decision::Wait { .. } => "wait".to_owned(),
            Decision::Rewrite { banner: true } => "rewrite".to_owned(),
            Decision::Rewrite { banner: false } => "rewrite without banner".to_owned(),
            Decision::Redirect {
                location, bytes, ..
            } => format!("{location} {bytes}"),
        };
        assert_eq!(found, expected, "{method} {uri} {headers:?}");
    }
}

const IMAGE: &str = "image/avif,image/webp,image/*,*/*;q=0.8";
const PNG: &str = "http://s.b.example:8080/a%20b.png 1000";

#[test]
fn only_a_spike_diverts() {
    for state in [State::Calm, State::Warming, State::Cooling] {
        let case = Case {
            state,
            ..Case::spike()
        };
        for uri in ["/index.html", "/a%20b.png", "/a.js", "/"] {
            case.check("GET", uri, &[("accept", "text/html")], "pass");
        }
    }
}

#[test]
fn heavy_files_are_redirected_by_what_the_browser_wants_them_for() {
    let case = Case::spike();
    for (uri, dest, redirected) in [
        ("/a%20b.png", "image", true),
        ("/f.woff2", "font", true),
        ("/v.mp4", "video", true),
        ("/v.mp4", "audio", true),
        ("/d.zip", "document", true),
        ("/v.mp4", "document", true),
        // A picture without a telling name is still a picture.
        ("/d.zip", "image", true),
        // What runs or is a page stays, whatever it is asked for as.
        ("/a.js", "script", false),
        ("/a.css", "style", false),
        ("/a.js", "image", false),
        ("/a.css", "font", false),
        ("/a%20b.png", "script", false),
        ("/a%20b.png", "empty", false),
        ("/a.json", "empty", false),
        ("/a.js", "serviceworker", false),
        ("/a.js", "worker", false),
        ("/d.zip", "iframe", false),
        ("/a%20b.png", "object", false),
        ("/v.mp4", "track", false),
        ("/a.json", "", false),
    ] {
        let mode = if dest == "document" {
            "navigate"
        } else {
            "no-cors"
        };
        let headers = [("sec-fetch-dest", dest), ("sec-fetch-mode", mode)];
        let decision = case.decide("GET", uri, &headers);
        let found = matches!(decision, Decision::Redirect { .. });
        assert_eq!(found, redirected, "{uri} for {dest}: {decision:?}");
    }
}

#[test]
fn without_fetch_metadata_what_might_be_a_script_stays() {
    let case = Case::spike();
    let film = "http://s.b.example:8080/v.mp4 1000";
    let font = "http://s.b.example:8080/f.woff2 1000";
    let file = "http://s.b.example:8080/d.zip 1000";
    let page = "text/html,application/xhtml+xml,*/*;q=0.8";
    for (uri, accept, expected) in [
        ("/a%20b.png", IMAGE, PNG),
        ("/a%20b.png", "IMAGE/png", PNG),
        // An SVG that a script fetches.
        ("/a%20b.png", "*/*", "pass"),
        ("/a%20b.png", "", "pass"),
        // A script without a telling name is published as a download.
        ("/d.zip", "*/*", "pass"),
        ("/d.zip", IMAGE, "pass"),
        ("/d.zip", "", "pass"),
        ("/d.zip", page, file),
        ("/f.woff2", "*/*", font),
        ("/v.mp4", "*/*", film),
        ("/a.js", "*/*", "pass"),
        ("/a.js", IMAGE, "pass"),
        ("/a.css", "text/css,*/*;q=0.1", "pass"),
        ("/a.json", "*/*", "pass"),
        ("/index.html", "text/html", "rewrite"),
        ("/index.html", "*/*", "pass"),
    ] {
        case.check("GET", uri, &[("accept", accept)], expected);
    }
}

#[test]
fn only_plain_reads_of_published_paths_leave() {
    let case = Case::spike();
    case.check(
        "HEAD",
        "/a%20b.png",
        &[],
        "http://s.b.example:8080/a%20b.png 0",
    );
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
        case.check(method, "/a%20b.png", &[], "pass");
    }
    for uri in [
        "/a%20b.png?v=1",
        "/a%20b.png?",
        "/A%20b.png",
        "/missing.png",
        "/x/../a%20b.png",
        "//a%20b.png",
        "/a%20b.png/",
        "/other.png",
        "/private/x.png",
    ] {
        case.check("GET", uri, &[], "pass");
    }
    case.check(
        "GET",
        "/a%20b.png",
        &[("authorization", "Basic eDp5")],
        "pass",
    );
    case.check("GET", "/a%20b.png", &[("upgrade", "websocket")], "pass");
    case.check(
        "GET",
        "/a%20b.png",
        &[("origin", "http://other.example")],
        "pass",
    );
    case.check("GET", "/a%20b.png", &[("origin", "http://s.example")], PNG);
    case.check(
        "GET",
        "/a%20b.png",
        &[("x-requested-with", "XMLHttpRequest")],
        "pass",
    );
    case.check("GET", "/a%20b.png", &[("sec-purpose", "prefetch")], "pass");
}

#[test]
fn ranges_are_redirected_for_what_they_ask() {
    let case = Case::spike();
    for (range, bytes) in [
        ("bytes=0-99", 100),
        ("bytes=10-", 1000),
        ("bytes=0-1,5-6", 1000),
        ("bytes=0-99999", 1000),
    ] {
        let expected = format!("http://s.b.example:8080/v.mp4 {bytes}");
        case.check(
            "GET",
            "/v.mp4",
            &[("range", range), ("sec-fetch-dest", "video")],
            &expected,
        );
    }
    let page = [("sec-fetch-dest", "document"), ("range", "bytes=0-9")];
    case.check("GET", "/index.html", &page, "pass");
}

#[test]
fn whoever_was_sent_home_stays_home() {
    let case = Case::spike();
    case.check("GET", "/a%20b.png?spikeswarm=home", &[], "pass");
    case.check(
        "GET",
        "/?spikeswarm=home",
        &[("sec-fetch-dest", "document")],
        "pass",
    );
}

#[test]
fn pages_are_rewritten_for_people_only() {
    let case = Case::spike();
    case.check("GET", "/", &[("sec-fetch-dest", "document")], "rewrite");
    case.check(
        "GET",
        "/any?q=1",
        &[("sec-fetch-dest", "document")],
        "rewrite",
    );
    case.check(
        "GET",
        "/",
        &[("sec-fetch-dest", "iframe")],
        "rewrite without banner",
    );
    case.check(
        "GET",
        "/",
        &[("sec-fetch-dest", "empty"), ("accept", "text/html")],
        "pass",
    );
    case.check(
        "GET",
        "/",
        &[("accept", "text/html"), ("x-requested-with", "x")],
        "pass",
    );
    case.check("HEAD", "/", &[("sec-fetch-dest", "document")], "pass");
    case.check("POST", "/", &[("sec-fetch-dest", "document")], "pass");
}

#[test]
fn without_a_bridge_everything_stays_home() {
    let case = Case {
        bridges: Vec::new(),
        ..Case::spike()
    };
    case.check("GET", "/a%20b.png", &[], "pass");
    case.check("GET", "/", &[("sec-fetch-dest", "document")], "pass");
    let elsewhere = LiveBridge::new("http://b.example", [SwarmId::new([9; 20])]).unwrap();
    let case = Case {
        bridges: vec![elsewhere],
        ..Case::spike()
    };
    case.check("GET", "/a%20b.png", &[], "pass");
}

#[test]
fn an_https_site_sends_nobody_to_plain_http() {
    let case = Case {
        secure: true,
        ..Case::spike()
    };
    case.check("GET", "/a%20b.png", &[], "pass");
    let bridge = LiveBridge::new("https://s.b.example", [SwarmId::new([1; 20])]).unwrap();
    let case = Case {
        secure: true,
        bridges: vec![bridge],
        ..Case::spike()
    };
    case.check(
        "GET",
        "/a%20b.png",
        &[],
        "https://s.b.example/a%20b.png 1000",
    );
}

#[test]
fn cookies_do_not_follow_to_another_port_of_the_same_host() {
    let same = LiveBridge::new("http://s.example:8081", [SwarmId::new([1; 20])]).unwrap();
    let case = Case {
        bridges: vec![same],
        ..Case::spike()
    };
    case.check("GET", "/a%20b.png", &[("cookie", "session=1")], "pass");
    case.check(
        "GET",
        "/a%20b.png",
        &[],
        "http://s.example:8081/a%20b.png 1000",
    );
    Case::spike().check("GET", "/a%20b.png", &[("cookie", "session=1")], PNG);
}

#[test]
fn a_page_with_a_strict_policy_keeps_its_images() {
    let mut case = Case::spike();
    let mut policy = Policy::default();
    policy.add("img-src 'self'");
    case.policies.note("/strict", policy);
    let from = |page: &'static str| [("sec-fetch-dest", "image"), ("referer", page)];
    case.check(
        "GET",
        "/a%20b.png",
        &from("http://s.example/strict"),
        "pass",
    );
    case.check("GET", "/a%20b.png", &from("http://s.example/open"), PNG);
    case.check(
        "GET",
        "/f.woff2",
        &[("sec-fetch-dest", "font")],
        "http://s.b.example:8080/f.woff2 1000",
    );
    let link = [
        ("sec-fetch-dest", "document"),
        ("referer", "http://s.example/strict"),
    ];
    case.check("GET", "/d.zip", &link, "http://s.b.example:8080/d.zip 1000");
}

#[test]
fn something_large_waits_for_a_bridge_and_nothing_else_does() {
    let mut film = asset("/film.mp4", "video/mp4");
    film.1.length = 5_000_000;
    let mut script = asset("/large.js", "text/javascript");
    script.1.length = 5_000_000;
    let mut private = asset("/private/large.png", "image/png");
    private.1.length = 5_000_000;
    let small = asset("/small.png", "image/png");
    let assets = || {
        [film.clone(), script.clone(), private.clone(), small.clone()]
            .into_iter()
            .collect()
    };
    for state in [State::Warming, State::Spike] {
        let case = Case {
            state,
            bridges: Vec::new(),
            assets: assets(),
            ..Case::spike()
        };
        case.check("GET", "/film.mp4", &[("sec-fetch-dest", "video")], "wait");
        case.check("GET", "/film.mp4", &[], "wait");
        case.check("GET", "/film.mp4?x", &[], "pass");
        case.check("GET", "/film.mp4?spikeswarm=home", &[], "pass");
        case.check("HEAD", "/film.mp4", &[], "pass");
        case.check("GET", "/film.mp4", &[("authorization", "x")], "pass");
        case.check("GET", "/large.js", &[("sec-fetch-dest", "script")], "pass");
        case.check("GET", "/private/large.png", &[], "pass");
        case.check("GET", "/small.png", &[], "pass");
        case.check("GET", "/", &[("sec-fetch-dest", "document")], "pass");
    }
    for state in [State::Calm, State::Cooling] {
        let case = Case {
            state,
            bridges: Vec::new(),
            assets: assets(),
            ..Case::spike()
        };
        case.check("GET", "/film.mp4", &[], "pass");
    }
    let case = Case {
        assets: assets(),
        ..Case::spike()
    };
    case.check(
        "GET",
        "/film.mp4",
        &[],
        "http://s.b.example:8080/film.mp4 5000000",
    );
}
