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
//! use swarm_peer::{AddBundle, Node, NodeConfig, Source, Storage};
//! use swarm_proto::geometry::ByteRange;
//! use swarm_proto::magnet::Magnet;
//! use tokio::io::AsyncReadExt as _;
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn example(link: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let shutdown = CancellationToken::new();
//! let node = Node::start(NodeConfig::default(), shutdown.clone()).await?;
//! let storage = Storage::Folder { dir: "downloads".into() };
//! let mut bundle = AddBundle::new(Source::from(Magnet::parse(link)?), storage);
//! bundle.trackers.push("http://tracker.example/announce".into());
//! bundle.download = Some(20_000_000); // bits a second
//! let film = node.add(bundle).await?;
//!
//! // The first megabyte, as soon as it is here; the rest comes behind it.
//! film.metainfo().await?;
//! let mut reader = film.reader(ByteRange::new(0, 1_000_000))?;
//! let mut start = Vec::new();
//! reader.read_to_end(&mut start).await?;
//!
//! film.wait_complete().await?;
//! println!("{} bytes sent by now", film.stats().up_bytes);
//! shutdown.cancel();
//! node.join().await; // peers are left, trackers told, states saved
//! # Ok(())
//! # }
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
pub mod http;
mod link;
mod memory;
mod node;
mod peers;
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
pub mod webseed;

pub use announce::{AnnounceError, Scraped, Scraper, UdpError};
pub use connector::Trust;
pub use link::port::Transport;
pub use memory::MemoryReport;
pub use node::{AddBundle, Node, NodeConfig, NodeError, Source};
pub use reader::VerifiedReader;
pub use store::Storage;
pub use swarm::{Hurry, SwarmError, SwarmHandle, SwarmState, SwarmStats};
