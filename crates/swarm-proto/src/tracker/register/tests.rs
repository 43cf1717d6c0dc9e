use super::*;

fn site(name: &str) -> SiteName {
    SiteName::parse(name).expect("a site")
}

fn path(path: &str) -> SitePath {
    SitePath::parse(path).expect("a path")
}

fn bridge(address: &str, domain: Option<&str>) -> BridgeView {
    let address = address.parse().expect("an address");
    BridgeView::new(address, domain, vec![SwarmId::new([1; 20])])
}

#[test]
fn a_bridge_with_a_domain_serves_each_site_under_its_label() {
    let view = bridge("127.0.0.1:8081", Some("LocalHost"));
    assert_eq!(
        view.url_for(&site("my-site.example:8080"), &path("/docs/a%20b.html")),
        "http://my--site-example---8080.localhost:8081/docs/a%20b.html"
    );
}

#[test]
fn a_bare_bridge_serves_sites_by_path() {
    for (address, url) in [
        ("192.0.2.7:80", "http://192.0.2.7:80/example.org/%C3%BC/"),
        (
            "[2001:db8::1]:8081",
            "http://[2001:db8::1]:8081/example.org/%C3%BC/",
        ),
        (
            "[::ffff:192.0.2.7]:81",
            "http://192.0.2.7:81/example.org/%C3%BC/",
        ),
    ] {
        let view = bridge(address, None);
        assert_eq!(view.url_for(&site("example.org"), &path("/%c3%bc/")), url);
    }
    assert_eq!(bridge("192.0.2.7:80", Some("no domain/")).domain, None);
}

#[test]
fn replies_survive_a_round_trip() {
    let sites = SitesReply {
        version: 7,
        sites: vec![SiteInNeed {
            site: site("example.org:8080"),
            alarm: b"signed".to_vec(),
            bundles: vec![InfoHashV2::new([2; 32]), InfoHashV2::new([3; 32])],
        }],
    };
    let bridges = BridgesReply {
        bridges: vec![
            bridge("127.0.0.1:8081", Some("localhost")),
            bridge("[::1]:8081", None),
        ],
    };
    assert_eq!(SitesReply::decode(&sites.to_bytes()), Ok(sites.clone()));
    assert_eq!(
        BridgesReply::decode(&bridges.to_bytes()),
        Ok(bridges.clone())
    );
    for bytes in [sites.to_bytes(), bridges.to_bytes()] {
        assert!(bencode::decode(&bytes, &Rules::SIGNED).is_ok(), "canonical");
        for end in 0..bytes.len() {
            assert!(SitesReply::decode(&bytes[..end]).is_err());
            assert!(BridgesReply::decode(&bytes[..end]).is_err());
        }
    }
}

#[test]
fn entries_that_could_lead_a_visitor_astray_are_left_out() {
    for base in [
        "",
        "http://",
        "http://127.0.0.1",
        "http://127.0.0.1:0",
        "http://127.0.0.1:8081/",
        "http://127.0.0.1:8081@evil.example",
        "http://user@127.0.0.1:8081",
        "http://evil.example:80",
        "https://127.0.0.1:8081",
        "//127.0.0.1:8081",
        "javascript:alert(1)",
        "http://127.0.0.1:8081\r\nx",
    ] {
        let entry = Item::dict([("base", Item::bytes(base)), ("bundles", Item::list([]))]);
        let bytes = Item::dict([("bridges", Item::list([entry]))]).to_bytes();
        assert_eq!(
            BridgesReply::decode(&bytes),
            Ok(BridgesReply::default()),
            "{base}"
        );
    }
    for domain in ["", ".", "evil.example/", "a b", "evil.example:80", "a@b"] {
        let entry = Item::dict([
            ("base", Item::bytes("http://127.0.0.1:8081")),
            ("bundles", Item::list([])),
            ("domain", Item::bytes(domain)),
        ]);
        let bytes = Item::dict([("bridges", Item::list([entry]))]).to_bytes();
        assert_eq!(
            BridgesReply::decode(&bytes),
            Ok(BridgesReply::default()),
            "{domain}"
        );
    }
}

#[test]
fn replies_of_another_shape_are_refused() {
    for bytes in [
        &b"le"[..],
        b"i1e",
        b"de",
        b"d7:bridgesi1ee",
        b"d5:sitesle7:versioni-1ee",
    ] {
        assert!(matches!(
            BridgesReply::decode(bytes),
            Err(RegisterError::WrongShape(_))
        ));
        assert!(matches!(
            SitesReply::decode(bytes),
            Err(RegisterError::WrongShape(_))
        ));
    }
    assert!(matches!(
        SitesReply::decode(b"<html>"),
        Err(RegisterError::NotBencode(_))
    ));
}

#[test]
fn register_is_beside_the_announce_url() {
    for (tracker, url) in [
        (
            "http://t.example:6969/announce",
            Some("http://t.example:6969/swarm/sites"),
        ),
        (
            "https://t.example/x/announce?key=1",
            Some("https://t.example/swarm/sites"),
        ),
        ("http://[::1]:6969", Some("http://[::1]:6969/swarm/sites")),
        ("udp://t.example:6969", None),
        ("http:///announce", None),
        ("t.example", None),
    ] {
        assert_eq!(register_url(tracker, SITES_PATH).as_deref(), url);
    }
}

#[test]
fn nobody_is_sent_where_he_cannot_go() {
    let cases = [
        ("203.0.113.9", "198.51.100.1", true),
        ("203.0.113.9", "127.0.0.1", false),
        ("203.0.113.9", "10.0.0.1", false),
        ("203.0.113.9", "100.64.0.1", false),
        ("203.0.113.9", "2001:db8::1", false),
        ("10.0.0.2", "10.0.0.1", true),
        ("10.0.0.2", "127.0.0.1", false),
        ("10.0.0.2", "198.51.100.1", true),
        ("127.0.0.1", "127.0.0.1", true),
        ("127.0.0.1", "::1", true),
        ("127.0.0.1", "198.51.100.1", true),
        ("2001:db8::9", "198.51.100.1", true),
        ("2001:db8::9", "fd00::1", false),
        ("fd00::9", "fd00::1", true),
        ("::1", "127.0.0.1", true),
    ];
    for (visitor, bridge, expected) in cases {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(
            reaches(ip(visitor), ip(bridge)),
            expected,
            "{visitor} to {bridge}"
        );
    }
}

#[test]
fn replies_survive_changed_input() {
    let sites = SitesReply {
        version: 7,
        sites: vec![SiteInNeed {
            site: site("example.org:8080"),
            alarm: b"signed".to_vec(),
            bundles: vec![InfoHashV2::new([2; 32])],
        }],
    };
    let bridges = BridgesReply {
        bridges: vec![
            bridge("127.0.0.1:8081", Some("localhost")),
            bridge("[::1]:8081", None),
        ],
    };
    let corpus = [sites.to_bytes(), bridges.to_bytes()];
    crate::fuzzing::tests::hammer(&corpus, 23, 30_000, crate::fuzzing::register);
}
