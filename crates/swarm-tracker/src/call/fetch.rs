//! One GET to an address, with a cap on every byte and one deadline for all of it (T6).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use swarm_proto::id::Digest;
use tokio::net::{TcpSocket, TcpStream};

/// Bytes of the head of an answer.
const HEAD_LEN_MAX: usize = 16 * 1024;
/// Header fields of an answer.
const HEADERS_MAX: usize = 64;

/// What is asked, of whom.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) addr: SocketAddr,
    /// Which of our addresses asks.
    pub(super) from: Option<IpAddr>,
    pub(super) host: String,
    pub(super) target: String,
    /// After `Host`.
    pub(super) headers: HeaderMap,
    /// Most bytes of body that are read.
    pub(super) len_max: u64,
}

/// An answer as far as it was read.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Whether the body came to its end, within the cap.
    pub(super) is_whole: bool,
    /// SHA-256 of what was read of the body.
    pub(super) digest: Digest,
    /// The body, where it was to be kept.
    pub(super) kept: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// Nobody listens, or no way leads there.
    Refused,
    /// Not all of a head in time.
    TimedOut,
    /// No HTTP, too much of it, or broken off.
    Broken,
}

/// What came of a fetch.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) result: Result<Got, Failed>,
    /// Bytes of body that were read.
    pub(super) read: u64,
}

impl Fetch {
    /// Asks, and reads until the end, the cap or the deadline. Keeps the body if `keep`.
    pub(super) async fn run(self, deadline: Duration, keep: bool) -> Fetched {
        let mut read = 0;
        let mut got = None;
        let all = self.exchange(keep, &mut got, &mut read);
        let failed = match tokio::time::timeout(deadline, all).await {
            Ok(Ok(())) => None,
            Ok(Err(failed)) => Some(failed),
            Err(_) => Some(Failed::TimedOut),
        };
        let result = match (got, failed) {
            // With a head, what is missing of the body is for the caller to judge.
            (Some(got), _) => Ok(got),
            (None, failed) => Err(failed.unwrap_or(Failed::Broken)),
        };
        Fetched { result, read }
    }

    async fn exchange(
        self,
        keep: bool,
        got: &mut Option<Got>,
        read: &mut u64,
    ) -> Result<(), Failed> {
        let stream = self.connect().await.map_err(|_| Failed::Refused)?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_LEN_MAX)
            .max_headers(HEADERS_MAX)
            .title_case_headers(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Failed::Broken)?;
        let len_max = self.len_max;
        let request = self.request().ok_or(Failed::Broken)?;
        let mut answer = std::pin::pin!(async move {
            let response = sender.send_request(request).await;
            let response = response.map_err(|_| Failed::Broken)?;
            take(response, len_max, keep, got, read).await;
            Ok::<(), Failed>(())
        });
        tokio::select! {
            biased;
            done = &mut answer => done,
            // What came before the end may be waiting still.
            _ = connection => answer.await,
        }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let socket = match self.addr {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(from) = self.from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let stream = socket.connect(self.addr).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn request(self) -> Option<Request<Empty<Bytes>>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.target.parse().ok()?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::try_from(self.host).ok()?);
        headers.extend(self.headers);
        Some(request)
    }
}

/// Reads the body; `got` is as far as it was read even if this is dropped on the way.
async fn take(
    response: Response<Incoming>,
    len_max: u64,
    keep: bool,
    got: &mut Option<Got>,
    read: &mut u64,
) {
    let (parts, mut body) = response.into_parts();
    let got = got.insert(Got {
        status: parts.status,
        headers: parts.headers,
        is_whole: false,
        digest: Digest::of(b""),
        kept: Vec::new(),
    });
    let mut hasher = Sha256::new();
    loop {
        let data = match body.frame().await {
            None => break,
            Some(Err(_)) => return,
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        *read = read.saturating_add(data.len() as u64);
        if *read > len_max {
            return;
        }
        hasher.update(&data);
        if keep {
            got.kept.extend_from_slice(&data);
        }
    }
    got.is_whole = true;
    got.digest = Digest::new(hasher.finalize().into());
}
