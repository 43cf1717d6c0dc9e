use super::*;
use MagnetError as E;

const V1: &str = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
const V2: &str = "caf1e1c30e81cb361b9ee167c4aa64228a7fa4fa9f6105232b28ad099f3a302e";

fn parse(link: &str) -> Result<Magnet, MagnetError> {
    Magnet::parse(link)
}

#[test]
fn every_parameter_is_read() {
    let link = format!(
        "magnet:?xt=urn:btih:{V1}&xt=urn:btmh:1220{V2}&dn=big+site%20%C3%BC&tr=http%3A%2F%2Ft.example%2Fannounce\
         &tr=udp://u.example:1&ws=https%3A%2F%2Fw.example%2F&x.pe=127.0.0.1:6881&x.pe=[::1]:1\
         &x.pe=host.example:1&xl=123&so=0-2&as=x"
    );
    let magnet = parse(&link).unwrap();
    assert_eq!(magnet.v1, V1.parse().ok());
    assert_eq!(magnet.v2, V2.parse().ok());
    assert_eq!(magnet.name.as_deref(), Some("big site ü"));
    assert_eq!(
        magnet.trackers,
        ["http://t.example/announce", "udp://u.example:1"]
    );
    assert_eq!(magnet.web_seeds, ["https://w.example/"]);
    assert_eq!(
        magnet.peers,
        [
            "127.0.0.1:6881".parse().unwrap(),
            "[::1]:1".parse().unwrap()
        ]
    );
    let ids = magnet.swarm_ids();
    assert_eq!(ids[0].to_string(), V1);
    assert_eq!(ids[1].to_string(), V2[..40]);
    assert_eq!(parse(&magnet.to_string()), Ok(magnet));
}

#[test]
fn spellings_of_one_hash_are_equal() {
    let hex = parse(&format!("magnet:?xt=urn:btih:{V1}")).unwrap();
    let base32 = BASE32.encode(hex.v1.unwrap().as_bytes());
    for link in [
        format!("magnet:?xt=urn:btih:{}", V1.to_uppercase()),
        format!("MAGNET:?XT=URN:BTIH:{V1}"),
        format!("magnet:?xt=urn:btih:{base32}"),
        format!("magnet:?xt=urn:btih:{}", base32.to_lowercase()),
        format!("magnet:?&&xt.1=urn:btih:{V1}&&"),
        format!("magnet:?xt=urn%3Abtih%3A{V1}"),
        format!("magnet:?xt=urn:btih:{V1}&xt=urn:btih:{V1}"),
        format!("magnet:?xt=urn:sha1:XXXX&xt=urn:btih:{V1}"),
    ] {
        assert_eq!(parse(&link), Ok(hex.clone()), "{link}");
    }
    let numbered =
        format!("magnet:?xt.1=urn:btih:{V1}&xt.2=urn:btmh:1220{V2}&tr.1=http://a/&tr.2=http://b/");
    let numbered = parse(&numbered).unwrap();
    assert!(numbered.v1.is_some() && numbered.v2.is_some());
    assert_eq!(numbered.trackers.len(), 2);
}

