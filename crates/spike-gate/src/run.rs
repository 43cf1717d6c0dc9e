//! `run`: tracker, seed, bridge and gate in one process, until a signal to stop.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::json;
use spike_gate::admin;
use spike_gate::config::Plan;
use spike_gate::{Gate, GateError, GateHandle, Parts, TrackerLink};
use swarm_peer::connector::AddressPolicy;
use swarm_peer::http::chain;
use swarm_peer::uplink::Uplink;
use swarm_peer::{Node, NodeConfig, NodeError};
use swarm_proto::manifest::SiteRecord;
use swarm_tracker::{Tracker, TrackerConfig, TrackerHandle};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use url::Url;
use webseed_bridge::bridge::{Bridge, BridgeHandle, Carry};
use webseed_bridge::config::BridgeConfig;

use crate::cli::{Failure, print};

/// How often the bridge looks for a newer record of the site.
const RECORD_LOOK: Duration = Duration::from_secs(600);

/// Runs until told to stop; a second signal stops at once.
pub(crate) async fn run(plan: Plan, json: bool) -> Result<(), Failure> {
    let shutdown = CancellationToken::new();
    let mut signals = Signals::new().context("cannot wait for signals")?;
    let started = start(&plan, &shutdown).await;
    let parts = match started {
        Ok(parts) => parts,
        Err(failure) => {
            shutdown.cancel();
            return Err(failure);
        }
    };
    let gate = &parts.gate;
    let tracker = parts.tracker_url.clone();
    if json {
        let event = json!({
            "event": "listening",
            "http": gate.addr().to_string(),
            "site": gate.url().as_str(),
            "root_key": gate.root_key().to_string(),
            "tracker": tracker,
            "peer": gate.node().listen_addr().to_string(),
            "bridge": parts.bridge.as_ref().map(|bridge| bridge.addr().to_string()),
            "state": plan.gate.state_dir,
        });
        print(&format!("{event}\n"))?;
    }
    tracing::info!(http = %gate.addr(), site = %gate.url(), %tracker, root_key = %gate.root_key(), "listening");
    let talk = tokio::spawn(events(gate.clone(), json));
    signals.next().await;
    tracing::info!("stopping, a second signal stops at once");
    shutdown.cancel();
    talk.abort();
    let all = async {
        gate.join().await;
        if let Some(bridge) = &parts.bridge {
            bridge.join().await;
        }
        gate.node().join().await;
        if let Some(tracker) = &parts.tracker {
            tracker.join().await;
        }
    };
    let ended = tokio::select! {
        () = all => Ok(()),
        () = signals.next() => {
            Err(anyhow::anyhow!("stopped before all requests were finished").into())
        }
    };
    // It is ours: start() made it.
    let _ = std::fs::remove_file(admin::socket_path(&plan.gate.state_dir));
    ended
}

struct Started {
    gate: GateHandle,
    tracker: Option<TrackerHandle>,
    tracker_url: String,
    bridge: Option<BridgeHandle>,
}

