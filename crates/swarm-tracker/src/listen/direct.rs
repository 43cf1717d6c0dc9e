//! Connections on which peers announce, and nothing else: each request is answered as soon as its
//! head is there, with one system call for what came and one for what goes back. Most connections
//! are for one announce: they begin and end without ever being waited for.
//!
//! The first request for anything else goes to hyper, with the connection.

use std::future::{Future as _, poll_fn};
use std::io;
use std::net::{IpAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::pin::{Pin, pin};
use std::task::Poll;

use nix::sys::socket::{MsgFlags, recv, send};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};

use super::head::{Frame, Head, write_reply};
use super::{HEAD_LEN_MAX, http};
use crate::app::App;

/// Bytes of replies that are kept until they are sent; what is asked beyond is answered after that.
const REPLIES_LEN_MAX: usize = 32 * 1024;

/// Bytes that are read at a time: a head with all that clients send, and some more.
const READ_LEN: usize = 2048;

/// What has been heard on one connection and is to be said there.
#[derive(Debug, Default)]
pub(super) struct Talk {
    /// Read, not answered.
    heard: Vec<u8>,
    /// Bytes of it that hold no end of a head.
    looked: usize,
    /// To be sent.
    replies: Vec<u8>,
    then: Then,
}

/// How it goes on once all replies are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Then {
    /// More has to come.
    #[default]
    Read,
    /// More has come already.
    Answer,
    /// It is over.
    Close,
    /// Hyper answers what has been heard.
    Other,
}

/// What became of a connection.
#[derive(Debug)]
pub(super) enum End {
    /// It is over.
    Closed,
    /// What was read last is for others.
    Other(Vec<u8>),
}

impl Talk {
    /// Of a connection all of whose requests are hyper's.
    pub(super) fn of_others() -> Self {
        Self {
            then: Then::Other,
            ..Self::default()
        }
    }

    /// Answers what has been heard.
    fn answer(&mut self, app: &App, source: IpAddr) {
        let mut at = 0;
        self.then = loop {
            let rest = self.heard.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break Then::Read;
            }
            if self.replies.len() > REPLIES_LEN_MAX {
                break Then::Answer;
            }
            match Head::read(rest, self.looked) {
                Head::Partial if rest.len() >= HEAD_LEN_MAX => break Then::Other,
                Head::Partial => {
                    self.looked = rest.len();
                    break Then::Read;
                }
                Head::Other => break Then::Other,
                Head::Query(query) => {
                    let (status, body) = match query.scrape {
                        false => http::announce(app, source, query.host, query.query),
                        true => http::scrape(app, source, query.query),
                    };
                    let frame = Frame {
                        keep: query.frame.keep && !app.shutdown.is_cancelled(),
                        ..query.frame
                    };
                    let unix = app.now().unix;
                    write_reply(&mut self.replies, frame, status, unix, &body);
                    at += query.len;
                    self.looked = 0;
                    if !frame.keep {
                        break Then::Close;
                    }
                }
            }
        };
        self.heard.drain(..at);
    }

    /// Answers what a new connection has brought along. `true`: that was all.
    pub(super) fn begin(&mut self, stream: &TcpStream, app: &App, source: IpAddr) -> bool {
        let fd = stream.as_raw_fd();
        self.heard.clear();
        self.heard.resize(READ_LEN, 0);
        let came = match recv(fd, &mut self.heard, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return true,
            Ok(came) => came,
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => 0,
            Err(_) => return true,
        };
        self.heard.truncate(came);
        (self.looked, self.then) = (0, Then::Read);
        self.replies.clear();
        self.answer(app, source);
        if self.replies.is_empty() {
            return false;
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(fd, &self.replies, flags) {
            Ok(sent) => {
                self.replies.drain(..sent);
            }
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
            Err(_) => return true,
        }
        self.replies.is_empty() && self.then == Then::Close
    }

    /// Goes on until the client has asked its last, or asks for something else.
    ///
    /// # Errors
    /// The connection's; or it has idled, or taken nothing in, for too long.
    pub(super) async fn go_on(
        mut self,
        stream: &mut tokio::net::TcpStream,
        app: &App,
        source: IpAddr,
    ) -> io::Result<End> {
        let mut stop = pin!(app.shutdown.cancelled());
        let mut due = Instant::now() + app.connections.head_timeout;
        let mut idle = pin!(sleep_until(due));
        let mut buf = [0; READ_LEN];
        loop {
            if !self.replies.is_empty() {
                self.send(stream, app).await?;
                due = Instant::now() + app.connections.head_timeout;
            }
            match self.then {
                Then::Read => {}
                Then::Answer => {
                    self.answer(app, source);
                    continue;
                }
                Then::Close => return Ok(End::Closed),
                Then::Other => return Ok(End::Other(self.heard)),
            }
            let mut came = ReadBuf::new(&mut buf);
            poll_fn(|cx| {
                if let Poll::Ready(read) = Pin::new(&mut *stream).poll_read(cx, &mut came) {
                    return Poll::Ready(read);
                }
                while idle.as_mut().poll(cx).is_ready() {
                    // Set back only when it has come: most requests come before.
                    if due <= Instant::now() {
                        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                    }
                    idle.as_mut().reset(due);
                }
                if self.heard.is_empty() && stop.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending
            })
            .await?;
            if came.filled().is_empty() {
                // All that was whole has been answered.
                return Ok(End::Closed);
            }
            self.heard.extend_from_slice(came.filled());
            self.answer(app, source);
        }
    }

    async fn send(&mut self, stream: &mut tokio::net::TcpStream, app: &App) -> io::Result<()> {
        match stream.try_write(&self.replies) {
            Ok(sent) => {
                self.replies.drain(..sent);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        while !self.replies.is_empty() {
            let sending = stream.write(&self.replies);
            let sent = timeout(app.connections.write_timeout, sending).await??;
            self.replies.drain(..sent);
        }
        Ok(())
    }
}
