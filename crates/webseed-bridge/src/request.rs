//! Request line and `Host` to a [`Target`]: whom is asked, and for what.
//!
//! Nothing here knows which sites exist; [`crate::sites`] does. What is ambiguous is refused, for
//! a doubt about the host is how one site is made to answer for another (RFC 9112, 3.2).

use std::net::IpAddr;

use http::header::HOST;
use http::uri::Uri;
use http::{HeaderMap, Method, Version};

use crate::error::BridgeError;
use crate::limits;

/// The host that a request names, in lower case and without a trailing dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A DNS name and the port written behind it, if any.
    Name(String, Option<u16>),
    /// An address literal and the port written behind it, if any.
    Address(IpAddr, Option<u16>),
    /// None at all, as HTTP/1.0 allows.
    Absent,
}

impl Host {
    /// Reads `uri-host [ ":" port ]` (RFC 9110, 7.2).
    ///
    /// # Errors
    /// [`BridgeError::BadRequest`] for user information, bad ports, and characters that no host
    /// has. Percent-encoded and non-ASCII names are refused: browsers send the ASCII form.
    pub fn parse(authority: &str) -> Result<Self, BridgeError> {
        const BAD: BridgeError = BridgeError::BadRequest("malformed host");
        if authority.is_empty() || authority.len() > 260 {
            return Err(BAD);
        }
        if let Some(rest) = authority.strip_prefix('[') {
            let (address, port) = rest.split_once(']').ok_or(BAD)?;
            let address: std::net::Ipv6Addr = address.parse().map_err(|_| BAD)?;
            let port = match port.strip_prefix(':') {
                Some(port) => parse_port(port)?,
                None if port.is_empty() => None,
                None => return Err(BAD),
            };
            return Ok(Self::Address(address.into(), port));
        }
        let (name, port) = match authority.split_once(':') {
            Some((name, port)) => (name, parse_port(port)?),
            None => (authority, None),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let fine = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if name.len() > 253 || !name.split('.').all(fine) {
            return Err(BAD);
        }
        let name = name.to_ascii_lowercase();
        if let Ok(address) = name.parse::<std::net::Ipv4Addr>() {
            return Ok(Self::Address(address.into(), port));
        }
        // `http://0x7f.1/` and `http://2130706433/` are addresses to a browser, names to nobody.
        if name.rsplit('.').next().is_some_and(looks_numeric) {
            return Err(BAD);
        }
        Ok(Self::Name(name, port))
    }

    /// The host as sites are named: with its port unless that is a default one.
    pub fn site_name(&self) -> Option<String> {
        let (host, port) = match self {
            Self::Name(name, port) => (name.clone(), *port),
            Self::Address(IpAddr::V6(address), port) => (format!("[{address}]"), *port),
            Self::Address(address, port) => (address.to_string(), *port),
            Self::Absent => return None,
        };
        Some(match port {
            None | Some(80 | 443) => host,
            Some(port) => format!("{host}:{port}"),
        })
    }
}

fn looks_numeric(label: &str) -> bool {
    label.bytes().all(|b| b.is_ascii_digit())
        || label
            .strip_prefix("0x")
            .is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn parse_port(text: &str) -> Result<Option<u16>, BridgeError> {
    const BAD: BridgeError = BridgeError::BadRequest("malformed port");
    if text.is_empty() {
        return Ok(None); // RFC 3986, 3.2.3: an empty port is the default one
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BAD);
    }
    text.parse().map(Some).map_err(|_| BAD)
}

/// What a request asks for, before anybody looked whether it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// GET or HEAD of a path.
    Page {
        /// The host asked.
        host: Host,
        /// Path as sent: begins with `/`, percent-encoded, not normalised.
        path: String,
        /// Query as sent, without the `?`.
        query: Option<String>,
    },
    /// OPTIONS, of any path or `*`.
    Options,
}

