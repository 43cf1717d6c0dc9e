//! All that is known here is told again: the store has lost it, or was away.

use bytes::Bytes;
use swarm_proto::id::SwarmId;
use swarm_proto::manifest::SiteName;

use super::{Change, NEWS_MAX, PeerChange, PeerState};
use crate::registry::swarm::Standing;
use crate::registry::{Moment, Registry};

/// How far the peers have been told.
#[derive(Debug)]
pub(crate) struct Retelling {
    swarms: Vec<SwarmId>,
    /// Peers of the last of them that were told already.
    told: usize,
}

/// What is told at a time.
#[derive(Debug, Default)]
pub(crate) struct Retold {
    pub(crate) peers: Vec<PeerChange>,
    /// Completed downloads of the swarms whose peers have all been told.
    pub(crate) completed: Vec<(SwarmId, u32)>,
    swarms: usize,
}

impl Retold {
    /// Whether there was nothing left.
    pub(crate) const fn is_all(&self) -> bool {
        self.swarms == 0
    }
}

/// Swarms gone through at a time.
const SWARMS_MAX: usize = 1024;

/// What a site has signed, as this tracker knows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct SitePapers {
    /// The record, and its manifest's sequence.
    pub(crate) record: Option<(Bytes, u64)>,
    /// The newest alarm, standing or not.
    pub(crate) alarm: Option<Bytes>,
}

impl Registry {
    /// Begins to tell all peers again.
    pub(crate) fn retell(&self) -> Retelling {
        Retelling {
            swarms: self.swarms.ids().collect(),
            told: 0,
        }
    }

    /// Up to `max` peers more. Who comes or goes meanwhile may move others out of
    /// sight, until they announce again.
    pub(crate) fn retell_peers(
        &self,
        now: Moment,
        retelling: &mut Retelling,
        max: usize,
    ) -> Retold {
        let (age, units) = (self.config.announce.peer_age, self.ages.units(now));
        let mut told = Retold::default();
        while let Some(id) = retelling.swarms.last() {
            if told.peers.len() >= max || told.swarms >= SWARMS_MAX {
                break;
            }
            told.swarms += 1;
            let room_for = max - told.peers.len();
            let before = retelling.told;
            if let Some((swarm, room)) = self.swarms.get(id) {
                let peers = swarm.peers(room).skip(before).take(room_for);
                for (peer, standing, expires) in peers {
                    retelling.told += 1;
                    let left = self.ages.at_least(expires.left(units));
                    if left.is_zero() {
                        continue;
                    }
                    let age = age.saturating_sub(left).as_secs();
                    told.peers.push(PeerChange {
                        swarm: *id,
                        peer,
                        state: match standing {
                            Standing::Seed => PeerState::Seed,
                            Standing::Leech => PeerState::Leech,
                        },
                        bridge: false,
                        completed: false,
                        age: u32::try_from(age).unwrap_or(u32::MAX),
                    });
                }
            }
            if retelling.told - before == room_for {
                break;
            }
            if let Some((swarm, _)) = self.swarms.get(id)
                && swarm.downloaded > 0
            {
                told.completed.push((*id, swarm.downloaded));
            }
            retelling.swarms.pop();
            retelling.told = 0;
        }
        told
    }

    /// At least so many downloads of a swarm were completed, by all that trackers have heard.
    pub(crate) fn learn_completed(&mut self, swarm: SwarmId, count: u32) {
        let id = self.bundles.canonical(&swarm).unwrap_or(swarm);
        if let Some((swarm, _)) = self.swarms.get_mut(&id) {
            swarm.downloaded = swarm.downloaded.max(count);
        }
    }

    /// The bridges, and who is barred. Of more than can be told at once the others come with their
    /// next announce.
    pub(crate) fn retell_bridges(&self, now: Moment) -> Vec<Change> {
        let age = self.config.announce.bridge_age;
        let mut told = self.volunteers.retell(now, age, NEWS_MAX);
        let barred = self.volunteers.barrings(now).into_iter();
        told.extend(barred.map(|barring| Change::Barred(Box::new(barring))));
        told
    }

    /// The sites whose root is pinned.
    pub(crate) fn site_names(&self) -> Vec<SiteName> {
        self.sites.keys().cloned().collect()
    }

    /// What a site has signed; `None`: it is not known here.
    pub(crate) fn papers(&self, site: &SiteName) -> Option<SitePapers> {
        let site = self.sites.get(site)?;
        let record = site.record.as_ref();
        Some(SitePapers {
            record: record.map(|record| (record.bytes.clone(), record.manifest.sequence)),
            alarm: site.newest_alarm().cloned(),
        })
    }
}