async fn start(plan: &Plan, shutdown: &CancellationToken) -> Result<Started, Failure> {
    let state = &plan.gate.state_dir;
    std::fs::create_dir_all(state).with_context(|| format!("cannot write {}", state.display()))?;
    let admin = match admin::open(&admin::socket_path(state)).await {
        Ok(listener) => Some(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let place = format!("state directory {}", state.display());
            return Err(Failure::unavailable(
                anyhow::Error::from(error).context(place),
            ));
        }
        Err(error) => {
            // Too long a path, for instance: the gate works without.
            tracing::warn!(%error, "no admin socket: `status` will not work");
            None
        }
    };
    let listener = tokio::net::TcpListener::bind(plan.gate.listen)
        .await
        .with_context(|| format!("cannot listen on {}", plan.gate.listen))
        .map_err(Failure::unavailable)?;
    let addr = listener.local_addr().context("listening address")?;
    let node_config = NodeConfig {
        listen: plan.peer_listen,
        uplink: plan.upload.map_or_else(Uplink::unlimited, Uplink::new),
        policy: AddressPolicy {
            allow_net: plan.allow_net.clone(),
        },
        ..NodeConfig::default()
    };
    let node = Node::start(node_config, shutdown.clone())
        .await
        .map_err(|error| {
            let taken = matches!(error, NodeError::Listen { .. });
            let error = anyhow::Error::from(error);
            if taken {
                Failure::unavailable(error)
            } else {
                error.into()
            }
        })?;
    let mut tracker = None;
    let link = match &plan.tracker {
        Some(url) => TrackerLink::Remote(url.clone()),
        None => {
            let config = TrackerConfig {
                http: vec![plan.tracker_listen],
                udp: Some(Vec::new()),
                state: Some(state.join("tracker")),
                ..TrackerConfig::default()
            };
            let handle = Tracker::start(config, shutdown.clone())
                .await
                .map_err(|error| {
                    let taken = matches!(error, swarm_tracker::TrackerError::Bind { .. });
                    let error = anyhow::Error::from(error);
                    if taken {
                        Failure::unavailable(error)
                    } else {
                        error.into()
                    }
                })?;
            tracker = Some(handle.clone());
            let host = plan
                .gate
                .site
                .as_ref()
                .and_then(Url::host_str)
                .map(str::to_owned);
            TrackerLink::embedded(handle, &host.unwrap_or_else(|| addr.ip().to_string()))
        }
    };
    let tracker_url = link.announce_url();
    let bridge = match plan.bridge_listen {
        None => None,
        Some(listen) => {
            let config = BridgeConfig {
                listen,
                domain: plan.bridge_domain.clone(),
                ..BridgeConfig::default()
            };
            let started = Bridge::start(config, node.clone(), shutdown.clone()).await;
            Some(started.map_err(|error| Failure::unavailable(error.into()))?)
        }
    };
    let parts = Parts {
        node,
        tracker: link,
        listener: Some(listener),
    };
    let gate = Gate::start(plan.gate.clone(), parts, shutdown.clone())
        .await
        .map_err(|error| {
            let listen = matches!(error, GateError::Listen { .. });
            let config = matches!(error, GateError::Config(_));
            let error = anyhow::Error::from(error);
            match (listen, config) {
                (true, _) => Failure::unavailable(error),
                (_, true) => Failure::config(error),
                _ => error.into(),
            }
        })?;
    if let Some(listener) = admin {
        tokio::spawn(admin::serve(listener, gate.clone(), plan.gate.plan_rate));
    }
    if let Some(bridge) = bridge.clone() {
        tokio::spawn(carry(bridge, gate.clone()));
    }
    Ok(Started {
        gate,
        tracker,
        tracker_url,
        bridge,
    })
}

/// Has the embedded bridge serve the site, and follow its record's renewals. It is not offered
/// to visitors: it hangs on the very line that is to be relieved.
async fn carry(bridge: BridgeHandle, gate: GateHandle) {
    let Some(manifest) = gate.published().await else {
        return;
    };
    let mut served: Option<Bytes> = None;
    loop {
        let newest = gate.record();
        if newest != served
            && let Some(bytes) = &newest
        {
            match SiteRecord::parse(bytes) {
                Ok(record) => {
                    let home = Some(gate.url().to_string());
                    let carry = Carry::named(&record, (*manifest).clone(), home);
                    match bridge.add_site(carry).await {
                        Ok(()) => tracing::info!(http = %bridge.addr(), "bridge serves the site"),
                        Err(error) => {
                            tracing::warn!(error = %chain(&error), "bridge does not serve the site")
                        }
                    }
                }
                Err(error) => tracing::error!(error = %chain(&error), "own record is damaged"),
            }
            served = newest;
        }
        tokio::time::sleep(RECORD_LOOK).await;
    }
}

/// Prints what happens.
async fn events(gate: GateHandle, json: bool) {
    let mut events = gate.events();
    loop {
        match events.recv().await {
            Ok(event) if json => {
                let line = serde_json::to_string(&event).unwrap_or_default();
                if print(&format!("{line}\n")).is_err() {
                    return;
                }
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// The signals that mean "stop".
struct Signals {
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
}
