use std::time::Duration;

use bytes::BytesMut;
use swarm_proto::bitfield::Bitfield;
use swarm_proto::geometry::{BLOCK_LEN, Geometry};
use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::session::SessionConfig;
use swarm_proto::wire::{Handshake, Message, RawRequest, ReservedBits};
use tokio::io::DuplexStream;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::memory::Memory;

const PIECE_LEN: u32 = 16 * BLOCK_LEN;
const BLOCKS: u32 = 64;

/// A peer that reads nothing until it is told to, and the link that serves it.
struct Peer {
    stream: DuplexStream,
    commands: mpsc::Sender<LinkCommand>,
    events: mpsc::Receiver<LinkEvents>,
    uplinks: [Uplink; 2],
}

fn geometry() -> Geometry {
    Geometry::new(PIECE_LEN, u64::from(BLOCKS * BLOCK_LEN)).unwrap()
}

impl Peer {
    /// Says who it is and what it wants, and may ask.
    async fn meet(rate: Option<u64>) -> Self {
        let (mut stream, ours) = tokio::io::duplex(4096);
        let (reader, writer) = tokio::io::split(ours);
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let (sender, events) = mpsc::channel(1000);
        let uplinks = [Uplink::limited(rate), Uplink::unlimited()];
        let mail = Mailboxes {
            conn: ConnectionId(1),
            commands: receiver,
            events: sender,
            memory: Arc::clone(Memory::new(1 << 24).links()),
            lost: CancellationToken::new(),
            uplinks: uplinks.clone(),
        };
        let id = SwarmId::new([7; 20]);
        let config = SessionConfig::new(PeerId::new([1; 20]), vec![id], false);
        let session = PeerSession::new(config, Instant::now());
        tokio::spawn(drive(session, reader, writer, mail));
        let handshake = Handshake {
            reserved: ReservedBits::OURS,
            swarm_id: id,
            peer_id: PeerId::new([2; 20]),
        };
        stream.write_all(&handshake.encode()).await.unwrap();
        let mut peer = Self {
            stream,
            commands,
            events,
            uplinks,
        };
        for command in [
            Command::SetGeometry(geometry()),
            Command::Bitfield(Bitfield::all(geometry().piece_count())),
            Command::Choke(false),
        ] {
            peer.tell(command).await;
        }
        peer.say(&[Message::Interested]).await;
        peer
    }

    async fn tell(&mut self, command: Command) {
        let told = self.commands.send(LinkCommand::Session(command)).await;
        told.ok().unwrap();
        settle().await;
    }

    async fn say(&mut self, messages: &[Message]) {
        let mut bytes = BytesMut::new();
        for message in messages {
            message.encode(&mut bytes);
        }
        self.stream.write_all(&bytes).await.unwrap();
        settle().await;
    }

    /// Asks for everything, and takes it back when all of it is there to be sent; how many blocks
    /// come all the same.
    async fn taken_ahead(&mut self) -> usize {
        let block = |n: u32| RawRequest {
            index: n * BLOCK_LEN / PIECE_LEN,
            begin: n * BLOCK_LEN % PIECE_LEN,
            len: BLOCK_LEN,
        };
        let all =
            |of: fn(RawRequest) -> Message| (0..BLOCKS).map(block).map(of).collect::<Vec<_>>();
        self.say(&all(Message::Request)).await;
        for _ in 0..BLOCKS {
            while let Ok(heard) = self.events.try_recv() {
                for event in heard.events {
                    if let SessionEvent::Requested(range) = event {
                        let bytes = Bytes::from(vec![0; BLOCK_LEN as usize]);
                        self.tell(Command::SendBlock(range, bytes)).await;
                    }
                }
            }
            settle().await;
        }
        self.say(&all(Message::Cancel)).await;
        let mut bytes = vec![0; 68];
        self.stream.read_exact(&mut bytes).await.unwrap();
        let mut blocks = 0;
        while let Ok(len) = self.read_u32().await {
            bytes.resize(len as usize, 0);
            self.stream.read_exact(&mut bytes).await.unwrap();
            let message = Message::decode(Bytes::copy_from_slice(&bytes)).unwrap();
            blocks += usize::from(matches!(message, Message::Piece(_)));
        }
        blocks
    }

    /// The next length; an error if nothing comes.
    async fn read_u32(&mut self) -> Result<u32, tokio::time::error::Elapsed> {
        let next = self.stream.read_u32();
        let next = tokio::time::timeout(Duration::from_millis(500), next).await?;
        Ok(next.unwrap())
    }
}

/// Lets the link do what it can.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_limit_set_on_a_running_link_leaves_little_that_cannot_be_taken_back() {
    let limit = Some(8_000_000);
    let mut limited = Peer::meet(None).await;
    limited.uplinks[0].set_rate(limit);
    let mut narrowed = Peer::meet(None).await;
    narrowed.uplinks[1].set_rate(limit);
    let mut lifted = Peer::meet(limit).await;
    lifted.uplinks[0].set_rate(None);
    assert!(limited.taken_ahead().await <= 2);
    assert!(narrowed.taken_ahead().await <= 2);
    assert!(lifted.taken_ahead().await >= 15);
}