#[test]
fn bad_links_are_refused_by_name() {
    let long = format!(
        "magnet:?xt=urn:btih:{V1}&dn={}",
        "x".repeat(limits::MAGNET_LEN_MAX)
    );
    let other_v1 = V1.replace('c', "d");
    let other_v2 = V2.replace('c', "d");
    let rows: Vec<(String, MagnetError)> = vec![
        (String::new(), E::Scheme),
        ("magnet:".into(), E::Scheme),
        ("magnet?xt=urn:btih:".into(), E::Scheme),
        ("http://example.org/?xt=urn:btih:x".into(), E::Scheme),
        (format!(" magnet:?xt=urn:btih:{V1}"), E::Scheme),
        ("mägnet:?".into(), E::Scheme),
        ("magnet:?".into(), E::NoInfoHash),
        ("magnet:?dn=x&tr=http://t/".into(), E::NoInfoHash),
        ("magnet:?xt".into(), E::NoInfoHash),
        ("magnet:?xt=".into(), E::NoInfoHash),
        ("magnet:?xt=urn:sha1:x".into(), E::NoInfoHash),
        (format!("magnet:?tx=urn:btih:{V1}"), E::NoInfoHash),
        (format!("magnet:?xt={V1}"), E::NoInfoHash),
        ("magnet:?xt=urn:btih:".into(), E::InfoHash),
        (format!("magnet:?xt=urn:btih:{}", &V1[1..]), E::InfoHash),
        (format!("magnet:?xt=urn:btih:{V1}0"), E::InfoHash),
        (
            format!("magnet:?xt=urn:btih:{}", "g".repeat(40)),
            E::InfoHash,
        ),
        (
            format!("magnet:?xt=urn:btih:{}", "1".repeat(32)),
            E::InfoHash,
        ),
        (
            format!("magnet:?xt=urn:btih:{}", "é".repeat(20)),
            E::InfoHash,
        ),
        (
            format!("magnet:?xt=urn:btih:{}", "é".repeat(16)),
            E::InfoHash,
        ),
        (format!("magnet:?xt=urn:btih:{V2}"), E::InfoHash),
        (format!("magnet:?xt=urn:btmh:{V2}"), E::InfoHash),
        (format!("magnet:?xt=urn:btmh:1120{V2}"), E::InfoHash),
        (format!("magnet:?xt=urn:btmh:1114{V1}"), E::InfoHash),
        (format!("magnet:?xt=urn:btmh:1220{}", &V2[2..]), E::InfoHash),
        (format!("magnet:?xt=urn:btmh:1220{V2}00"), E::InfoHash),
        ("magnet:?xt=urn:btmh:1220".into(), E::InfoHash),
        (
            format!("magnet:?xt=urn:btih:{V1}&xt=urn:btih:{other_v1}"),
            E::Ambiguous,
        ),
        (
            format!("magnet:?xt=urn:btmh:1220{V2}&xt=urn:btmh:1220{other_v2}"),
            E::Ambiguous,
        ),
        (
            format!("magnet:?xt=urn:btih:{V1}&dn=%"),
            E::Escape("dn".into()),
        ),
        (
            format!("magnet:?xt=urn:btih:{V1}&dn=%4"),
            E::Escape("dn".into()),
        ),
        (
            format!("magnet:?xt=urn:btih:{V1}&dn=%zz"),
            E::Escape("dn".into()),
        ),
        (
            format!("magnet:?xt=urn:btih:{V1}&dn=%ff"),
            E::Escape("dn".into()),
        ),
        (
            format!("magnet:?{}=%", "k".repeat(100)),
            E::Escape("k".repeat(16)),
        ),
        (long.clone(), E::TooLong(long.len())),
    ];
    for (link, error) in rows {
        assert_eq!(
            parse(&link),
            Err(error),
            "{}",
            link.chars().take(200).collect::<String>()
        );
    }
}

#[test]
fn lists_are_bounded_and_without_rubbish() {
    let mut link = format!("magnet:?xt=urn:btih:{V1}");
    for n in 0..500 {
        link += &format!("&tr=http://t/{n}&ws=http://w/{n}&x.pe=10.0.0.1:{}", n + 1);
    }
    let magnet = parse(&link).unwrap();
    assert_eq!(magnet.trackers.len(), limits::TRACKERS_MAX);
    assert_eq!(magnet.web_seeds.len(), limits::WEB_SEEDS_MAX);
    assert_eq!(magnet.peers.len(), limits::MAGNET_PEERS_MAX);
    let rubbish = format!(
        "magnet:?xt=urn:btih:{V1}&tr=javascript:x&tr=&ws=udp://x:1&ws=file:///x&x.pe=1.2.3.4&x.pe=:1&tr=http://a%0d%0ab/"
    );
    let magnet = parse(&rubbish).unwrap();
    assert!(magnet.trackers.is_empty() && magnet.web_seeds.is_empty() && magnet.peers.is_empty());
}

#[test]
fn files_are_selected_as_bep_53_says() {
    let link = |so: &str| {
        let hash = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
        Magnet::parse(&format!("magnet:?xt=urn:btih:{hash}&so={so}")).unwrap()
    };
    for (so, expected) in [
        ("0,2,4,6-8", vec![0..=0, 2..=2, 4..=4, 6..=8]),
        ("0-4294967295", vec![0..=u32::MAX]),
        ("1&so=3", vec![1..=1, 3..=3]),
        ("2%2C3", vec![2..=2, 3..=3]),
        ("", vec![]),
        ("8-6,-1,1-,x,+1,4294967296,1-2-3, 5", vec![]),
    ] {
        let magnet = link(so);
        assert_eq!(magnet.select_only, expected, "{so}");
        assert_eq!(magnet.to_string().parse(), Ok(magnet));
    }
    let many: Vec<_> = (0..5000).map(|n| (2 * n).to_string()).collect();
    assert_eq!(
        link(&many.join(",")).select_only.len(),
        crate::limits::MAGNET_SELECTED_MAX
    );
}
