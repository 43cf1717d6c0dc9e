//! Lets a crowd loose, and takes samples while it comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use swarm_peer::uplink::Uplink;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::curve::Arrival;
use super::panel::{Panel, Scene};
use super::site::Page;
use super::timeline::{PERIOD, Sample, Timeline};
use super::visitor::{Counts, Street};

/// The hosts whose lines are watched.
pub(super) struct Hosts {
    /// The site's own.
    pub origin: Uplink,
    /// The volunteers'.
    pub volunteers: Vec<Uplink>,
    /// Where the gate stands; empty without one.
    pub state: Box<dyn Fn() -> &'static str + Send + Sync>,
}

/// What came of a run.
pub(super) struct Run {
    /// The visitors' counts.
    pub counts: Counts,
    /// Samples from the first arrival until the last visitor left.
    pub timeline: Timeline,
}

impl Hosts {
    fn sample(&self, street: &Street, before: &[u64], at: Duration) -> Sample {
        let (arrived, completed, failed) = street.tally.pages();
        let mut sent = self
            .totals()
            .into_iter()
            .zip(before)
            .map(|(now, then)| now.saturating_sub(*then));
        Sample {
            at,
            arrived,
            completed,
            failed,
            origin: sent.next().unwrap_or(0),
            volunteers: sent.collect(),
            state: (self.state)(),
        }
    }

    fn totals(&self) -> Vec<u64> {
        std::iter::once(&self.origin)
            .chain(&self.volunteers)
            .map(Uplink::sent_total)
            .collect()
    }
}

/// Sends the crowd and waits until the last visitor has its page or has given up.
pub(super) async fn run(
    street: Arc<Street>,
    pages: Arc<[Page]>,
    arrivals: Vec<Arrival>,
    hosts: &Hosts,
    panel: &mut Panel,
    scene: &Scene<'_>,
) -> Run {
    let before = hosts.totals();
    let started = Instant::now();
    let mut timeline = Timeline::default();
    let comings = tokio::spawn(come(street.clone(), pages, arrivals, started));
    tokio::pin!(comings);
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let ended = tokio::select! {
            _ = &mut comings => true,
            _ = tick.tick() => false,
        };
        timeline.push(hosts.sample(&street, &before, started.elapsed()));
        panel.draw(scene, &timeline);
        if ended {
            break;
        }
    }
    panel.end(scene, &timeline);
    Run {
        counts: street.tally.counts(),
        timeline,
    }
}

/// Each visitor at its time, whatever became of those before.
async fn come(street: Arc<Street>, pages: Arc<[Page]>, arrivals: Vec<Arrival>, started: Instant) {
    let mut visitors = JoinSet::new();
    for arrival in arrivals {
        tokio::time::sleep_until((started + arrival.at).into()).await;
        let Some(page) = pages.get(arrival.page) else {
            continue;
        };
        let (street, path) = (street.clone(), page.url_path.clone());
        visitors.spawn(async move { street.visit(&path).await });
        while visitors.try_join_next().is_some() {}
    }
    while visitors.join_next().await.is_some() {}
}
