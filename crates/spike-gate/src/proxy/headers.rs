//! Fields that belong to one hop, and fields that tell the origin who is asking.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Removes what concerns this hop only, and whatever `Connection` names (RFC 9110, 7.6.1).
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        // `Connection: host` must not make the origin guess.
        .filter(|name| !matches!(*name, header::HOST | header::CONTENT_LENGTH))
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    headers.remove(PROXY_CONNECTION);
}

/// Tells the origin who asks and how. What the visitor's side says about that is believed only
/// where another proxy of the operator's stands before the gate (`trusted`); it is replaced
/// otherwise.
pub fn set_forwarded(headers: &mut HeaderMap, visitor: IpAddr, proto: &str, trusted: bool) {
    let visitor = visitor.to_canonical();
    let host = headers.get(header::HOST).cloned();
    let before = |headers: &HeaderMap, name: &HeaderName| {
        let values = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let joined = values.collect::<Vec<_>>().join(", ");
        (trusted && !joined.is_empty()).then_some(joined)
    };
    let append = |headers: &mut HeaderMap, name: HeaderName, value: String| {
        let value = match before(headers, &name) {
            Some(before) => format!("{before}, {value}"),
            None => value,
        };
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    let node = match visitor {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("\"[{v6}]\""),
    };
    let quoted = host
        .as_ref()
        .and_then(|host| host.to_str().ok())
        .filter(|host| !host.contains(['"', '\\']))
        .map(|host| format!(";host=\"{host}\""))
        .unwrap_or_default();
    append(
        headers,
        header::FORWARDED,
        format!("for={node}{quoted};proto={proto}"),
    );
    append(headers, FORWARDED_FOR, visitor.to_string());
    if !(trusted && headers.contains_key(FORWARDED_PROTO)) {
        headers.insert(
            FORWARDED_PROTO,
            HeaderValue::from_static(if proto == "https" { "https" } else { "http" }),
        );
    }
    match host {
        _ if trusted && headers.contains_key(FORWARDED_HOST) => {}
        Some(host) => {
            headers.insert(FORWARDED_HOST, host);
        }
        None => {
            headers.remove(FORWARDED_HOST);
        }
    }
    if !(trusted && headers.contains_key(REAL_IP)) {
        headers.remove(REAL_IP);
    }
    append_via(headers);
}

fn append_via(headers: &mut HeaderMap) {
    headers.append(header::VIA, HeaderValue::from_static("1.1 spike-gate"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn what_concerns_one_hop_goes_no_further() {
        let mut found = headers(&[
            ("connection", "keep-alive, X-Secret"),
            ("connection", "x-other,, host, content-length"),
            ("keep-alive", "timeout=5"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-connection", "close"),
            ("proxy-authorization", "x"),
            ("host", "h"),
            ("content-length", "3"),
            ("cookie", "a=b"),
        ]);
        strip_hop_by_hop(&mut found);
        assert_eq!(
            found,
            headers(&[("host", "h"), ("content-length", "3"), ("cookie", "a=b")])
        );
    }

    #[test]
    fn visitors_cannot_speak_for_others() {
        let visitor = "203.0.113.7".parse().unwrap();
        let spoofed = [
            ("host", "h.example"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-real-ip", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
        ];
        let mut found = headers(&spoofed);
        set_forwarded(&mut found, visitor, "http", false);
        assert_eq!(found["x-forwarded-for"], "203.0.113.7");
        assert_eq!(found["x-forwarded-proto"], "http");
        assert_eq!(found["x-forwarded-host"], "h.example");
        assert_eq!(
            found["forwarded"],
            "for=203.0.113.7;host=\"h.example\";proto=http"
        );
        assert!(!found.contains_key("x-real-ip"));
        let mut found = headers(&spoofed);
        set_forwarded(&mut found, visitor, "http", true);
        assert_eq!(found["x-forwarded-for"], "10.0.0.1, 203.0.113.7");
        assert_eq!(found["x-forwarded-proto"], "https");
        assert_eq!(found["x-forwarded-host"], "evil");
        assert!(
            found["forwarded"]
                .to_str()
                .unwrap()
                .starts_with("for=10.0.0.1, for=203")
        );
        assert_eq!(found["via"], "1.1 spike-gate");
    }

    #[test]
    fn six_is_bracketed_and_mapped_four_is_four() {
        let mut found = headers(&[("host", "h")]);
        set_forwarded(&mut found, "2001:db8::1".parse().unwrap(), "https", false);
        assert_eq!(
            found["forwarded"],
            "for=\"[2001:db8::1]\";host=\"h\";proto=https"
        );
        assert_eq!(found["x-forwarded-for"], "2001:db8::1");
        set_forwarded(
            &mut found,
            "::ffff:192.0.2.1".parse().unwrap(),
            "https",
            false,
        );
        assert_eq!(found["x-forwarded-for"], "192.0.2.1");
    }
}
