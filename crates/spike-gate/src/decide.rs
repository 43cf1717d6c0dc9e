//! What happens to a request: a pure function of its facts, the state and what the swarm holds.

use std::time::Instant;

use http::Method;

use crate::assets::{Asset, Assets, Kind};
use crate::bridges::{LiveBridge, Spread};
use crate::csp::PolicyBook;
use crate::facts::{Dest, Facts};
use crate::overload::State;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// To the origin, and its answer back as it is.
    Pass,
    /// To the origin for an uncompressed page, and its tags point to bridges.
    Rewrite {
        /// Whether the invitation is added: in pages of their own, not in frames.
        banner: bool,
    },
    /// Something large that a bridge could serve, but none is there yet: it waits for its turn
    /// at home, or for a bridge, whichever comes first.
    Wait {
        /// Bytes of it.
        bytes: u64,
    },
    /// `302` to a bridge.
    Redirect {
        /// The whole address.
        location: String,
        /// Bytes that need not leave here.
        bytes: u64,
        /// The bridge's prefix, for the count.
        bridge: String,
    },
}

/// What the gate knows at this moment.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Where the gate stands.
    pub state: State,
    /// What is published.
    pub assets: &'a Assets,
    /// Who answers for it.
    pub bridges: &'a [LiveBridge],
    /// Whether visitors come by https: their browsers load nothing from plain http then.
    pub secure: bool,
    /// The site's host name without port. Cookies ignore ports, so a request that has some is
    /// not sent to another port of the same host.
    pub host: &'a str,
    /// Path prefixes that stay home.
    pub keep: &'a [String],
}

impl<'a> View<'a> {
    /// Whether the operator keeps `asset` home.
    fn keeps(&self, asset: &Asset) -> bool {
        self.keep
            .iter()
            .any(|prefix| asset.url_path.starts_with(prefix.as_str()))
    }

    /// Bridges that may get `asset` from a browser with or without cookies.
    pub fn candidates(&self, asset: &Asset, cookie: bool) -> Vec<&'a LiveBridge> {
        if self.keeps(asset) {
            return Vec::new();
        }
        self.bridges
            .iter()
            .filter(|bridge| bridge.serves(asset))
            .filter(|bridge| bridge.secure || !self.secure)
            .filter(|bridge| !cookie || !bridge.host.eq_ignore_ascii_case(self.host))
            .collect()
    }
}

/// Files below this length never wait: what they cost is the round trip.
const WAIT_LEN: u64 = 16 * 1024;

/// Decides. `policies` are the pages' own; what is sent away is booked on `spread`.
pub fn decide(
    facts: &Facts,
    view: &View<'_>,
    policies: &PolicyBook,
    spread: &mut Spread,
    now: Instant,
) -> Decision {
    if !view.state.in_need() || facts.upgrade || facts.authorized || facts.sent_home {
        return Decision::Pass;
    }
    if !matches!(facts.method, Method::GET | Method::HEAD) {
        return Decision::Pass;
    }
    if let Some(decision) = redirect(facts, view, policies, spread, now) {
        return decision;
    }
    if view.state != State::Spike || view.bridges.is_empty() {
        return Decision::Pass;
    }
    match facts.dest {
        _ if facts.method != Method::GET || facts.range.is_some() || facts.scripted => {
            Decision::Pass
        }
        Dest::Document => Decision::Rewrite { banner: true },
        Dest::Frame => Decision::Rewrite { banner: false },
        Dest::Absent if facts.accepts_html => Decision::Rewrite { banner: true },
        _ => Decision::Pass,
    }
}

fn redirect(
    facts: &Facts,
    view: &View<'_>,
    policies: &PolicyBook,
    spread: &mut Spread,
    now: Instant,
) -> Option<Decision> {
    if facts.query || facts.scripted || facts.foreign {
        return None;
    }
    let asset = view.assets.get(facts.path.as_ref()?.as_str())?;
    if !may_be_redirected(facts, asset) {
        return None;
    }
    let wait = (asset.length >= WAIT_LEN && facts.method == Method::GET && !view.keeps(asset))
        .then_some(Decision::Wait {
            bytes: asset.length,
        });
    if view.state != State::Spike {
        return wait;
    }
    let candidates: Vec<_> = view
        .candidates(asset, facts.cookie)
        .into_iter()
        .filter(|bridge| {
            let used_as = match facts.dest {
                // A navigation is bound by no page's policy.
                Dest::Document => return true,
                Dest::Image => Kind::Image,
                Dest::Font => Kind::Font,
                Dest::Media => Kind::Media,
                _ => asset.kind,
            };
            policies.allows(facts.referer.as_deref(), used_as, bridge)
        })
        .collect();
    let bytes = match (&facts.method, facts.range) {
        (&Method::HEAD, _) => 0,
        (_, Some(Some(length))) => length.min(asset.length),
        _ => asset.length,
    };
    let Some(bridge) = spread.choose(now, asset, bytes, &candidates) else {
        return wait;
    };
    Some(Decision::Redirect {
        location: bridge.url_of(asset),
        bytes,
        bridge: bridge.prefix.clone(),
    })
}

/// Scripts, styles and pages never, whatever they are asked for as: a redirected script would run
/// a stranger's code in the site's origin. Else the browser knows best what it wants a file for.
fn may_be_redirected(facts: &Facts, asset: &Asset) -> bool {
    let heavy = matches!(
        asset.kind,
        Kind::Image | Kind::Font | Kind::Media | Kind::Download
    );
    heavy
        && match facts.dest {
            Dest::Image | Dest::Font | Dest::Media => true,
            Dest::Document => facts.navigation,
            // A script may have any name, and is asked for with `*/*`.
            Dest::Absent => match asset.kind {
                Kind::Image => facts.accepts_image,
                Kind::Download => facts.accepts_html,
                _ => true,
            },
            Dest::Frame | Dest::Other => false,
        }
}

#[cfg(test)]
mod tests;
