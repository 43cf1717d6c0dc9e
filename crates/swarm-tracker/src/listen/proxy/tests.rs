use hyper::header::HeaderValue;

use super::*;

const PROXY: &str = "10.0.0.1";

fn proxies() -> Vec<IpNet> {
    ["10.0.0.0/24", "2001:db8:ffff::/48"]
        .map(|net| net.parse().expect("a network"))
        .to_vec()
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
        headers.append(*name, value);
    }
    headers
}

fn from_proxy(lines: &[(&'static str, &str)]) -> Result<IpAddr, BadForward> {
    source_of(&proxies(), ip(PROXY), &headers(lines))
}

#[test]
fn a_proxy_of_the_operators_says_who_asks() {
    const F: &str = "forwarded";
    const X: &str = "x-forwarded-for";
    let table: &[(&[(&'static str, &str)], &str)] = &[
        (&[(X, "203.0.113.7")], "203.0.113.7"),
        (&[(X, " 203.0.113.7 ")], "203.0.113.7"),
        (&[(X, "203.0.113.7:4711")], "203.0.113.7"),
        (&[(X, "2001:db8::7")], "2001:db8::7"),
        (&[(X, "[2001:db8::7]")], "2001:db8::7"),
        (&[(X, "[2001:db8::7]:4711")], "2001:db8::7"),
        (&[(X, "::ffff:203.0.113.7")], "203.0.113.7"),
        // What stands to the left is the client's own word.
        (&[(X, "198.51.100.1, 203.0.113.7")], "203.0.113.7"),
        (&[(X, "rubbish, 203.0.113.7")], "203.0.113.7"),
        (&[(X, "198.51.100.1"), (X, "203.0.113.7")], "203.0.113.7"),
        (&[(X, "\"; drop"), (X, "203.0.113.7")], "203.0.113.7"),
        (&[(X, "203.0.113.7,")], "203.0.113.7"),
        (&[(X, ",, 203.0.113.7 ,,")], "203.0.113.7"),
        // Through two and three of the operator's own.
        (&[(X, "1.1.1.1, 203.0.113.7, 10.0.0.2")], "203.0.113.7"),
        (
            &[(X, "203.0.113.7, 2001:db8:ffff::1, 10.0.0.2")],
            "203.0.113.7",
        ),
        (
            &[(X, "203.0.113.7"), (X, "10.0.0.3"), (X, "10.0.0.2")],
            "203.0.113.7",
        ),
        // A proxy asks on its own account, through another.
        (&[(X, "10.0.0.2")], "10.0.0.2"),
        (&[(X, "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
        // The other header.
        (&[(F, "for=203.0.113.7")], "203.0.113.7"),
        (
            &[(F, "For=203.0.113.7;Proto=https;by=10.0.0.1")],
            "203.0.113.7",
        ),
        (&[(F, "proto=https; for=203.0.113.7")], "203.0.113.7"),
        (&[(F, "for=\"203.0.113.7:4711\"")], "203.0.113.7"),
        (&[(F, "for=\"[2001:db8::7]\"")], "2001:db8::7"),
        (
            &[(F, "for=\"[2001:db8::7]:4711\";proto=http")],
            "2001:db8::7",
        ),
        (&[(F, "for=1.1.1.1, for=203.0.113.7")], "203.0.113.7"),
        (&[(F, "for=unknown, for=203.0.113.7")], "203.0.113.7"),
        (
            &[(F, "for=_hidden;x=\", for=1.1.1.1\", for=203.0.113.7")],
            "203.0.113.7",
        ),
        (&[(F, "for=203.0.113.7, for=10.0.0.2")], "203.0.113.7"),
        (
            &[(F, "for=\"rubbish"), (F, "for=203.0.113.7")],
            "203.0.113.7",
        ),
        (&[(F, ", ,for=203.0.113.7;, ;")], "203.0.113.7"),
        // Both, and they agree.
        (
            &[(F, "for=203.0.113.7"), (X, "1.1.1.1, 203.0.113.7")],
            "203.0.113.7",
        ),
        // Neither: it asks for itself.
        (&[], PROXY),
        (&[(X, "")], PROXY),
        (&[(F, "")], PROXY),
        (&[(F, " , ;")], PROXY),
        (&[("x-real-ip", "203.0.113.7")], PROXY),
        (&[("x-forwarded-host", "203.0.113.7")], PROXY),
    ];
    for (lines, expected) in table {
        assert_eq!(from_proxy(lines), Ok(ip(expected)), "{lines:?}");
    }
}

/// Whatever a proxy of the operator's says last must be an address, or nobody is taken for the
/// proxy, and nobody chooses who he is.
#[test]
fn bad_headers_are_refused() {
    let long = ["10.0.0.2"; 17].join(",");
    let table: &[&[(&'static str, &str)]] = &[
        &[("x-forwarded-for", "unknown")],
        &[("x-forwarded-for", "_hidden")],
        &[("x-forwarded-for", "localhost")],
        &[("x-forwarded-for", "example.org")],
        &[("x-forwarded-for", "203.0.113")],
        &[("x-forwarded-for", "203.0.113.256")],
        &[("x-forwarded-for", "203.0.113.07")],
        &[("x-forwarded-for", "0xcb007107")],
        &[("x-forwarded-for", "3405803783")],
        &[("x-forwarded-for", "203.0.113.7:")],
        &[("x-forwarded-for", "203.0.113.7:99999")],
        &[("x-forwarded-for", "203.0.113.7:80:80")],
        &[("x-forwarded-for", "203.0.113.7/32")],
        &[("x-forwarded-for", "203.0.113.7 10.0.0.9")],
        &[("x-forwarded-for", "[203.0.113.7]")],
        &[("x-forwarded-for", "\"203.0.113.7\"")],
        &[("x-forwarded-for", "[2001:db8::7")],
        &[("x-forwarded-for", "2001:db8::7]")],
        &[("x-forwarded-for", "2001:db8::7::")],
        &[("x-forwarded-for", "fe80::1%eth0")],
        &[("x-forwarded-for", "for=203.0.113.7")],
        &[("x-forwarded-for", "203.0.113.7;")],
        &[("x-forwarded-for", "203.0.113.7, unknown")],
        &[("x-forwarded-for", "203.0.113.7, unknown, 10.0.0.2")],
        &[("x-forwarded-for", "203.0.113.7"), ("x-forwarded-for", "-")],
        &[("x-forwarded-for", "203.0.113.7\u{e9}")],
        // Addresses that nobody asks from.
        &[("x-forwarded-for", "0.0.0.0")],
        &[("x-forwarded-for", "::")],
        &[("x-forwarded-for", "224.0.0.1")],
        &[("x-forwarded-for", "ff02::1")],
        &[("x-forwarded-for", "255.255.255.255")],
        &[("x-forwarded-for", "127.0.0.1")],
        &[("x-forwarded-for", "::1")],
        &[("x-forwarded-for", "::ffff:127.0.0.1")],
        &[("x-forwarded-for", &long)],
        // Not the syntax, or no address in it.
        &[("forwarded", "203.0.113.7")],
        &[("forwarded", "for")],
        &[("forwarded", "for=")],
        &[("forwarded", "for=unknown")],
        &[("forwarded", "for=_hidden")],
        &[("forwarded", "for=\"_hidden:80\"")],
        &[("forwarded", "for=\"\"")],
        &[("forwarded", "for=\"203.0.113.7")],
        &[("forwarded", "for=203.0.113.7\"")],
        &[("forwarded", "for=\"203.0.113.7\"x")],
        &[("forwarded", "for=\"203.0.113.\\7\"")],
        &[("forwarded", "for=203.0.113.7;for=203.0.113.8")],
        &[("forwarded", "for=203.0.113.7;FOR=203.0.113.7")],
        &[("forwarded", "by=10.0.0.1;proto=https")],
        &[("forwarded", "for=203.0.113.7, by=10.0.0.1")],
        &[("forwarded", "for=203.0.113.7, for=unknown")],
        &[("forwarded", "forr=203.0.113.7")],
        &[("forwarded", "for:203.0.113.7")],
        &[("forwarded", "for=127.0.0.1")],
        // A client's open quote must not swallow what the proxy adds.
        &[("forwarded", "for=1.1.1.1;x=\", for=203.0.113.7")],
        &[("forwarded", "for=1.1.1.1;x=\", for=\"[2001:db8::7]:1\"")],
        &[("forwarded", "for=1.1.1.1;x=\", for=\"203.0.113.7\"")],
        &[("forwarded", "for=1.1.1.1;x=\"\\, for=203.0.113.7")],
    ];
    for lines in table {
        assert_eq!(from_proxy(lines), Err(BadForward::NoAddress), "{lines:?}");
    }
    // One of the two is not the proxy's.
    for (forwarded, listed) in [
        ("for=198.51.100.1", "203.0.113.7"),
        ("for=203.0.113.7", "198.51.100.1"),
        ("for=203.0.113.7", "203.0.113.7, 198.51.100.1"),
        ("for=10.0.0.2", "203.0.113.7"),
    ] {
        let both = [("forwarded", forwarded), ("x-forwarded-for", listed)];
        assert_eq!(from_proxy(&both), Err(BadForward::Disagree), "{both:?}");
    }
}

/// T14: from anybody else these headers count for nothing, not even when they are broken.
#[test]
fn t14_strangers_are_where_their_connection_comes_from() {
    let stranger = ip("203.0.113.9");
    for lines in [
        [("x-forwarded-for", "198.51.100.1")],
        [("x-forwarded-for", "10.0.0.1")],
        [("x-forwarded-for", "198.51.100.1, 10.0.0.1")],
        [("x-forwarded-for", "rubbish")],
        [("forwarded", "for=198.51.100.1")],
        [("forwarded", "for=\"")],
        [("x-real-ip", "198.51.100.1")],
    ] {
        let headers = headers(&lines);
        assert_eq!(source_of(&proxies(), stranger, &headers), Ok(stranger));
        assert_eq!(source_of(&[], ip(PROXY), &headers), Ok(ip(PROXY)));
    }
}

#[test]
fn a_proxy_on_this_host_may_name_this_host() {
    let proxies = ["127.0.0.0/8".parse().expect("a network")];
    let headers = headers(&[("x-forwarded-for", "127.0.0.7")]);
    let found = source_of(&proxies, ip("127.0.0.1"), &headers);
    assert_eq!(found, Ok(ip("127.0.0.7")));
}
