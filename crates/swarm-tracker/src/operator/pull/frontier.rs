//! What of a site is to be asked for next. Time is an argument, in Unix seconds.

use std::collections::{BTreeMap, HashSet, VecDeque};

use swarm_proto::manifest::SitePath;

/// How long a path that is not to be copied is left alone, seconds.
const UNFIT_SECS: u64 = 3600;
/// How long one that failed is left alone, seconds.
const FAILED_SECS: u64 = 60;
/// Nothing rests for longer; what a site lets everybody keep for a year is looked at daily.
pub(super) const REST_SECS_MAX: u64 = 86_400;
/// How often one is tried before that.
const TRIES: u8 = 3;
/// Paths that visitors came for in vain and that wait: they can name any number.
const VISITED_MAX: usize = 256;

/// What is to be asked for: what visitors came for in vain, at every other turn, then what pages
/// are made of, then pages that pages lead to.
#[derive(Debug)]
pub(super) struct Frontier {
    visited: VecDeque<SitePath>,
    parts: VecDeque<SitePath>,
    pages: VecDeque<SitePath>,
    /// All that is in the queues.
    queued: HashSet<SitePath>,
    /// All that is being asked for.
    asked: HashSet<SitePath>,
    /// Whose turn it is.
    turn: usize,
    /// Not to be asked for before this.
    resting: BTreeMap<SitePath, u64>,
    /// How often those failed that are tried again.
    failed: BTreeMap<SitePath, u8>,
    /// Of what waits and of what rests; what is found beyond is passed over until there is room.
    max: usize,
}

/// Why a path is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A visitor came for it.
    Visited,
    /// A page is made of it.
    Part,
    /// A page leads to it.
    Linked,
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// It is in the copy until then.
    Kept {
        /// When it is to be asked for again.
        fresh_until: u64,
    },
    /// It is not to be copied.
    Unfit,
    /// It could not be had.
    Failed,
}

impl Frontier {
    pub(super) fn new(max: usize) -> Self {
        Self {
            visited: VecDeque::new(),
            parts: VecDeque::new(),
            pages: VecDeque::new(),
            queued: HashSet::new(),
            asked: HashSet::new(),
            turn: 0,
            resting: BTreeMap::new(),
            failed: BTreeMap::new(),
            max,
        }
    }

    /// Queues a path, unless it is queued or was asked for of late. Returns whether it is queued now.
    pub(super) fn want(&mut self, now: u64, path: &SitePath, why: Wanted) -> bool {
        match self.resting.get(path) {
            Some(until) if *until > now && *until <= now + REST_SECS_MAX => return false,
            // Over, or noted by a clock that was ahead (F7).
            Some(_) => {
                self.resting.remove(path);
            }
            None => {}
        }
        if self.queued.contains(path) || self.asked.contains(path) {
            return true;
        }
        let (queue, max) = match why {
            Wanted::Visited => (&mut self.visited, VISITED_MAX),
            Wanted::Part => (&mut self.parts, self.max / 2),
            Wanted::Linked => (&mut self.pages, self.max / 2),
        };
        if queue.len() >= max {
            return false;
        }
        queue.push_back(path.clone());
        self.queued.insert(path.clone());
        true
    }

    /// The next path to ask for.
    pub(super) fn next(&mut self) -> Option<SitePath> {
        // Who comes for what is not there must not keep all else from being asked for.
        self.turn = (self.turn + 1) % 4;
        let (visited, parts) = (&mut self.visited, &mut self.parts);
        let queues = match self.turn {
            3 => [parts, &mut self.pages, visited],
            0 => [&mut self.pages, parts, visited],
            _ => [visited, parts, &mut self.pages],
        };
        let path = queues.into_iter().find_map(VecDeque::pop_front)?;
        self.queued.remove(&path);
        self.asked.insert(path.clone());
        Some(path)
    }

    /// A path is not being asked for any more, though nothing came of it.
    pub(super) fn gave_up(&mut self, path: &SitePath) {
        self.asked.remove(path);
    }

    /// Takes note of what became of a path.
    pub(super) fn came(&mut self, now: u64, path: SitePath, came: Came) {
        self.asked.remove(&path);
        let tries = self.failed.remove(&path).unwrap_or(0).saturating_add(1);
        if came == Came::Failed && tries < TRIES && self.failed.len() < self.max {
            // Behind all others: it may be this one that the site cannot answer.
            if self.want(now, &path, Wanted::Linked) {
                self.failed.insert(path, tries);
                return;
            }
        }
        let until = match came {
            Came::Kept { fresh_until } => fresh_until,
            Came::Unfit => now.saturating_add(UNFIT_SECS),
            Came::Failed => now.saturating_add(FAILED_SECS),
        };
        if self.resting.len() >= self.max && !self.resting.contains_key(&path) {
            self.resting.retain(|_, until| *until > now);
            if self.resting.len() >= self.max {
                // Asked for too soon again at worst, which the budget bounds.
                return;
            }
        }
        self.resting.insert(path, until);
    }

