//! `seed`: serve what is there, and right.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use swarm_peer::config::PeerConfig;
use swarm_peer::publish;
use swarm_peer::{AddBundle, Source, Storage};
use swarm_proto::metainfo::Metainfo;

use super::fetch::{add_trackers, read_torrent};
use super::progress::{Job, Progress};
use super::until::{self, Until};
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
    until: Until,
    #[command(flatten)]
    pub(super) node: NodeArgs,
}

pub(super) fn seed(config: PeerConfig, args: SeedArgs) -> Result<(), Failure> {
    let output = Output::new(args.node.json);
    let bundles = bundles(&config, &args)?;
    let runtime = runtime()?;
    let result = runtime.block_on(serve(&config, &output, bundles, &args.until));
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
    until: &Until,
) -> Result<(), Failure> {
    let running = Running::start(config, output).await?;
    let mut jobs: Vec<Job> = Vec::new();
    for bundle in bundles {
        jobs.push(running.node.add(bundle).await?.into());
    }
    let mut progress = Progress::new(output, "seeding");
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(500));
    let sum = loop {
        tokio::select! {
            () = running.shutdown.cancelled() => {
                running.stop().await;
                return Ok(());
            }
            _ = tick.tick() => {}
        }
        let sum = progress.show(&jobs);
        if !sum.checking {
            break sum;
        }
    };
    progress.finish();
    for job in &jobs {
        if let Err(error) = job.handle.wait_checked().await {
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
        json!({ "bundles": jobs.len(), "have": sum.have, "pieces": sum.pieces }),
    );
    output.say(&format!(
        "seeding {} bundles, {} of {} pieces",
        jobs.len(),
        sum.have,
        sum.pieces
    ));
    until::serve(&running, output, &jobs, until).await;
    running.stop().await;
    Ok(())
}
