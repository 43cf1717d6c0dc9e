//! Doubts about a request that end it here: what two servers could read in two ways never
//! reaches the second one.

use http::request::Parts;
use http::uri::Authority;
use http::{Method, StatusCode, Version, header};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// No `Host`, more than one, one that is no host, or another than the target names.
    #[error("Host is missing, doubled, malformed or contradicted")]
    Host,
    /// A body whose end is not certain.
    #[error("the body's length is in doubt")]
    Framing,
    /// `CONNECT` and `TRACE` are not for a site's front door.
    #[error("method not allowed")]
    Method,
    /// A target that is neither a path nor a URL of this host.
    #[error("malformed request target")]
    Target,
}

impl Doubt {
    /// What the visitor is told. The connection closes.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Checks a request's head.
///
/// # Errors
/// The first [`Doubt`] met.
pub fn check(parts: &Parts) -> Result<(), Doubt> {
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Doubt::Method);
    }
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(host.to_str().map_err(|_| Doubt::Host)?),
        (None, _) if parts.version == Version::HTTP_10 => None,
        _ => return Err(Doubt::Host),
    };
    if let Some(host) = host {
        let odd = |c: char| matches!(c, '@' | '/' | '\\' | '?' | '#' | ',') || c.is_whitespace();
        if host.contains(odd) || host.parse::<Authority>().is_err() {
            return Err(Doubt::Host);
        }
    }
    if let Some(authority) = parts.uri.authority()
        && !host.is_some_and(|host| host.eq_ignore_ascii_case(authority.as_str()))
    {
        return Err(Doubt::Host);
    }
    if parts
        .uri
        .scheme_str()
        .is_some_and(|scheme| scheme != "http" && scheme != "https")
    {
        return Err(Doubt::Target);
    }
    let path = parts.uri.path();
    let asterisk = path == "*" && parts.method == Method::OPTIONS;
    if !asterisk && !path.starts_with('/') {
        return Err(Doubt::Target);
    }
    framing(parts)
}

fn framing(parts: &Parts) -> Result<(), Doubt> {
    let lengths = parts.headers.get_all(header::CONTENT_LENGTH).iter().count();
    let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) if lengths <= 1 => Ok(()),
        (Some(coding), None)
            if lengths == 0
                && parts.version == Version::HTTP_11
                && coding.as_bytes().eq_ignore_ascii_case(b"chunked") =>
        {
            Ok(())
        }
        _ => Err(Doubt::Framing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<(), Doubt> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn whatever_could_be_read_in_two_ways_is_refused() {
        let host = ("host", "h.example:8080");
        for (method, uri, headers, expected) in [
            ("GET", "/", &[host][..], Ok(())),
            ("OPTIONS", "*", &[host], Ok(())),
            ("GET", "http://h.example:8080/a", &[host], Ok(())),
            ("GET", "http://H.Example:8080/a", &[host], Ok(())),
            (
                "POST",
                "/",
                &[host, ("transfer-encoding", "chunked")],
                Ok(()),
            ),
            ("POST", "/", &[host, ("content-length", "3")], Ok(())),
            ("GET", "/", &[], Err(Doubt::Host)),
            ("GET", "/", &[host, host], Err(Doubt::Host)),
            ("GET", "/", &[("host", "a b")], Err(Doubt::Host)),
            ("GET", "/", &[("host", "user@h")], Err(Doubt::Host)),
            ("GET", "/", &[("host", "h/x")], Err(Doubt::Host)),
            ("GET", "/", &[("host", "a,b")], Err(Doubt::Host)),
            ("GET", "/", &[("host", "")], Err(Doubt::Host)),
            ("GET", "http://other/a", &[host], Err(Doubt::Host)),
            ("GET", "ftp://h.example:8080/a", &[host], Err(Doubt::Target)),
            ("GET", "*", &[host], Err(Doubt::Target)),
            ("TRACE", "/", &[host], Err(Doubt::Method)),
            ("CONNECT", "h.example:8080", &[host], Err(Doubt::Method)),
            (
                "POST",
                "/",
                &[host, ("transfer-encoding", "gzip, chunked")],
                Err(Doubt::Framing),
            ),
            (
                "POST",
                "/",
                &[host, ("transfer-encoding", "identity")],
                Err(Doubt::Framing),
            ),
            (
                "POST",
                "/",
                &[
                    host,
                    ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "chunked"),
                ],
                Err(Doubt::Framing),
            ),
            (
                "POST",
                "/",
                &[
                    host,
                    ("transfer-encoding", "chunked"),
                    ("content-length", "3"),
                ],
                Err(Doubt::Framing),
            ),
            (
                "POST",
                "/",
                &[host, ("content-length", "3"), ("content-length", "4")],
                Err(Doubt::Framing),
            ),
        ] {
            assert_eq!(
                verdict(method, uri, headers),
                expected,
                "{method} {uri} {headers:?}"
            );
        }
    }
}
