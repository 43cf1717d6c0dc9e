//! The BitTorrent engine of Spikeswarm: publish, seed, fetch, volunteer.
//!
//! Decisions are made in `swarm-proto`; here are the sockets, files and clocks they need.
//!
//! A [`Node`] is one listening port and all the bundles behind it. [`Node::add`] takes a bundle, by
//! torrent or magnet link, and gives a [`SwarmHandle`], which tells how it goes and changes what is
//! fetched. A [`VerifiedReader`] streams bytes out while they come; only bytes that were checked
//! against the torrent's hashes leave it.
//!
//! ```no_run
//! use swarm_peer::{AddBundle, ByteRange, Magnet, Node, NodeConfig, Source, Storage};
//! use tokio::io::AsyncReadExt as _;
//! use tokio_util::sync::CancellationToken;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let shutdown = CancellationToken::new();
//!     let node = Node::start(NodeConfig::default(), shutdown.clone()).await?;
//!     let link = Magnet::parse("magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567")?;
//!     let storage = Storage::Folder { dir: "downloads".into() };
//!     let mut bundle = AddBundle::new(Source::from(link), storage);
//!     bundle.trackers.push("http://tracker.example/announce".into());
//!     bundle.download = Some(20_000_000); // bits a second
//!     let bundle = node.add(bundle).await?;
//!
//!     // The largest file, from its first byte on, as it comes in; the rest comes behind it.
//!     let meta = bundle.metainfo().await?;
//!     let files = meta.files().iter().enumerate().filter(|(_, file)| !file.pad);
//!     let (index, film) = files.max_by_key(|(_, file)| file.length).ok_or("no files")?;
//!     let mut reader = bundle.file_reader(index, ByteRange::new(0, film.length))?;
//!     let mut part = vec![0; 65_536];
//!     loop {
//!         let len = reader.read(&mut part).await?;
//!         if len == 0 {
//!             break;
//!         }
//!         // part[..len] is what the torrent says it is: show it.
//!     }
//!
//!     bundle.wait_complete().await?;
//!     println!("{} bytes sent by now", bundle.stats().up_bytes);
//!     shutdown.cancel();
//!     node.join().await; // peers are left, trackers told, states saved
//!     Ok(())
//! }
//! ```
//!
//! Limits are [`uplink::Uplink`] and [`uplink::Downlink`], which may be shared with what else a
//! program sends and receives; [`control`] is how other programs ask a running node, and
//! [`publish`] makes bundles of a folder.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod announce;
pub mod config;
pub mod connector;
pub mod control;
mod descriptors;
pub mod discovery;
pub mod dns;
pub mod http;
mod link;
mod memory;
mod node;
mod peers;
pub mod pick;
mod places;
pub mod publish;
mod reader;
mod readers;
pub mod report;
pub mod store;
mod swarm;
mod swarm_task;
pub mod trust;
pub mod uplink;
mod webseed;

pub use announce::{AnnounceError, Scraped, Scraper, UdpError};
pub use connector::Trust;
pub use link::port::Transport;
pub use memory::MemoryReport;
pub use node::{AddBundle, Node, NodeConfig, NodeError, Source};
pub use reader::VerifiedReader;
pub use store::Storage;
pub use swarm::{Hurry, SwarmError, SwarmHandle, SwarmState, SwarmStats};
pub use webseed::named_by_torrent;

pub use swarm_proto::download::Want;
pub use swarm_proto::geometry::ByteRange;
pub use swarm_proto::id::SwarmId;
pub use swarm_proto::magnet::Magnet;
pub use swarm_proto::metainfo::Metainfo;
