//! A node that runs until a signal.

use std::time::Duration;

use anyhow::Context as _;
use swarm_peer::Node;
use swarm_peer::config::PeerConfig;
use swarm_peer::control::Control;
use tokio_util::sync::CancellationToken;

use super::{EXIT_FAILURE, Failure, Output, control};

/// A node that runs until a signal, with what every command does about it.
pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) shutdown: CancellationToken,
    _control: Option<Control>,
    drain: Duration,
}

impl Running {
    /// Starts the node, says where it listens, and minds signals: the first stops it in good
    /// order, the second at once.
    pub(crate) async fn start(config: &PeerConfig, output: &Output) -> Result<Self, Failure> {
        let shutdown = CancellationToken::new();
        let node = Node::start(config.node(), shutdown.clone()).await?;
        let addr = node.listen_addr();
        output.event("listening", serde_json::json!({ "peer": addr.to_string() }));
        tracing::info!(peer = %addr, "listening");
        let control = control::open(config, &node, &shutdown)?;
        mind_signals(shutdown.clone())?;
        Ok(Self {
            node,
            shutdown,
            _control: control,
            drain: config.drain,
        })
    }

    /// Ends in good order: trackers are told, states saved.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        if tokio::time::timeout(self.drain, self.node.join())
            .await
            .is_err()
        {
            tracing::warn!("not everything could be finished in time");
        }
    }
}

fn mind_signals(shutdown: CancellationToken) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    tokio::spawn(async move {
        for nth in 0.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if nth > 0 {
                std::process::exit(i32::from(EXIT_FAILURE));
            }
            tracing::info!("stopping, a second signal stops at once");
            shutdown.cancel();
        }
    });
    Ok(())
}

/// Threads that carry bytes, at most: each moves about a gigabyte a second.
const CARRIERS_MAX: usize = 4;

/// The runtime of a command. Half the cores carry bytes, for the others have hashing to do: two
/// threads that wake each other at every turn cost more than they carry, and memory of their own.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads((cores / 2).clamp(1, CARRIERS_MAX))
        .enable_all()
        .build()
        .context("cannot start threads")
        .map_err(Failure::from)
}
