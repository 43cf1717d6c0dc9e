//! One connection: bytes, time and commands for one [`PeerSession`].
//!
//! Reading and writing share one `select!`, for a driver that only writes while the other side
//! only writes hangs for ever. The swarm task never waits for a link; a link waits for the swarm
//! task, and stops reading meanwhile.

pub(crate) mod accept;
pub(crate) mod dial;
mod input;
pub(crate) mod port;
mod serve;
mod stream;
pub(crate) mod tcp;
pub(crate) mod utp;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, Bytes};
use swarm_proto::geometry::{BlockRange, PieceIndex};
use swarm_proto::session::{CloseReason, Command, ConnectionId, PeerSession, SessionEvent};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::memory::LinkMemory;
use crate::store::PieceStore;
use crate::uplink::Uplink;
use input::Room;
use serve::{Served, Serving, Wanted, read_blocks, read_blocks_at_once};
pub(crate) use stream::Stream;

/// Commands that may wait for one link. A link takes them at once unless its task starves, so a
/// full queue means something is badly stuck and the connection is given up.
pub(crate) const COMMANDS_MAX: usize = 8192;

/// Bytes taken from the session ahead of the socket. What is taken can no longer be cancelled or
/// overtaken, so a throttled uplink gets less, from the moment on at which it is throttled.
const AHEAD_UNLIMITED: usize = 256 * 1024;
const AHEAD_THROTTLED: usize = 20 * 1024;

/// Slices handed to one write.
const SLICES_MAX: usize = 64;

/// What the swarm task tells a link.
pub(crate) enum LinkCommand {
    /// For the session.
    Session(Command),
    /// Read this block and send it.
    Serve(BlockRange, Arc<dyn PieceStore>),
}

/// What a link tells the swarm task.
pub(crate) struct LinkEvents {
    pub(crate) conn: ConnectionId,
    pub(crate) events: Vec<SessionEvent>,
    /// Pieces that were to be sent and that the store could not give.
    pub(crate) unread: Vec<PieceIndex>,
}

/// The two ends that join a link to its swarm task.
pub(crate) struct Mailboxes {
    pub(crate) conn: ConnectionId,
    pub(crate) commands: mpsc::Receiver<LinkCommand>,
    pub(crate) events: mpsc::Sender<LinkEvents>,
    /// What the buffers of all links have together.
    pub(crate) memory: Arc<LinkMemory>,
    /// Cancelled when the node has given its place to somebody else.
    pub(crate) lost: CancellationToken,
    /// What is sent goes by these, and may be limited at any time.
    pub(crate) uplinks: [Uplink; 2],
}

impl Mailboxes {
    /// Bytes to take from the session ahead of the socket.
    fn ahead(&self) -> usize {
        match self.uplinks.iter().any(|uplink| uplink.rate().is_some()) {
            true => AHEAD_THROTTLED,
            false => AHEAD_UNLIMITED,
        }
    }
}

type ReadJob = JoinHandle<Served>;

