//! Whatever happens where, and however late it is heard of: in the end all know the same.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Apart by more than the unit in which ages are kept.
const STEP: u64 = 5;

/// One announce.
#[derive(Debug, Clone, Copy)]
struct Act {
    /// To which of three trackers.
    tracker: usize,
    port: u16,
    state: PeerState,
    /// How many acts later each tracker's words are heard by the others, if by then none were.
    lag: usize,
}

fn act() -> impl Strategy<Value = Act> {
    let state = prop_oneof![
        Just(PeerState::Seed),
        Just(PeerState::Leech),
        Just(PeerState::Gone)
    ];
    let parts = (0..3_usize, 2000..2006_u16, state, 0..8_usize);
    parts.prop_map(|(tracker, port, state, lag)| Act {
        tracker,
        port,
        state,
        lag,
    })
}

proptest! {
    #[test]
    fn all_know_the_last_word_of_each_peer(acts in vec(act(), 1..50)) {
        let mut trackers = [tracker(|_| {}), tracker(|_| {}), tracker(|_| {})];
        let mut said: BTreeMap<u16, PeerState> = BTreeMap::new();
        // What was written: by whom, when, and from when on it is heard.
        let mut log: Vec<(usize, u64, u64, Changes)> = Vec::new();
        let end = acts.len() as u64 * STEP + 1;
        for (at, act) in (1..).zip(&acts) {
            let secs = at * STEP;
            if act.state == PeerState::Gone {
                // Who is gone is not remembered: a word of before that comes after would list it
                // again, until it ages.
                for (writer, written, _, changes) in log.drain(..) {
                    hear_elsewhere(&mut trackers, writer, secs, secs - written, &changes);
                }
            }
            match act.state {
                PeerState::Seed => drop(seed(&mut trackers[act.tracker], secs, act.port)),
                PeerState::Leech => drop(leech(&mut trackers[act.tracker], secs, act.port)),
                PeerState::Gone => stop(&mut trackers[act.tracker], secs, act.port),
            }
            said.insert(act.port, act.state);
            let changes = trackers[act.tracker].take_changes();
            // The log is read in the order in which it was written.
            let read = log.last().map_or(0, |(_, _, read, _)| *read);
            let read = read.max(secs + act.lag as u64 * STEP);
            log.push((act.tracker, secs, read, changes));
            for (writer, written, _, changes) in log.extract_if(.., |(_, _, read, _)| *read <= secs) {
                hear_elsewhere(&mut trackers, writer, secs, secs - written, &changes);
            }
        }
        for (writer, written, _, changes) in log {
            hear_elsewhere(&mut trackers, writer, end, end - written, &changes);
        }
        let of = |state| said.values().filter(|known| **known == state).count() as u32;
        let wanted = (of(PeerState::Seed), of(PeerState::Leech), 0);
        for tracker in &trackers {
            prop_assert_eq!(count(tracker), wanted);
            prop_assert_eq!(tracker.totals().peers, (wanted.0 + wanted.1) as usize);
        }
    }
}

fn hear_elsewhere(
    trackers: &mut [Registry],
    writer: usize,
    secs: u64,
    ago: u64,
    changes: &Changes,
) {
    let others = trackers.iter_mut().enumerate();
    for (_, tracker) in others.filter(|(at, _)| *at != writer) {
        hear(tracker, secs, ago, changes);
    }
}
