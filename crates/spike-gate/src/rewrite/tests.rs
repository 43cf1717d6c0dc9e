use super::*;
use crate::assets::{Asset, Assets, Reach};
use crate::bridges::LiveBridge;
use crate::decide::Decision;
use crate::divert::{Frontage, Shared};
use crate::facts::Facts;
use crate::meter::Meter;
use crate::overload::State;
use proptest::prelude::*;
use swarm_proto::id::{Digest, SwarmId};

fn asset(path: &str, media_type: &str) -> (String, Asset) {
    let reach = match path {
        "/home.js" => Reach::Home,
        "/rooted.css" => Reach::OwnHost,
        _ => Reach::Anywhere,
    };
    let asset = Asset {
        url_path: SitePath::from_decoded(path).unwrap().to_url(),
        length: 1000,
        digest: Digest::of(path.as_bytes()),
        kind: Kind::of(media_type),
        reach,
        swarms: vec![SwarmId::new([1; 20])],
    };
    (path.to_owned(), asset)
}

fn shared(prefix: &str) -> Arc<Shared> {
    let frontage = Frontage {
        site: Url::parse("http://s.example/").unwrap(),
        keep: Vec::new(),
        invitation: None,
    };
    let shared = Shared::new(frontage, Arc::new(Meter::default()));
    let assets: Assets = [
        asset("/a.js", "text/javascript"),
        asset("/home.js", "text/javascript"),
        asset("/a.css", "text/css"),
        asset("/rooted.css", "text/css"),
        asset("/a.png", "image/png"),
        asset("/docs/b c.jpg", "image/jpeg"),
        asset("/i.svg", "image/svg+xml"),
        asset("/f.woff2", "font/woff2"),
        asset("/v.mp4", "video/mp4"),
        asset("/p.html", "text/html"),
    ]
    .into_iter()
    .collect();
    shared.set_assets(assets);
    shared.set_bridges(vec![
        LiveBridge::new(prefix, [SwarmId::new([1; 20])]).unwrap(),
    ]);
    shared.set_state(State::Spike);
    Arc::new(shared)
}

fn page() -> Page {
    Page {
        url: Url::parse("http://s.example/docs/page.html").unwrap(),
        document: true,
        cookie: false,
        policy: Policy::default(),
        charset: None,
        banner: None,
        referer: None,
    }
}

fn run(page: Page, html: &[u8], cut: usize) -> Vec<u8> {
    let divert = Arc::new(Divert::now(&shared("http://B.test:81")));
    let mut rewriter = Rewriter::new(page, divert).unwrap();
    let mut out = Vec::new();
    for chunk in html.chunks(cut.max(1)) {
        out.extend_from_slice(&rewriter.write(Bytes::copy_from_slice(chunk)));
    }
    out.extend_from_slice(&rewriter.end());
    out
}

/// `expected` has `B` for the bridge and `R` for the referrer policy; `None`: unchanged.
fn check(html: &str, expected: Option<&str>) {
    let expected = expected.map_or(html.to_owned(), |expected| {
        expected
            .replace("{B}", "http://b.test:81")
            .replace("{R}", "referrerpolicy=\"no-referrer\"")
    });
    for cut in [1, 7, usize::MAX] {
        let found = run(page(), html.as_bytes(), cut.min(html.len()));
        assert_eq!(String::from_utf8_lossy(&found), expected, "cut {cut}");
    }
}

