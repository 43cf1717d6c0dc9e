//! What a service manager hands over and is told: sockets (`LISTEN_FDS`), and by `NOTIFY_SOCKET`
//! that the program is ready, alive, and stopping.

use anyhow::bail;
use listenfd::ListenFd;
use sd_notify::NotifyState;
use swarm_tracker::{Sockets, TrackerHandle};

/// The sockets handed over to this process, if any.
pub(crate) fn sockets() -> anyhow::Result<Sockets> {
    let mut handed = ListenFd::from_env();
    let mut sockets = Sockets::default();
    for at in 0..handed.len() {
        // What it is shows in which of the two takes it.
        if let Ok(Some(socket)) = handed.take_tcp_listener(at) {
            sockets.http.push(socket);
        } else if let Ok(Some(socket)) = handed.take_udp_socket(at) {
            sockets.udp.push(socket);
        } else {
            bail!("socket {at} that was handed over is neither TCP nor UDP");
        }
    }
    Ok(sockets)
}

/// Tells the service manager, where there is one.
pub(crate) fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "service manager not told");
    }
}

/// Says that the program is alive for as long as it is well, where the service manager wants to
/// hear so; never ends.
pub(crate) async fn keep_watchdog(tracker: &TrackerHandle) {
    let Some(patience) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let mut tick = tokio::time::interval(patience / 3);
    loop {
        tick.tick().await;
        match tracker.unready() {
            None => tell(&[NotifyState::Watchdog]),
            Some(why) => tracing::error!(why, "not well"),
        }
    }
}