impl Target {
    /// Reads the target of a request as RFC 9112, 3.2 and 3.3 say.
    ///
    /// # Errors
    /// [`BridgeError::Method`] for other methods, CONNECT among them; [`BridgeError::BadRequest`]
    /// for a missing, repeated or malformed host and for targets that are too long;
    /// [`BridgeError::UnknownHost`] for an absolute target of another scheme than http, which
    /// only a proxy could serve.
    pub fn parse(
        method: &Method,
        uri: &Uri,
        version: Version,
        headers: &HeaderMap,
    ) -> Result<Self, BridgeError> {
        match *method {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => return Ok(Self::Options),
            _ => return Err(BridgeError::Method),
        }
        let mut hosts = headers.get_all(HOST).iter();
        let named = match (hosts.next(), hosts.next()) {
            (Some(host), None) => {
                let host = host
                    .to_str()
                    .map_err(|_| BridgeError::BadRequest("malformed host"))?;
                Host::parse(host)?
            }
            (None, None) if version == Version::HTTP_10 || uri.authority().is_some() => {
                Host::Absent
            }
            (None, None) => return Err(BridgeError::BadRequest("no host")),
            (_, Some(_)) => return Err(BridgeError::BadRequest("more than one host")),
        };
        // RFC 9112, 3.2.2: an absolute target overrides the field.
        let host = match (uri.scheme_str(), uri.authority()) {
            (None, None) => named,
            (Some("http"), Some(authority)) => Host::parse(authority.as_str())?,
            (Some(_), _) => return Err(BridgeError::UnknownHost),
            (None, Some(_)) => return Err(BridgeError::BadRequest("malformed target")),
        };
        let path = uri.path();
        let query = uri.query();
        if path.len().saturating_add(query.map_or(0, str::len)) > limits::TARGET_LEN_MAX {
            return Err(BridgeError::BadRequest("target too long"));
        }
        let path = if path.is_empty() { "/" } else { path };
        if !path.starts_with('/') {
            return Err(BridgeError::BadRequest("malformed target"));
        }
        Ok(Self::Page {
            host,
            path: path.to_owned(),
            query: query.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn name(name: &str, port: Option<u16>) -> Option<Host> {
        Some(Host::Name(name.into(), port))
    }

    fn address(text: &str, port: Option<u16>) -> Option<Host> {
        Some(Host::Address(text.parse().unwrap(), port))
    }

    #[test]
    fn hosts_are_read_strictly() {
        for (text, expected) in [
            ("example.org", name("example.org", None)),
            ("EXAMPLE.org:8080", name("example.org", Some(8080))),
            ("example.org.", name("example.org", None)),
            ("example.org:", name("example.org", None)),
            ("a--b-c.localhost:1", name("a--b-c.localhost", Some(1))),
            ("localhost", name("localhost", None)),
            ("127.0.0.1:80", address("127.0.0.1", Some(80))),
            ("[::1]:8080", address("::1", Some(8080))),
            ("[::1]", address("::1", None)),
            ("", None),
            (":80", None),
            (".", None),
            ("a..b", None),
            (".a", None),
            ("a.b..", None),
            ("user@example.org", None),
            ("example.org:80:80", None),
            ("example.org:65536", None),
            ("example.org:-1", None),
            ("example.org:+1", None),
            ("example.org:8 0", None),
            ("example.org/", None),
            ("example.org\\", None),
            ("exa mple.org", None),
            ("example.org,evil.example", None),
            ("ex%61mple.org", None),
            ("b\u{fc}cher.example", None),
            ("0x7f.1", None),
            ("0x7f000001", None),
            ("2130706433", None),
            ("127.1", None),
            ("[::1", None),
            ("[::1]80", None),
            ("[127.0.0.1]", None),
            ("::1", None),
            ("[fe80::1%25eth0]", None),
        ] {
            assert_eq!(Host::parse(text).ok(), expected, "{text}");
        }
        assert!(Host::parse(&"a".repeat(64)).is_err());
        assert!(Host::parse(&"a.".repeat(200)).is_err());
    }

    #[test]
    fn site_names_leave_default_ports_out() {
        for (text, expected) in [
            ("example.org:80", "example.org"),
            ("example.org:443", "example.org"),
            ("example.org:8080", "example.org:8080"),
            ("[::1]:8080", "[::1]:8080"),
        ] {
            assert_eq!(Host::parse(text).unwrap().site_name().unwrap(), expected);
        }
        assert_eq!(Host::Absent.site_name(), None);
    }

    fn parse(
        method: &str,
        uri: &str,
        hosts: &[&str],
        version: Version,
    ) -> Result<Target, BridgeError> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_str(host).unwrap());
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Target::parse(&method, &uri.parse().unwrap(), version, &headers)
    }

    fn page(host: &str, path: &str, query: Option<&str>) -> Target {
        Target::Page {
            host: Host::parse(host).unwrap(),
            path: path.into(),
            query: query.map(Into::into),
        }
    }

    #[test]
    fn targets_of_every_form_are_read() {
        let parse = |m, u, h: &[&str]| parse(m, u, h, Version::HTTP_11);
        assert_eq!(
            parse("GET", "/a?b=c", &["x.org"]).unwrap(),
            page("x.org", "/a", Some("b=c"))
        );
        assert_eq!(
            parse("HEAD", "/", &["x.org"]).unwrap(),
            page("x.org", "/", None)
        );
        // An absolute target wins over the field.
        assert_eq!(
            parse("GET", "http://y.org:81/a", &["x.org"]).unwrap(),
            page("y.org:81", "/a", None)
        );
        assert_eq!(
            parse("GET", "http://y.org", &["x.org"]).unwrap(),
            page("y.org", "/", None)
        );
        assert_eq!(parse("OPTIONS", "*", &["x.org"]).unwrap(), Target::Options);
        assert_eq!(parse("OPTIONS", "/a", &["x.org"]).unwrap(), Target::Options);
    }

    #[test]
    fn what_a_proxy_would_do_is_refused() {
        let status = |m, u, h: &[&str], v| parse(m, u, h, v).unwrap_err().status().as_u16();
        for (method, uri, hosts, version, expected) in [
            (
                "CONNECT",
                "x.org:443",
                &["x.org"][..],
                Version::HTTP_11,
                405,
            ),
            ("POST", "/", &["x.org"], Version::HTTP_11, 405),
            ("PUT", "/", &["x.org"], Version::HTTP_11, 405),
            ("DELETE", "/", &["x.org"], Version::HTTP_11, 405),
            ("TRACE", "/", &["x.org"], Version::HTTP_11, 405),
            ("PROPFIND", "/", &["x.org"], Version::HTTP_11, 405),
            ("GET", "/", &[], Version::HTTP_11, 400),
            ("GET", "/", &["x.org", "x.org"], Version::HTTP_11, 400),
            ("GET", "/", &["x.org, y.org"], Version::HTTP_11, 400),
            (
                "GET",
                "http://u:p@x.org/",
                &["x.org"],
                Version::HTTP_11,
                400,
            ),
            ("GET", "https://x.org/", &["x.org"], Version::HTTP_11, 421),
            ("GET", "ftp://x.org/", &["x.org"], Version::HTTP_11, 421),
            ("GET", "x.org:443", &["x.org"], Version::HTTP_11, 400),
            ("GET", "*", &["x.org"], Version::HTTP_11, 400),
        ] {
            assert_eq!(
                status(method, uri, hosts, version),
                expected,
                "{method} {uri}"
            );
        }
        let long = format!("/{}", "a".repeat(limits::TARGET_LEN_MAX));
        assert_eq!(status("GET", &long, &["x.org"], Version::HTTP_11), 400);
    }

    #[test]
    fn http_1_0_needs_no_host() {
        let target = parse("GET", "/a", &[], Version::HTTP_10).unwrap();
        assert!(matches!(
            target,
            Target::Page {
                host: Host::Absent,
                ..
            }
        ));
    }
}