#[test]
fn images_point_to_the_bridge() {
    check(
        r#"<img src="/a.png">"#,
        Some(r#"<img src="{B}/a.png" {R}>"#),
    );
    check(
        r#"<IMG alt=x SRC=/a.png>"#,
        Some(r#"<IMG alt=x SRC="{B}/a.png" {R}>"#),
    );
    check(
        r#"<img src="b%20c.jpg">"#,
        Some(r#"<img src="{B}/docs/b%20c.jpg" {R}>"#),
    );
    check(
        r#"<img src=" ../a.png ">"#,
        Some(r#"<img src="{B}/a.png" {R}>"#),
    );
    check(
        r#"<img src="http://s.example/a.png">"#,
        Some(r#"<img src="{B}/a.png" {R}>"#),
    );
    check(
        r#"<img src="//s.example/a.png">"#,
        Some(r#"<img src="{B}/a.png" {R}>"#),
    );
    check(
        r##"<img src="/i.svg#part">"##,
        Some(r##"<img src="{B}/i.svg#part" {R}>"##),
    );
    check(
        r#"<input type=IMAGE src="/a.png">"#,
        Some(r#"<input type=IMAGE src="{B}/a.png" {R}>"#),
    );
    check(
        r#"<video poster="/a.png" src="/v.mp4"></video>"#,
        Some(r#"<video poster="{B}/a.png" src="/v.mp4"></video>"#),
    );
    check(
        r#"<link rel="shortcut icon" href="/a.png">"#,
        Some(r#"<link rel="shortcut icon" href="{B}/a.png" {R}>"#),
    );
    check(
        r#"<link rel=preload as=image href="/a.png">"#,
        Some(r#"<link rel=preload as=image href="{B}/a.png" {R}>"#),
    );
    check(
        r#"<img referrerpolicy="origin" src="/a.png">"#,
        Some(r#"<img referrerpolicy="origin" src="{B}/a.png">"#),
    );
}

#[test]
fn every_candidate_of_a_srcset_is_looked_at() {
    check(
        r#"<img src="/x.png" srcset="/a.png 1x, /x.png 2x,b%20c.jpg 3x">"#,
        Some(r#"<img src="/x.png" srcset="{B}/a.png 1x, /x.png 2x, {B}/docs/b%20c.jpg 3x" {R}>"#),
    );
    check(
        r#"<picture><source srcset="/a.png 100w" sizes="50vw"></picture>"#,
        Some(r#"<picture><source srcset="{B}/a.png 100w" sizes="50vw"></picture>"#),
    );
    check(r#"<img srcset="/a.png (1x">"#, None);
}

#[test]
fn scripts_and_styles_move_only_with_their_digest() {
    let hash = |path: &str| {
        format!(
            "sha256-{}",
            data_encoding::BASE64.encode(Digest::of(path.as_bytes()).as_bytes())
        )
    };
    check(
        r#"<script src="/a.js" defer></script>"#,
        Some(&format!(
            r#"<script src="{{B}}/a.js" defer integrity="{}" crossorigin="anonymous" {{R}}></script>"#,
            hash("/a.js")
        )),
    );
    check(
        r#"<link rel="stylesheet" href="/a.css">"#,
        Some(&format!(
            r#"<link rel="stylesheet" href="{{B}}/a.css" integrity="{}" crossorigin="anonymous" {{R}}>"#,
            hash("/a.css")
        )),
    );
    check(
        r#"<link rel=preload as=style href="/a.css">"#,
        Some(&format!(
            r#"<link rel=preload as=style href="{{B}}/a.css" integrity="{}" crossorigin="anonymous" {{R}}>"#,
            hash("/a.css")
        )),
    );
    for html in [
        r#"<script type="module" src="/a.js"></script>"#,
        r#"<script type="importmap" src="/a.js"></script>"#,
        r#"<script src="/home.js"></script>"#,
        r#"<script src="/a.js" integrity="sha256-x"></script>"#,
        r#"<script src="/a.js" crossorigin="use-credentials"></script>"#,
        r#"<script src="/a.css"></script>"#,
        r#"<link rel=stylesheet href="/a.js">"#,
        r#"<link rel=modulepreload href="/a.js">"#,
        r#"<link rel=preload as=font href="/f.woff2" crossorigin>"#,
        r#"<link rel=prefetch href="/a.png">"#,
        r#"<link rel=manifest href="/a.png">"#,
        r#"<script>var x = '<img src="/a.png">'</script>"#,
    ] {
        check(html, None);
    }
    // A bridge without a host of its own would answer root-relative links for others.
    let divert = Arc::new(Divert::now(&shared("http://b.test/s.example")));
    let mut rewriter = Rewriter::new(page(), divert).unwrap();
    let html: &[u8] = br#"<link rel=stylesheet href="/rooted.css">"#;
    let mut out = rewriter.write(Bytes::from_static(html)).to_vec();
    out.extend_from_slice(&rewriter.end());
    assert_eq!(out, html);
}

#[test]
fn what_is_not_ours_or_not_published_is_untouched() {
    for html in [
        r#"<img src="https://cdn.example/a.png">"#,
        r#"<img src="https://s.example/a.png">"#,
        r#"<img src="//s.example:8080/a.png">"#,
        r#"<img src="http://s.example.evil/a.png">"#,
        r#"<img src="/a.png?v=1">"#,
        r#"<img src="/a.png?a=1&amp;b=2">"#,
        r#"<img src="&#47;a.png">"#,
        r#"<img src="/missing.png">"#,
        r#"<img src="/.hidden.png">"#,
        r#"<img src="">"#,
        r#"<img>"#,
        r#"<img src="data:image/png;base64,AAAA">"#,
        r#"<img src="javascript:alert(1)">"#,
        r#"<img src="http://[">"#,
        r#"<a href="/a.png">picture</a>"#,
        r#"<iframe src="/p.html"></iframe>"#,
        r#"<object data="/i.svg"></object>"#,
        r#"<embed src="/i.svg">"#,
        r#"<video src="/v.mp4"></video>"#,
        r#"<!-- <img src="/a.png"> -->"#,
        r#"<textarea><img src="/a.png"></textarea>"#,
        r#"<img src=/a.png"#,
        r#"<img src="/a.png"#,
        "text only, \u{fffd} and <",
        "</body></html>",
        "",
    ] {
        check(html, None);
    }
}

#[test]
fn base_is_followed_once() {
    check(
        r#"<base href="/docs/"><base href="/nowhere/"><img src="b%20c.jpg">"#,
        Some(r#"<base href="/docs/"><base href="/nowhere/"><img src="{B}/docs/b%20c.jpg" {R}>"#),
    );
    check(
        r#"<base href="https://cdn.example/"><img src="a.png">"#,
        None,
    );
    check(
        r#"<base href="https://cdn.example/"><img src="http://s.example/a.png">"#,
        Some(r#"<base href="https://cdn.example/"><img src="{B}/a.png" {R}>"#),
    );
}

#[test]
fn fragments_stay_as_they_are() {
    let fragment = || Page {
        document: false,
        banner: Some("<hr>".into()),
        ..page()
    };
    let html = br#"<div><img src="/a.png"></div>"#;
    assert_eq!(run(fragment(), html, 5), html);
    for start in ["<!doctype html>", "<html>", "<head></head>", "<body>"] {
        let html = format!(r#"{start}<img src="/a.png">"#);
        let found = String::from_utf8(run(fragment(), html.as_bytes(), 5)).unwrap();
        assert!(
            found.contains("b.test") && found.ends_with("<hr>"),
            "{found}"
        );
    }
}

#[test]
fn the_banner_stands_once_before_the_end_of_the_body() {
    let with = |html: &str| {
        let page = Page {
            banner: Some("<hr>".into()),
            ..page()
        };
        String::from_utf8(run(page, html.as_bytes(), 3)).unwrap()
    };
    assert_eq!(
        with("<!doctype html><body><p>x</p></body></html>"),
        "<!doctype html><body><p>x</p><hr></body></html>"
    );
    assert_eq!(with("<p>x</p>"), "<p>x</p><hr>");
    assert_eq!(with("<body>x"), "<body>x<hr>");
    assert_eq!(
        with("<body><script>'</body>'</script><!--</body>-->x</body>"),
        "<body><script>'</body>'</script><!--</body>-->x<hr></body>"
    );
    assert_eq!(with("<body>x</body></body>").matches("<hr>").count(), 1);
    let frames = "<html><frameset><frame src=a></frameset></html>";
    assert_eq!(with(frames), frames);
    let strict = "<meta http-equiv=\"Content-Security-Policy\" content=\"style-src 'self'\"><p>x";
    assert_eq!(with(strict), strict);
}

#[test]
fn the_pages_own_policy_is_kept() {
    let html = r#"<img src="/a.png">"#;
    let meta = r#"<meta http-equiv="content-security-policy" content="img-src 'self'">"#;
    check(&format!("{meta}{html}"), None);
    check(
        &format!("{html}{meta}"),
        Some(&format!(r#"<img src="{{B}}/a.png" {{R}}>{meta}"#)),
    );
    let mut policy = Policy::default();
    policy.add("default-src 'self'; script-src 'nonce-x'");
    let strict = || Page {
        policy: policy.clone(),
        ..page()
    };
    assert_eq!(run(strict(), html.as_bytes(), 9), html.as_bytes());
    let script = br#"<script nonce="x" src="/a.js"></script>"#;
    assert!(
        String::from_utf8(run(strict(), script, 9))
            .unwrap()
            .contains("b.test")
    );
}

#[test]
fn a_tag_past_the_memory_limit_ends_the_rewriting_not_the_page() {
    let huge = "x".repeat(MEMORY_MAX * 2);
    let html = format!(r#"<img src="/a.png"><p title="{huge}">&<img src="/a.png"></p>end"#);
    let found = String::from_utf8(run(page(), html.as_bytes(), 8192)).unwrap();
    let rest = html.strip_prefix(r#"<img src="/a.png">"#).unwrap();
    assert!(
        found.starts_with("<img src=\"http://b.test:81/a.png\""),
        "{}",
        &found[..80]
    );
    assert!(found.ends_with(rest));
}

#[test]
fn one_file_goes_to_one_bridge_within_a_page_and_counts_once() {
    let shared = shared("http://b0.test");
    let bridges = (0..9)
        .map(|i| LiveBridge::new(&format!("http://b{i}.test"), [SwarmId::new([1; 20])]).unwrap())
        .collect();
    shared.set_bridges(bridges);
    let view = |referer: Option<&str>| {
        let page = Page {
            referer: referer.map(Into::into),
            ..page()
        };
        let mut rewriter = Rewriter::new(page, Arc::new(Divert::now(&shared))).unwrap();
        let html = r#"<img src="/a.png">"#.repeat(50);
        let mut out = rewriter.write(Bytes::from(html)).to_vec();
        out.extend_from_slice(&rewriter.end());
        String::from_utf8(out).unwrap()
    };
    let out = view(None);
    let places: HashSet<&str> = out
        .split('"')
        .filter(|text| text.starts_with("http"))
        .collect();
    assert_eq!(places.len(), 1);
    assert_eq!(shared.meter().diverted(), 1000);
    view(None);
    assert_eq!(shared.meter().diverted(), 2000);
    // Whoever walks on from a page that had the file has it in the cache.
    view(Some("/docs/page.html"));
    assert_eq!(shared.meter().diverted(), 2000);
}

#[test]
fn encodings_that_are_no_ascii_are_left_alone() {
    let divert = || Arc::new(Divert::now(&shared("http://b.test")));
    for charset in [
        "utf-16",
        "UTF-16LE",
        "iso-2022-jp",
        "utf-7",
        "replacement",
        "hz-gb-2312",
    ] {
        let page = Page {
            charset: Some(charset.into()),
            ..page()
        };
        assert!(Rewriter::new(page, divert()).is_none(), "{charset}");
    }
    for charset in [
        "utf-8",
        "\"UTF-8\"",
        "iso-8859-1",
        "windows-1251",
        "Shift_JIS",
        "gbk",
    ] {
        let page = Page {
            charset: Some(charset.into()),
            ..page()
        };
        assert!(Rewriter::new(page, divert()).is_some(), "{charset}");
    }
    // Bytes that are no UTF-8 stay as they are, in changed tags too.
    let html = b"<img alt='caf\xe9' src='/a.png'>\xff\xfe";
    let out = run(page(), html, 4);
    assert!(out.starts_with(b"<img alt='caf\xe9' src=\"http://b.test:81/a.png\""));
    assert!(out.ends_with(b"\xff\xfe"));
}

proptest! {
    #[test]
    fn pages_without_our_files_are_never_changed(html in "[a-z<>/='\"&!\\- ]{0,200}", cut in 1..50_usize) {
        let out = run(page(), html.as_bytes(), cut);
        prop_assert_eq!(out, html.as_bytes());
    }

    #[test]
    fn no_input_panics_or_loses_text(html in prop::collection::vec(any::<u8>(), 0..400), cut in 1..50_usize) {
        let out = run(page(), &html, cut);
        prop_assert_eq!(out, html);
    }
}

#[test]
fn each_use_of_a_file_is_judged_by_the_policy_in_force() {
    let mut nonced = page();
    nonced.policy.add("script-src 'nonce-x'");
    let plain = r#"<script src="/a.js"></script>"#;
    let vouched = r#"<script nonce="x" src="/a.js"></script>"#;
    for html in [format!("{vouched}{plain}"), format!("{plain}{vouched}")] {
        let mut page = page();
        page.policy = nonced.policy.clone();
        let found = String::from_utf8(run(page, html.as_bytes(), usize::MAX)).unwrap();
        assert!(found.contains(plain), "{found}");
        assert_eq!(found.matches("b.test:81/a.js").count(), 1, "{found}");
    }
    let meta = r#"<meta http-equiv="Content-Security-Policy" content="img-src 'self'">"#;
    let image = r#"<img src="/a.png">"#;
    check(
        &format!("{image}{meta}{image}"),
        Some(&format!(r#"<img src="{{B}}/a.png" {{R}}>{meta}{image}"#)),
    );
}

#[test]
fn a_meta_policy_binds_what_the_page_asks_for_itself() {
    let shared = shared("http://B.test:81");
    let redirected = || {
        let asked = http::Request::get("/a.png")
            .header("host", "s.example")
            .header("referer", "http://s.example/docs/page.html")
            .header("sec-fetch-dest", "image");
        let facts = Facts::of(&asked.body(()).unwrap().into_parts().0);
        let decision = Divert::now(&shared).decide(&facts, Instant::now());
        matches!(decision, Decision::Redirect { .. })
    };
    let start = || Rewriter::new(page(), Arc::new(Divert::now(&shared))).unwrap();
    assert!(redirected());
    let meta = r#"<meta http-equiv="Content-Security-Policy" content="img-src 'self'">"#;
    let mut strict = start();
    strict.write(Bytes::from(meta));
    assert!(!redirected(), "as soon as it is met");
    strict.end();
    assert!(!redirected());
    // The next visitor's copy is on its way: its headers say nothing, its markup will.
    shared.note_head_policy("/docs/page.html", Policy::default());
    assert!(!redirected());
    let mut open = start();
    open.write(Bytes::from_static(b"<p>now without</p>"));
    open.end();
    assert!(redirected());
}
