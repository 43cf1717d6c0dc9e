//! Where a connection stands: handshake, choke and interest.
//!
//! ```text
//!             dialled: our handshake goes out first
//!                  │
//!                  ▼                68 good bytes                 error, time-out,
//!   new ─────▶ Greeting ──────────────────────────────▶ Open ─────end, command────▶ closed
//!                  │      (called: ours goes out now)                                  ▲
//!                  └──────── another protocol, unknown swarm, 10 s ────────────────────┘
//!
//!   in Open, for each direction on its own:
//!
//!     choked ◀──── choke ──── unchoked          not interested ◀──── not interested ──── interested
//!        └────── unchoke ────────▲                     └──────────── interested ─────────────▲
//! ```
//! Both directions start choked and not interested (BEP 3).

use std::time::Instant;

use crate::wire::ReservedBits;

/// Handshake state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The peer's handshake is not through.
    Greeting {
        /// When patience ends.
        until: Instant,
    },
    /// Messages flow.
    Open {
        /// What both sides can do.
        agreed: ReservedBits,
    },
}

impl Phase {
    pub(super) fn agreed(&self) -> ReservedBits {
        match self {
            Phase::Greeting { .. } => ReservedBits::NONE,
            Phase::Open { agreed } => *agreed,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self, Phase::Open { .. })
    }
}

/// Choke and interest, both ways, and whether we will ever be interested.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    pub(super) we_choke: bool,
    pub(super) we_want: bool,
    pub(super) peer_chokes: bool,
    pub(super) peer_wants: bool,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            we_choke: true,
            we_want: false,
            peer_chokes: true,
            peer_wants: false,
        }
    }
}