/// Drives the session until it is closed. The last event sent is `Closed`.
pub(crate) async fn drive<R, W>(
    mut session: PeerSession,
    mut reader: R,
    mut writer: W,
    mut mail: Mailboxes,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut output = Output::default();
    let mut batch: Vec<SessionEvent> = Vec::new();
    let mut unread = Vec::new();
    let mut wanted: VecDeque<Wanted> = VecDeque::new();
    let mut reading: Option<ReadJob> = None;
    let serving = Serving::new(Arc::clone(&mail.memory));
    let mut room = Room::new(Arc::clone(&mail.memory));
    let sleep = tokio::time::sleep(std::time::Duration::from_secs(60));
    tokio::pin!(sleep);
    let lost = mail.lost.clone().cancelled_owned();
    tokio::pin!(lost);
    loop {
        if reading.is_none()
            && let Some((jobs, lease)) = serving.take(&mut wanted)
        {
            match read_blocks_at_once(&jobs, lease.clone()) {
                Some(done) => answer(&mut session, done, &mut unread),
                None => {
                    let read = move || read_blocks(&jobs, lease);
                    reading = Some(tokio::task::spawn_blocking(read));
                }
            }
        }
        while output.len < mail.ahead()
            && let Some(bytes) = session.poll_transmit_bytes()
        {
            output.push(bytes);
        }
        while let Some(event) = session.poll_event() {
            if let SessionEvent::Cancelled(range) = &event {
                wanted.retain(|(queued, _)| queued != range);
            }
            batch.push(event);
        }
        if !(batch.is_empty() && unread.is_empty())
            && let Ok(permit) = mail.events.try_reserve()
        {
            permit.send(LinkEvents {
                conn: mail.conn,
                events: std::mem::take(&mut batch),
                unread: std::mem::take(&mut unread),
            });
        }
        if session.is_closed().is_some() {
            if !batch.is_empty() {
                let conn = mail.conn;
                let heard = LinkEvents {
                    conn,
                    events: batch,
                    unread,
                };
                let _ = mail.events.send(heard).await;
            }
            return;
        }
        if let Some(at) = session.poll_timeout() {
            sleep.as_mut().reset(at.into());
        }
        room.make(session.input());
        tokio::select! {
            permit = mail.events.reserve(), if !(batch.is_empty() && unread.is_empty()) => {
                let Ok(permit) = permit else { return };
                permit.send(LinkEvents {
                    conn: mail.conn,
                    events: std::mem::take(&mut batch),
                    unread: std::mem::take(&mut unread),
                });
            }
            read = reader.read_buf(session.input()), if batch.is_empty() => match read {
                Ok(0) => session.handle_eof(Instant::now()),
                Ok(len) => {
                    room.filled(len);
                    session.handle_input(Instant::now());
                }
                Err(error) => close(&mut session, &error),
            },
            written = output.write(&mut writer), if output.len > 0 => match written {
                Ok(0) => close(&mut session, &io::ErrorKind::WriteZero.into()),
                Ok(len) => output.advance(len),
                Err(error) => close(&mut session, &error),
            },
            command = mail.commands.recv() => match command {
                Some(LinkCommand::Session(command)) => {
                    session.handle_command(Instant::now(), command);
                }
                Some(LinkCommand::Serve(range, store)) => wanted.push_back((range, store)),
                None => session.handle_command(
                    Instant::now(),
                    Command::Close(CloseReason::Shutdown),
                ),
            },
            done = finished(&mut reading) => {
                reading = None;
                answer(&mut session, done, &mut unread);
            }
            () = &mut sleep => session.handle_timeout(Instant::now()),
            () = &mut lost => session.handle_command(
                Instant::now(),
                Command::Close(CloseReason::TooManyPeers),
            ),
        }
        // Commands come in bursts; taking what is there saves turns of the loop.
        while let Ok(command) = mail.commands.try_recv() {
            match command {
                LinkCommand::Session(command) => session.handle_command(Instant::now(), command),
                LinkCommand::Serve(range, store) => wanted.push_back((range, store)),
            }
        }
    }
}

fn close(session: &mut PeerSession, error: &io::Error) {
    let reason = CloseReason::Io(error.kind());
    session.handle_command(Instant::now(), Command::Close(reason));
}

/// Gives the session what was read for its peer.
fn answer(session: &mut PeerSession, done: Served, unread: &mut Vec<PieceIndex>) {
    unread.extend(done.unread);
    for (range, bytes) in done.blocks {
        let answer = match bytes {
            Some(bytes) => Command::SendBlock(range, bytes),
            None => Command::RejectRequest(range),
        };
        session.handle_command(Instant::now(), answer);
    }
}

/// The blocks of a finished read job; waits for ever if there is none.
async fn finished(job: &mut Option<ReadJob>) -> Served {
    match job {
        // A panic in the store leaves its blocks unanswered; the peer's time-out deals with that.
        Some(job) => job.await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

/// Bytes on their way to the socket, as the session gave them.
#[derive(Default)]
struct Output {
    queue: VecDeque<Bytes>,
    len: usize,
}

impl Output {
    fn push(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        self.queue.push_back(bytes);
    }

    async fn write<W: AsyncWrite + Unpin>(&self, writer: &mut W) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut used = 0;
        for (slice, bytes) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(bytes);
            used += 1;
        }
        writer
            .write_vectored(slices.get(..used).unwrap_or_default())
            .await
    }

    fn advance(&mut self, mut written: usize) {
        self.len = self.len.saturating_sub(written);
        while written > 0 {
            let Some(first) = self.queue.front_mut() else {
                return;
            };
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.queue.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
