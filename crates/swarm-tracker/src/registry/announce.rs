//! Announces and scrapes: who is taken into a swarm, and what is answered.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::RngExt as _;
use swarm_proto::id::SwarmId;
use swarm_proto::limits::PEERS_PER_REPLY_MAX;
use swarm_proto::manifest::SiteName;
use swarm_proto::tracker::{
    AnnounceEvent, AnnounceReply, AnnounceRequest, ScrapeEntry, ScrapeReply, ScrapeRequest,
};

use super::shared::{PeerChange, PeerState};
use super::swarm::{Put, Standing};
use super::volunteer::{Announced, OfferRefused};
use super::{Moment, Registry};
use crate::config::AnnounceConfig;

/// Peers of all kinds that a peer is told of which starts with nothing left, where fewer leeches
/// are there: aria2 says so of a magnet link, of which it knows no length, and wants seeds.
const SEEDS_FOR_A_STARTER: usize = 10;

/// What a peer is told that is not kept.
const FULL: &str = "tracker is full: you are not listed";

/// Why an announce is refused; the words go back as the failure reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnnounceRefused {
    /// Not in any registered manifest, and the tracker is not open.
    #[error("info hash is not registered at this tracker")]
    UnknownSwarm,
    /// Of a bundle whose site has taken it back, or has itself been given up by this tracker.
    #[error("this bundle was withdrawn by its site")]
    Withdrawn,
    /// A port that belongs to somebody else's service (T14).
    #[error("port is below the least this tracker accepts")]
    LowPort,
}

/// Which peers a reply can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Families {
    /// IPv4 and IPv6, the asker's own first.
    Both,
    /// The asker's own.
    Own,
}

/// By which way an announce came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via<'a> {
    /// Over HTTP, to this host, with its port unless that is the scheme's; `None` where none was
    /// named. Bridges are called back in its name.
    Http(Option<&'a str>),
    /// Over UDP, where an answer has one size of entries (BEP 15).
    Udp,
}

impl Registry {
    /// Answers an announce that came from the address `source`.
    ///
    /// # Errors
    /// [`AnnounceRefused`]; nothing is stored then.
    pub fn announce(
        &mut self,
        now: Moment,
        source: IpAddr,
        request: &AnnounceRequest,
        via: Via<'_>,
    ) -> Result<AnnounceReply, AnnounceRefused> {
        let (families, host) = match via {
            Via::Http(host) => (Families::Both, host),
            Via::Udp => (Families::Own, None),
        };
        let (id, registered) = self.admit(now, &request.swarm_id)?;
        if request.port < self.config.announce.port_min {
            return Err(AnnounceRefused::LowPort);
        }
        let peer = SocketAddr::new(source.to_canonical(), request.port);
        let standing = match request.left {
            Some(0) => Standing::Seed,
            _ => Standing::Leech,
        };
        let mut reply = self.reply(request.bridge.is_some());
        if request.event == AnnounceEvent::Stopped {
            self.stopped(id, peer);
            self.tell_peer(id, peer, PeerState::Gone, request, false);
        } else {
            let stored = self.store(now, id, peer, standing, request);
            let offered = self.take_offer(now, registered, peer, standing, request, host);
            reply.warning = stored.or(offered);
        }
        (reply.complete, reply.incomplete) = self.present(&id);
        if let Some((swarm, room)) = self.swarms.get(&id)
            && request.event != AnnounceEvent::Stopped
        {
            let config = &self.config.announce;
            let wanted = request.numwant.map_or(config.peers_per_reply, |wanted| {
                (wanted as usize).min(config.peers_per_reply_max)
            });
            let wanted = wanted.min(PEERS_PER_REPLY_MAX);
            let rng = &mut self.rng;
            reply.peers = swarm.sample(room, peer, standing, wanted, families, rng);
            let few = wanted.min(SEEDS_FOR_A_STARTER);
            if standing == Standing::Seed
                && request.event == AnnounceEvent::Started
                && reply.peers.len() < few
            {
                let others = swarm.sample(room, peer, Standing::Leech, few, families, rng);
                for other in others {
                    if reply.peers.len() < few && !reply.peers.contains(&other) {
                        reply.peers.push(other);
                    }
                }
            }
        }
        Ok(reply)
    }

