//! `seed`: serve what is there, and right.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use swarm_peer::config::PeerConfig;
use swarm_peer::publish;
use swarm_peer::{AddBundle, Source, Storage, SwarmHandle};
use swarm_proto::metainfo::Metainfo;

use super::fetch::{add_trackers, read_torrent};
use super::output::{Sum, rate};
use super::{EXIT_INTEGRITY, EXIT_NOT_FOUND, Failure, NodeArgs, Output, Running, runtime};

/// Flags of `seed`.
#[derive(Debug, Args)]
pub(super) struct SeedArgs {
    /// A folder that `publish` made, or a torrent (then with --data).
    what: PathBuf,
    /// The directory that holds the torrent's top-level name.
    #[arg(long, value_name = "DIR", env = "SWARM_PEER_DATA")]
    data: Option<PathBuf>,
    #[command(flatten)]
    pub(super) node: NodeArgs,
}

pub(super) fn seed(config: PeerConfig, args: SeedArgs) -> Result<(), Failure> {
    let output = Output::new(args.node.json);
    let bundles = bundles(&config, &args)?;
    let runtime = runtime()?;
    let result = runtime.block_on(serve(&config, &output, bundles));
    runtime.shutdown_background();
    result
}

/// What is to be served, and from where.
fn bundles(config: &PeerConfig, args: &SeedArgs) -> Result<Vec<AddBundle>, Failure> {
    let missing = || Failure::text(EXIT_NOT_FOUND, format!("no {}", args.what.display()));
    if !args.what.exists() {
        return Err(missing());
    }
    let mut bundles = Vec::new();
    if args.what.is_dir() {
        let published = publish::load(&args.what).map_err(anyhow::Error::from)?;
        for (bundle, entry) in published
            .bundles
            .into_iter()
            .zip(&published.manifest.bundles)
        {
            let storage = Storage::Files {
                paths: bundle.files,
            };
            let mut add = AddBundle::new(Source::from(bundle.metainfo), storage);
            // The folder is the operator's own, and so are the trackers in it.
            add.trackers.clone_from(&entry.trackers);
            bundles.push(add);
        }
    } else {
        let data = args.data.clone().ok_or_else(|| {
            Failure::text(
                2,
                "a torrent is seeded with --data DIR, where its files are",
            )
        })?;
        let meta: Metainfo = read_torrent(&args.what)?;
        let storage = Storage::Folder { dir: data };
        bundles.push(AddBundle::new(Source::Metainfo(Arc::new(meta)), storage));
    }
    for bundle in &mut bundles {
        bundle.seed_only = true;
        bundle.peers.clone_from(&args.node.peer);
        add_trackers(bundle, config);
    }
    Ok(bundles)
}

async fn serve(
    config: &PeerConfig,
    output: &Output,
    bundles: Vec<AddBundle>,
) -> Result<(), Failure> {
    let running = Running::start(config, output).await?;
    let mut handles: Vec<SwarmHandle> = Vec::new();
    for bundle in bundles {
        handles.push(running.node.add(bundle).await?);
    }
    let mut progress = output.progress("checking");
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(500));
    let sum = loop {
        tokio::select! {
            () = running.shutdown.cancelled() => {
                running.stop().await;
                return Ok(());
            }
            _ = tick.tick() => {}
        }
        let all: Vec<_> = handles.iter().map(SwarmHandle::stats).collect();
        let sum = Sum::of(&all);
        progress.show(&sum);
        if !sum.checking {
            break sum;
        }
    };
    progress.finish();
    for handle in &handles {
        if let Err(error) = handle.wait_checked().await {
            running.stop().await;
            return Err(anyhow::Error::from(error).into());
        }
    }
    if sum.pieces > 0 && sum.have == 0 {
        running.stop().await;
        return Err(Failure::text(
            EXIT_INTEGRITY,
            "none of the data is there and right: nothing to serve",
        ));
    }
    let absent = sum.pieces - sum.have;
    if absent > 0 {
        tracing::warn!(
            absent,
            pieces = sum.pieces,
            "some pieces are missing or wrong, and not served"
        );
    }
    output.event(
        "seeding",
        json!({ "bundles": handles.len(), "have": sum.have, "pieces": sum.pieces }),
    );
    output.say(&format!(
        "seeding {} bundles, {} of {} pieces",
        handles.len(),
        sum.have,
        sum.pieces
    ));
    serve_on(&running, output, &handles).await;
    running.stop().await;
    Ok(())
}

/// Serves until a signal, and says from time to time what goes out.
pub(super) async fn serve_on(running: &Running, output: &Output, handles: &[SwarmHandle]) {
    let mut tick = tokio::time::interval(std::time::Duration::from_secs(10));
    let mut before = None;
    loop {
        tokio::select! {
            () = running.shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let all: Vec<_> = handles.iter().map(SwarmHandle::stats).collect();
        let sum = Sum::of(&all);
        let now = (sum.peers, sum.up_bytes);
        if before.replace(now).is_some_and(|before| before != now) {
            output.event(
                "serving",
                json!({
                    "peers": sum.peers,
                    "up_bytes": sum.up_bytes,
                    "up_rate": sum.up_rate.round(),
                }),
            );
            output.say(&format!(
                "{} peers, {} bytes sent, {}",
                sum.peers,
                sum.up_bytes,
                rate(sum.up_rate)
            ));
        }
    }
}
