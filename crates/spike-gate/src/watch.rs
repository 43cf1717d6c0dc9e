//! Keeps the view of live bridges fresh: asks the tracker who holds what, and knocks at each
//! bridge's door. A bridge that does not open is dropped within seconds, whatever the tracker
//! still believes; one that was never seen open is not used at all.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use swarm_peer::connector::AddressPolicy;
use swarm_peer::http::{HttpClient, chain};
use swarm_proto::manifest::{SiteName, SitePath};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::bridges::{BRIDGES_MAX, LiveBridge};
use crate::divert::Shared;
use crate::tracker::{Named, TrackerLink};

/// Doors knocked at together.
const KNOCKS_MAX: usize = 64;
/// A door that does not open within this is shut.
const KNOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// After this many bad answers of the tracker in a row, what it last said is forgotten.
const MISSES_MAX: u32 = 10;

/// How often to look.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between two questions to a tracker elsewhere.
    pub ask_every: Duration,
    /// Between two knocks at the same door.
    pub knock_every: Duration,
}

/// Watches until dropped.
pub async fn watch(
    shared: Arc<Shared>,
    tracker: TrackerLink,
    http: HttpClient,
    site: SiteName,
    pace: Pace,
) {
    let mut doors: HashMap<SocketAddr, Door> = HashMap::new();
    let mut named: Option<Named> = None;
    let mut misses = 0;
    let mut asked: Option<Instant> = None;
    let mut tick = interval(pace.knock_every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let due = matches!(tracker, TrackerLink::Embedded { .. })
            || asked.is_none_or(|at| at.elapsed() >= pace.ask_every);
        if due {
            asked = Some(Instant::now());
            match tracker.bridges(&http, &site).await {
                Ok(answer) => {
                    misses = 0;
                    named = Some(answer);
                }
                Err(error) => {
                    misses += 1;
                    tracing::debug!(error = %chain(&error), misses, "no list of bridges");
                    if misses >= MISSES_MAX {
                        named = None;
                    }
                }
            }
        }
        let usable = usable(named.as_ref(), http.policy());
        knock(&mut doors, &usable).await;
        let mut live: Vec<LiveBridge> = usable
            .iter()
            .filter(|(addr, _)| doors.get(addr).is_some_and(|door| door.open))
            .filter_map(|(_, view)| live(view, &site))
            .collect();
        live.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        if *shared.bridges() != live {
            tracing::info!(bridges = live.len(), "live bridges changed");
            shared.set_bridges(live);
        }
    }
}

type View = swarm_proto::tracker::register::BridgeView;

/// What may be dialled of what was named.
fn usable(named: Option<&Named>, policy: &AddressPolicy) -> Vec<(SocketAddr, View)> {
    let Some(named) = named else {
        return Vec::new();
    };
    named
        .bridges
        .iter()
        .filter_map(|view| Some((view.address()?, view.clone())))
        .filter(|(addr, _)| policy.permits(addr.ip(), named.trust))
        .take(BRIDGES_MAX)
        .collect()
}

fn live(view: &View, site: &SiteName) -> Option<LiveBridge> {
    let root = SitePath::parse("/").ok()?;
    LiveBridge::new(&view.url_for(site, &root), view.bundles.iter().copied())
}

/// What is known of one address.
#[derive(Debug, Clone, Copy, Default)]
struct Door {
    open: bool,
    /// Knocks in a row that went unheard; a refusal counts at once.
    unheard: u32,
}

async fn knock(doors: &mut HashMap<SocketAddr, Door>, usable: &[(SocketAddr, View)]) {
    doors.retain(|addr, _| usable.iter().any(|(named, _)| named == addr));
    for (addr, _) in usable {
        doors.entry(*addr).or_default();
    }
    let addrs: Vec<SocketAddr> = doors.keys().copied().collect();
    let mut knocks = stream::iter(addrs)
        .map(|addr| async move { (addr, timeout(KNOCK_TIMEOUT, TcpStream::connect(addr)).await) })
        .buffer_unordered(KNOCKS_MAX);
    while let Some((addr, answer)) = knocks.next().await {
        let Some(door) = doors.get_mut(&addr) else {
            continue;
        };
        *door = match answer {
            Ok(Ok(_)) => Door {
                open: true,
                unheard: 0,
            },
            Ok(Err(_)) => Door::default(),
            // A full line loses a packet now and then.
            Err(_) => Door {
                open: door.open && door.unheard < 1,
                unheard: door.unheard + 1,
            },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarm_peer::connector::Trust;
    use swarm_proto::id::SwarmId;
    use tokio::net::TcpListener;

    fn view(addr: SocketAddr, domain: Option<&str>) -> View {
        View::new(addr, domain, vec![SwarmId::new([1; 20])])
    }

    #[tokio::test]
    async fn a_bridge_is_used_once_it_opens_and_no_longer_than_that() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let usable = vec![(addr, view(addr, None))];
        let mut doors = HashMap::new();
        knock(&mut doors, &usable).await;
        assert!(doors[&addr].open);
        drop(listener);
        knock(&mut doors, &usable).await;
        assert!(!doors[&addr].open);
        knock(&mut doors, &[]).await;
        assert!(doors.is_empty());
    }

    #[test]
    fn a_far_tracker_cannot_name_our_own_machines() {
        let addrs = ["127.0.0.1:80", "10.0.0.1:80", "203.0.114.9:80"];
        let bridges = addrs
            .iter()
            .map(|addr| view(addr.parse().unwrap(), None))
            .collect();
        let mut named = Named {
            bridges,
            trust: Trust::Stranger,
        };
        let policy = AddressPolicy::default();
        assert_eq!(usable(Some(&named), &policy).len(), 1);
        named.trust = Trust::Neighbour("127.0.0.1".parse().unwrap());
        assert_eq!(usable(Some(&named), &policy).len(), 3);
        assert!(usable(None, &policy).is_empty());
    }

    #[test]
    fn bridges_have_a_host_of_their_own_or_a_path() {
        let site = SiteName::parse("s.example:81").unwrap();
        let addr = "127.0.0.1:8081".parse().unwrap();
        let named = live(&view(addr, Some("localhost")), &site).unwrap();
        assert_eq!(named.prefix, "http://s-example---81.localhost:8081");
        assert!(named.own_host);
        let plain = live(&view(addr, None), &site).unwrap();
        assert_eq!(plain.prefix, "http://127.0.0.1:8081/s.example:81");
        assert!(!plain.own_host);
    }
}