    /// The id that a swarm is kept under, and the same where a manifest lists it.
    pub(super) fn admit(
        &self,
        now: Moment,
        asked: &SwarmId,
    ) -> Result<(SwarmId, Option<SwarmId>), AnnounceRefused> {
        match self.bundles.canonical(asked) {
            Some(id) => Ok((id, Some(id))),
            None if self.config.open => Ok((*asked, None)),
            None if self.bundles.is_withdrawn(asked, now.tick()) => Err(AnnounceRefused::Withdrawn),
            None => Err(AnnounceRefused::UnknownSwarm),
        }
    }

    /// A reply that says when to come back, to a bridge or to any peer.
    pub(super) fn reply(&mut self, bridge: bool) -> AnnounceReply {
        let AnnounceConfig {
            min_interval,
            interval,
            bridge_interval,
            ..
        } = self.config.announce;
        let interval = if bridge { bridge_interval } else { interval };
        AnnounceReply {
            interval: self.spread(interval),
            min_interval: Some(whole_seconds(min_interval.min(interval))),
            ..AnnounceReply::default()
        }
    }

    /// Seeds and leeches of a swarm, by whatever transport they came.
    pub(super) fn present(&self, id: &SwarmId) -> (u32, u32) {
        let (seeds, leeches) = self.web.present(id);
        let swarm = self.swarms.get(id);
        let (more_seeds, more_leeches) = swarm.map_or((0, 0), |(swarm, room)| {
            (swarm.seeds(room), swarm.leeches(room))
        });
        (count(seeds + more_seeds), count(leeches + more_leeches))
    }

    /// The interval and up to a sixteenth more, so that those who came together part.
    fn spread(&mut self, interval: Duration) -> u32 {
        let seconds = whole_seconds(interval);
        seconds.saturating_add(self.rng.random_range(0..=seconds / 16))
    }

    fn stopped(&mut self, id: SwarmId, peer: SocketAddr) {
        self.volunteers.withdraw(id, peer);
        self.forget_peer(id, peer);
    }

    pub(super) fn forget_peer(&mut self, id: SwarmId, peer: SocketAddr) {
        if let Some((swarm, room)) = self.swarms.get_mut(&id)
            && swarm.remove(room, peer)
        {
            self.peers -= 1;
            self.drop_if_idle(id);
        }
    }

    /// Returns a warning where the peer is not kept.
    fn store(
        &mut self,
        now: Moment,
        id: SwarmId,
        peer: SocketAddr,
        standing: Standing,
        request: &AnnounceRequest,
    ) -> Option<String> {
        let age = match request.bridge {
            Some(_) => self.config.announce.bridge_age,
            None => self.config.announce.peer_age,
        };
        let expires = self.ages.expiry(now, age);
        let space = self.peers + self.web.len() < self.config.announce.peers_max;
        let (swarm, room) = if space {
            self.swarms.open(id)
        } else {
            // Nothing is known from now on that was not before.
            match self.swarms.get_mut(&id) {
                Some(known) => known,
                None => return Some(FULL.to_owned()),
            }
        };
        let before = match swarm.put(room, peer, standing, expires, space) {
            Put::Renewed(before) => Some(before),
            Put::New => {
                self.peers += 1;
                None
            }
            Put::Full => return Some(FULL.to_owned()),
            Put::Crowded => {
                return Some("enough peers of your network are listed: you are not".to_owned());
            }
        };
        // A seed that says "completed" again has not downloaded again.
        let completed = request.event == AnnounceEvent::Completed && before != Some(Standing::Seed);
        swarm.downloaded = swarm.downloaded.saturating_add(completed.into());
        let state = match standing {
            Standing::Seed => PeerState::Seed,
            Standing::Leech => PeerState::Leech,
        };
        self.tell_peer(id, peer, state, request, completed);
        None
    }

