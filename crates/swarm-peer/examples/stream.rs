//! How soon bytes can be read from the middle of a torrent that nothing is held of: the time to the
//! first of them at each place named, in parts of the whole, from the start of the process for the
//! first place and from the seek for those after it. 64 KiB are read at each.
//!
//!     stream a.torrent --out /tmp/a --tracker http://127.0.0.1:6969/announce 0.5 0.9 0.7

use std::net::SocketAddr;
use std::time::Instant;

use clap::Parser;
use swarm_peer::{
    AddBundle, ByteRange, Metainfo, Node, NodeConfig, Source, Storage, VerifiedReader, Want,
};
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;

const READ_LEN: u64 = 64 * 1024;

#[derive(Parser)]
struct Args {
    torrent: std::path::PathBuf,
    #[arg(default_value = "0.5")]
    places: Vec<f64>,
    #[arg(long)]
    tracker: Vec<String>,
    #[arg(long)]
    peer: Vec<SocketAddr>,
    /// Where to speak BitTorrent.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where to keep what comes.
    #[arg(long)]
    out: std::path::PathBuf,
    /// Fetch the rest as well.
    #[arg(long)]
    all: bool,
    /// What is at these places, to compare.
    #[arg(long)]
    same_as: Option<std::path::PathBuf>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let began = Instant::now();
    let args = Args::parse();
    let shutdown = CancellationToken::new();
    let config = NodeConfig {
        listen: args.listen,
        ..NodeConfig::default()
    };
    let node = Node::start(config, shutdown.clone()).await?;
    let meta = Metainfo::parse(&std::fs::read(&args.torrent)?)?;
    let total = meta.geometry().total_length();
    let mut bundle = AddBundle::new(Source::from(meta), Storage::Folder { dir: args.out });
    bundle.trackers = args.tracker;
    bundle.peers = args.peer;
    if !args.all {
        bundle.want = Want::None;
    }
    let handle = node.add(bundle).await?;
    handle.metainfo().await?;
    let mut from = began;
    for place in args.places {
        let start = ((total as f64 * place) as u64).min(total.saturating_sub(READ_LEN));
        let range = ByteRange::new(start, (start + READ_LEN).min(total));
        let reader = handle.reader(range)?;
        let first = first_bytes(reader, range, args.same_as.as_deref()).await?;
        println!("{place} {:.3}", (first - from).as_secs_f64());
        from = Instant::now();
    }
    shutdown.cancel();
    node.join().await;
    Ok(())
}

/// When the first bytes of the range came; all of it is held against a file, if there is one.
async fn first_bytes(
    mut reader: VerifiedReader,
    range: ByteRange,
    same_as: Option<&std::path::Path>,
) -> Result<Instant, Box<dyn std::error::Error>> {
    let (start, len) = (range.start, range.end - range.start);
    let mut part = vec![0; 16 * 1024];
    let came = reader.read(&mut part).await?;
    let first = Instant::now();
    part.truncate(came);
    reader.read_to_end(&mut part).await?;
    if part.len() as u64 != len {
        return Err(format!("{} bytes of {len} at {start}", part.len()).into());
    }
    if let Some(path) = same_as {
        use std::os::unix::fs::FileExt as _;
        let mut there = vec![0; part.len()];
        std::fs::File::open(path)?.read_exact_at(&mut there, start)?;
        if there != part {
            return Err(format!("other bytes at {start}").into());
        }
    }
    Ok(first)
}
