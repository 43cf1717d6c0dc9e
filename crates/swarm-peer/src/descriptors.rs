//! How many connections the system's limit on open files leaves room for (F14).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections within the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Those of peers.
    pub(crate) peers: usize,
    /// Those of callers without a handshake.
    pub(crate) handshakes: usize,
}

/// Raises the soft limit to the hard one, as far as that is allowed, and tells what it leaves of
/// `wanted`: half of all descriptors are for connections, the rest for files, trackers and web
/// seeds, so that a crowd of callers can't keep us from our own disk.
pub(crate) fn room(wanted: Room) -> Room {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let room = within(wanted, limit);
    if room.peers < wanted.peers {
        let (limit, peers) = (limit.unwrap_or_default(), room.peers);
        tracing::warn!(
            limit,
            peers,
            "few connections: the limit of open files is low"
        );
    }
    room
}

/// Files of bundles kept open, where there is no limit, or none to speak of.
const FILES_MAX: usize = 1024;

/// How many files of bundles may be kept open: a quarter of all descriptors.
pub(crate) fn files() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(FILES_MAX, files_within)
}

fn files_within(limit: u64) -> usize {
    let quarter = usize::try_from(limit / 4).unwrap_or(usize::MAX);
    quarter.clamp(1, FILES_MAX)
}

fn within(wanted: Room, limit: Option<usize>) -> Room {
    let Some(limit) = limit else {
        return wanted;
    };
    let connections = limit / 2;
    let handshakes = wanted.handshakes.min(connections / 4).max(1);
    Room {
        peers: wanted
            .peers
            .min(connections - connections.min(handshakes))
            .max(1),
        handshakes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f14_connections_leave_descriptors_for_the_rest() {
        let wanted = Room {
            peers: 500,
            handshakes: 128,
        };
        assert_eq!(within(wanted, None), wanted);
        assert_eq!(within(wanted, Some(4096)), wanted);
        for limit in [8, 64, 256, 1024] {
            let room = within(wanted, Some(limit));
            assert!(
                room.peers + room.handshakes <= limit / 2,
                "{limit}: {room:?}"
            );
            let files = files_within(limit as u64);
            assert!(room.peers + room.handshakes + files <= limit * 3 / 4);
            assert!(room.peers > 0 && room.handshakes > 0, "{limit}: {room:?}");
        }
    }
}
