use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::acme::tests::{certificates, fail, hold};
use crate::config::TrackerConfig;
use crate::history::Sample;
use crate::testing::TestSite;

/// A tracker with a calm site, one in need, and one that has published nothing.
async fn app() -> Arc<App> {
    let mut app = App::open(&TrackerConfig::default(), CancellationToken::new()).expect("no state");
    let dir = tempfile::tempdir().expect("a directory");
    let got = certificates(dir.path(), &["tracker.example"]);
    hold(&got, "calm.example");
    fail(&got, "tracker.example");
    app.certificates = Some(got);
    let app = Arc::new(app);
    let now = app.now().unix;
    for (name, n) in [
        ("calm.example", 1),
        ("need.example", 2),
        ("silent.example", 3),
    ] {
        let site = TestSite::new(name, n);
        app.pin(site.name.clone(), site.root()).await;
        if n < 3 {
            let files = [("/index.html", n), ("/a.png", n), ("/b.png", n + 10)];
            let record = site.record(u64::from(n), now, &files);
            app.register(record.into()).await.expect("a good record");
        }
        if n == 2 {
            app.alarm(site.alarm(now, now + 300).into()).expect("good");
        }
    }
    app.list_bridge(2, 8081, None);
    for n in 0..4 {
        app.history.lock().expect("not poisoned").push(Sample {
            at: Duration::from_secs(10 * n),
            bridges: n as usize,
            peers: 3 * n as usize,
            announces: 25 * n,
            redirects: n,
        });
    }
    app
}

async fn body(reply: Reply) -> String {
    let body = reply.into_body().collect().await.expect("in memory");
    String::from_utf8(body.to_bytes().to_vec()).expect("text")
}

#[tokio::test]
async fn the_page_shows_sites_in_need_first_and_needs_no_script() {
    let app = app().await;
    let reply = page(&app, "");
    let policy = reply.headers()["content-security-policy"].to_str();
    assert!(policy.is_ok_and(|policy| !policy.contains("unsafe")));
    let html = body(reply).await;
    assert!(html.contains("One site is in need"), "{html}");
    let place = |what: &str| html.find(what).expect(what);
    assert!(place("need.example") < place("calm.example"));
    assert!(place("calm.example") < place("silent.example"));
    assert!(html.contains("nothing published"));
    assert!(html.contains("<path class=line"), "plots are there already");
    assert!(html.contains("data-values=\"1,2,3\""), "{html}");
    assert!(html.contains("data-values=\"2.5,2.5,2.5\""), "{html}");
    // No address of a peer or a bridge (T26).
    assert!(!html.contains("127.0.0.1") && !html.contains("8081"));
    let part = body(page(&app, "part=main")).await;
    assert!(html.contains(&part) && part.len() + 500 < html.len());
}

#[tokio::test]
async fn the_figures_are_as_documented() {
    let app = app().await;
    let reply = json(&app);
    assert_eq!(reply.headers()["access-control-allow-origin"], "*");
    let status: Value = serde_json::from_str(&body(reply).await).expect("JSON");
    assert_eq!(status["totals"]["bridges"], 1);
    assert_eq!(status["totals"]["sites_in_need"], 1);
    assert_eq!(status["sites"][0]["site"], "need.example");
    assert_eq!(status["sites"][0]["bridges"], 1);
    assert_eq!(status["sites"][0]["files"], 3);
    assert_eq!(status["sites"][0]["bundles"], 2);
    assert_eq!(status["history"]["bridges"], serde_json::json!([1, 2, 3]));
    let certificates = serde_json::json!([
        {"name": "tracker.example", "not_after": null, "error": "refused by the authority: dns"},
        {"name": "calm.example", "not_after": 2_000_000_000, "error": null},
    ]);
    assert_eq!(status["certificates"], certificates);
    crate::schema::check(&[status], "0005-tracker-profile.md", "### 2.9");
}

#[tokio::test]
async fn figures_are_made_once_a_second_however_many_ask() {
    let app = app().await;
    let first = app.status();
    app.metrics.announces.add();
    assert!(Arc::ptr_eq(&first, &app.status()));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let second = app.status();
    assert_eq!(
        second.counters["announces"],
        first.counters["announces"] + 1
    );
}

#[tokio::test]
async fn only_so_many_sites_are_shown() {
    let app = App::open(&TrackerConfig::default(), CancellationToken::new()).expect("no state");
    let app = Arc::new(app);
    for n in 0..130 {
        let site = TestSite::new(&format!("site-{n}.example"), 1);
        app.pin(site.name.clone(), site.root()).await;
    }
    let status = app.status();
    assert_eq!((status.sites.len(), status.sites_left_off), (100, 30));
    assert!(main(&status).contains("and 30 more"));
}

#[tokio::test]
async fn a_tracker_that_stops_or_stalls_is_not_ready() {
    let app = app().await;
    assert_eq!(ready(&app).status(), StatusCode::OK);
    let at = |secs| app.unready_at(Duration::from_secs(secs));
    assert_eq!((at(10), at(11)), (None, Some("housekeeping has stalled")));
    // Housekeeping that goes on keeps it ready.
    let house = tokio::spawn({
        let app = Arc::clone(&app);
        async move { app.keep_house().await }
    });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(at(11), None);
    house.abort();
    app.shutdown.cancel();
    let reply = ready(&app);
    assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body(reply).await, "stopping\n");
}

#[test]
fn numbers_and_times_are_shown_as_people_read_them() {
    for (number, shown) in [
        (0, "0"),
        (999, "999"),
        (1000, "1\u{202f}000"),
        (1234567, "1\u{202f}234\u{202f}567"),
    ] {
        assert_eq!(grouped(number), shown);
    }
    for (number, shown) in [(0.0, "0"), (0.1, "0.1"), (99.95, "100.0"), (123.4, "123")] {
        assert_eq!(decimal(number), shown);
    }
    for (number, shown) in [
        (0.5, "0.5"),
        (1000.0, "1\u{202f}000"),
        (10_000.0, "10k"),
        (500_000.0, "500k"),
        (2e6, "2M"),
    ] {
        assert_eq!(short(number), shown);
    }
    for (secs, shown) in [
        (59, "59 s"),
        (60, "1 min"),
        (3660, "1 h 1 min"),
        (90_000, "1 d 1 h"),
    ] {
        assert_eq!(span(secs), shown);
    }
}
