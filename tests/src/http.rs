//! A visitor who asks for exactly one thing: one request over one connection, answer as it came.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What a server answered.
#[derive(Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Header fields, names in lower case; of repeated ones the last.
    pub headers: BTreeMap<String, String>,
    /// The body, with any chunked coding undone.
    pub body: Vec<u8>,
}

impl Reply {
    /// One header field, or "".
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// GET of `target` with this Host from `addr`.
pub fn get(addr: SocketAddr, host: &str, target: &str) -> Reply {
    send(addr, "GET", host, target, &[])
}

/// Any method with extra header fields.
pub fn send(
    addr: SocketAddr,
    method: &str,
    host: &str,
    target: &str,
    fields: &[(&str, &str)],
) -> Reply {
    try_send(addr, method, host, target, fields)
        .unwrap_or_else(|error| panic!("{method} http://{addr}{target} (Host: {host}): {error}"))
}

/// As [`send`], for servers that may be gone or break off.
///
/// # Errors
/// The connection fails, ends early, or what comes is no HTTP answer.
pub fn try_send(
    addr: SocketAddr,
    method: &str,
    host: &str,
    target: &str,
    fields: &[(&str, &str)],
) -> std::io::Result<Reply> {
    let mut request =
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in fields {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let bytes = raw(addr, request.as_bytes())?;
    parse(&bytes, method == "HEAD")
}

/// Sends these bytes and reads until the server closes.
///
/// # Errors
/// The connection fails or stays open for more than 30 s.
pub fn raw(addr: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(bytes: &[u8], head_only: bool) -> std::io::Result<Reply> {
    let bad = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or_else(|| bad("no end of header"))?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| bad("header is no UTF-8"))?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| bad("no status"))?;
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = &bytes[end + 4..];
    let chunked = headers
        .get("transfer-encoding")
        .is_some_and(|coding| coding == "chunked");
    let body = if head_only {
        Vec::new()
    } else if chunked {
        unchunk(rest).ok_or_else(|| bad("chunked body breaks off"))?
    } else if let Some(length) = headers.get("content-length") {
        let length: usize = length.parse().map_err(|_| bad("bad Content-Length"))?;
        rest.get(..length)
            .ok_or_else(|| bad("body breaks off"))?
            .to_vec()
    } else {
        rest.to_vec()
    };
    Ok(Reply {
        status,
        headers,
        body,
    })
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let digits = std::str::from_utf8(&rest[..line]).ok()?;
        let length = usize::from_str_radix(digits.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[line + 2..];
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}