    /// For other trackers.
    fn tell_peer(
        &mut self,
        swarm: SwarmId,
        peer: SocketAddr,
        state: PeerState,
        request: &AnnounceRequest,
        completed: bool,
    ) {
        self.outbox.peer(PeerChange {
            swarm,
            peer,
            state,
            bridge: request.bridge.is_some(),
            completed,
            age: 0,
        });
    }

    /// Takes up, renews or takes back a volunteer's offer. Returns a warning where it is not
    /// taken as it was meant.
    fn take_offer(
        &mut self,
        now: Moment,
        registered: Option<SwarmId>,
        peer: SocketAddr,
        standing: Standing,
        request: &AnnounceRequest,
        host: Option<&str>,
    ) -> Option<String> {
        // A bundle of no site has no visitors.
        let id = registered?;
        let offer = match &request.bridge {
            Some(offer) if standing == Standing::Seed => offer,
            _ => {
                self.volunteers.withdraw(id, peer);
                return None;
            }
        };
        if self.is_barred(now, peer, offer) {
            self.volunteers.withdraw(id, peer);
            return Some(OfferRefused::Evicted.to_string());
        }
        // As of a URL: the scheme's own port is left out.
        let host = host.and_then(|host| SiteName::from_url(&format!("http://{host}")).ok());
        let domain = offer.domain.as_deref();
        let allowed = domain.filter(|domain| self.may_name(peer.ip(), domain));
        let said = Announced {
            swarm: id,
            peer,
            offer,
            domain: allowed,
            expires: now.elapsed.saturating_add(self.config.announce.bridge_age),
            tracker: host.as_ref(),
        };
        match self.volunteers.offer(now, said, &mut self.rng) {
            Ok(()) if domain != allowed => {
                Some("bridge_domain not accepted: the bridge is listed by its address".to_owned())
            }
            Ok(()) => None,
            Err(refused) => {
                self.volunteers.withdraw(id, peer);
                Some(refused.to_string())
            }
        }
    }

    /// Whether a volunteer may have visitors sent to names under `domain`: below one the
    /// operator allows, or `localhost` from this very host.
    pub(super) fn may_name(&self, source: IpAddr, domain: &str) -> bool {
        let allowed = |suffix: &String| {
            domain
                .strip_suffix(suffix.as_str())
                .is_some_and(|front| front.is_empty() || front.ends_with('.'))
        };
        source.is_loopback() && domain == "localhost"
            || self.config.bridge_domains.iter().any(allowed)
    }

    /// Answers a scrape; unknown and unregistered swarms are left out.
    pub fn scrape(&self, request: &ScrapeRequest) -> ScrapeReply {
        let files = self.figures(request);
        let files = files.filter_map(|(asked, entry)| Some((asked, entry?)));
        ScrapeReply {
            files: files.collect(),
        }
    }

    /// The figures of each swarm asked for, in that order; `None` where it is not known.
    pub fn figures(
        &self,
        request: &ScrapeRequest,
    ) -> impl Iterator<Item = (SwarmId, Option<ScrapeEntry>)> {
        request.swarm_ids.iter().map(|asked| {
            let id = self.bundles.canonical(asked).unwrap_or(*asked);
            let entry = self.swarms.get(&id).map(|(swarm, _)| {
                let (complete, incomplete) = self.present(&id);
                ScrapeEntry {
                    complete,
                    downloaded: swarm.downloaded,
                    incomplete,
                }
            });
            (*asked, entry)
        })
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// At least one: an interval of 0 would be no interval.
fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).max(1)
}