    /// Whether there is nothing to ask for.
    pub(super) fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> SitePath {
        SitePath::parse(text).unwrap()
    }

    fn all(frontier: &mut Frontier) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(path) = frontier.next() {
            frontier.gave_up(&path);
            all.push(path.as_str().to_owned());
        }
        all
    }

    #[test]
    fn visitors_go_first_then_parts_then_pages_and_each_once() {
        let mut frontier = Frontier::new(10);
        for (at, why) in [
            ("/page", Wanted::Linked),
            ("/part", Wanted::Part),
            ("/asked", Wanted::Visited),
            ("/part", Wanted::Linked),
            ("/asked2", Wanted::Visited),
        ] {
            assert!(frontier.want(0, &path(at), why));
        }
        assert_eq!(all(&mut frontier), ["/asked", "/asked2", "/part", "/page"]);
        assert!(frontier.is_empty());
    }

    #[test]
    fn what_was_asked_for_rests_for_its_time() {
        let mut frontier = Frontier::new(10);
        frontier.came(100, path("/kept"), Came::Kept { fresh_until: 150 });
        frontier.came(100, path("/unfit"), Came::Unfit);
        for _ in 0..TRIES {
            frontier.came(100, path("/failed"), Came::Failed);
        }
        all(&mut frontier);
        let mut wants = |now: u64| {
            for at in ["/kept", "/unfit", "/failed"] {
                frontier.want(now, &path(at), Wanted::Visited);
            }
            all(&mut frontier)
        };
        assert_eq!(wants(149), Vec::<String>::new());
        assert_eq!(wants(150), ["/kept"]);
        assert_eq!(wants(160), ["/kept", "/failed"]);
        assert_eq!(wants(3700), ["/kept", "/unfit", "/failed"]);
    }

    #[test]
    fn what_fails_is_tried_again_behind_the_others_and_then_left_alone() {
        let mut frontier = Frontier::new(10);
        frontier.want(0, &path("/a"), Wanted::Visited);
        frontier.want(0, &path("/b"), Wanted::Linked);
        for _ in 1..TRIES {
            assert_eq!(frontier.next(), Some(path("/a")));
            frontier.came(0, path("/a"), Came::Failed);
            assert_eq!(frontier.next(), Some(path("/b")));
            frontier.gave_up(&path("/b"));
            frontier.want(0, &path("/b"), Wanted::Linked);
        }
        assert_eq!(frontier.next(), Some(path("/a")));
        frontier.came(0, path("/a"), Came::Failed);
        assert!(!frontier.want(FAILED_SECS - 1, &path("/a"), Wanted::Visited));
        assert!(frontier.want(FAILED_SECS, &path("/a"), Wanted::Visited));
    }

    #[test]
    fn a_trap_of_endless_links_is_bounded() {
        let mut frontier = Frontier::new(100);
        for n in 0..10_000 {
            frontier.want(0, &path(&format!("/{n}")), Wanted::Linked);
            frontier.came(0, path(&format!("/x{n}")), Came::Unfit);
        }
        assert_eq!((frontier.queued.len(), frontier.resting.len()), (50, 100));
        // What visitors come for has its own places.
        assert!(frontier.want(0, &path("/asked"), Wanted::Visited));
        assert_eq!(frontier.next(), Some(path("/asked")));
    }

    #[test]
    fn t55_who_comes_for_what_is_not_there_keeps_nothing_else_from_being_copied() {
        let mut frontier = Frontier::new(10_000);
        for n in 0..1000 {
            frontier.want(0, &path(&format!("/junk{n}")), Wanted::Visited);
        }
        assert_eq!(frontier.queued.len(), VISITED_MAX);
        assert!(frontier.want(0, &path("/part"), Wanted::Part));
        assert!(frontier.want(0, &path("/page"), Wanted::Linked));
        let soon: Vec<_> = (0..4).filter_map(|_| frontier.next()).collect();
        assert!(
            soon.contains(&path("/part")) && soon.contains(&path("/page")),
            "{soon:?}"
        );
    }

    #[test]
    fn what_is_being_asked_for_is_not_asked_for_again() {
        let mut frontier = Frontier::new(10);
        frontier.want(0, &path("/slow"), Wanted::Part);
        assert_eq!(frontier.next(), Some(path("/slow")));
        assert!(frontier.want(1, &path("/slow"), Wanted::Visited));
        assert_eq!(frontier.next(), None);
        frontier.came(2, path("/slow"), Came::Kept { fresh_until: 3 });
        assert!(frontier.want(3, &path("/slow"), Wanted::Part));
        assert_eq!(frontier.next(), Some(path("/slow")));
    }
}
