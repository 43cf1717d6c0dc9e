//! Connection tokens that need no memory: who shows one was sent it at that address.
//!
//! A token is a keyed hash of the asker's address, and so cannot be guessed, nor be used from
//! elsewhere. Its lowest two bits say which key made it; the key says when, as there is a new one
//! each minute and none outlives three.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use siphasher::sip::SipHasher24;

use super::ConnectionToken;

/// How long a key makes tokens.
const PERIOD: Duration = Duration::from_secs(60);

/// Keys at a time: that of this period and the two before, so that a token lives between two and
/// three minutes. BEP 15 asks for two.
const KEYS: usize = 3;

/// One more than there are keys at a time, so that a number is free when its turn comes again.
const NUMBERS: u64 = 4;

/// Makes tokens, and knows its own again.
pub struct TokenMint {
    keys: [Option<SipHasher24>; NUMBERS as usize],
    /// Of the key that makes tokens now.
    newest: u64,
    /// When it is replaced.
    due: Instant,
}

impl std::fmt::Debug for TokenMint {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenMint").finish_non_exhaustive()
    }
}

impl TokenMint {
    /// A mint with one key. `seed` must be unknown to everybody else, here and at each
    /// [`handle_timeout`](Self::handle_timeout): who knows it can forge any address.
    pub fn new(now: Instant, seed: [u8; 16]) -> Self {
        let mut mint = Self {
            keys: [None; NUMBERS as usize],
            newest: 0,
            due: now + PERIOD,
        };
        mint.put(Some(seed));
        mint
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub const fn poll_timeout(&self) -> Instant {
        self.due
    }

    /// Takes up a new key and forgets the oldest; does nothing before
    /// [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, now: Instant, seed: [u8; 16]) {
        let Some(late) = now.checked_duration_since(self.due) else {
            return;
        };
        // Periods in which nobody called: their keys would have been forgotten by now.
        let missed = (late.as_secs() / PERIOD.as_secs()).min(KEYS as u64);
        for _ in 0..missed {
            self.put(None);
        }
        self.put(Some(seed));
        self.due = now + PERIOD;
    }

    fn put(&mut self, seed: Option<[u8; 16]>) {
        self.newest = (self.newest + 1) % NUMBERS;
        let next = (self.newest + 1) % NUMBERS;
        for (number, key) in (0..).zip(&mut self.keys) {
            if number == self.newest {
                *key = seed.map(|seed| SipHasher24::new_with_key(&seed));
            } else if number == next {
                *key = None;
            }
        }
    }

    /// The token for whoever asks from `source`. The port is not in it: clients take another for
    /// each packet, and so do the routers before them.
    pub fn token(&self, source: IpAddr) -> ConnectionToken {
        self.made(self.newest, source)
            // The newest key is there from `new` on.
            .unwrap_or(ConnectionToken(0))
    }

    /// Whether this token was made here for `source`, not too long ago.
    pub fn knows(&self, source: IpAddr, token: ConnectionToken) -> bool {
        self.made(token.0 % NUMBERS, source) == Some(token)
    }

    fn made(&self, number: u64, source: IpAddr) -> Option<ConnectionToken> {
        let key = self.keys.get(number as usize)?.as_ref()?;
        let address = match source {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let hash = key.hash(&Ipv6Addr::octets(&address));
        Some(ConnectionToken(hash / NUMBERS * NUMBERS + number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u8; 16] = [7; 16];

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn at(began: Instant, secs: u64) -> Instant {
        began + Duration::from_secs(secs)
    }

    #[test]
    fn t13_a_token_is_good_for_its_address_only() {
        let began = Instant::now();
        let mint = TokenMint::new(began, SEED);
        let all = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"].map(ip);
        for owner in all {
            let token = mint.token(owner);
            for user in all {
                assert_eq!(mint.knows(user, token), user == owner, "{owner} {user}");
            }
            for bit in 0..64 {
                let changed = ConnectionToken(token.0 ^ (1 << bit));
                assert!(!mint.knows(owner, changed), "bit {bit}");
            }
        }
        // The two ways to write one address are one.
        assert!(mint.knows(ip("::ffff:192.0.2.1"), mint.token(ip("192.0.2.1"))));
        let stranger = TokenMint::new(began, [8; 16]);
        assert!(!mint.knows(all[0], stranger.token(all[0])), "another's key");
    }

    #[test]
    fn t13_guessed_tokens_are_never_right() {
        let mint = TokenMint::new(Instant::now(), SEED);
        let source = ip("192.0.2.1");
        let mut guess = 0x9e37_79b9_7f4a_7c15_u64;
        for n in 0..100_000_u64 {
            guess = guess.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(n);
            for token in [guess, n] {
                assert!(!mint.knows(source, ConnectionToken(token)));
            }
        }
    }

    #[test]
    fn t13_a_token_lives_two_minutes_and_not_four() {
        let began = Instant::now();
        let source = ip("192.0.2.1");
        for asked_at in [0, 1, 59] {
            let mut mint = TokenMint::new(began, SEED);
            let token = mint.token(source);
            for secs in asked_at + 1..300 {
                let now = at(began, secs);
                if mint.poll_timeout() <= now {
                    mint.handle_timeout(now, [secs as u8; 16]);
                }
                let age = secs - asked_at;
                let known = mint.knows(source, token);
                assert!(known || age >= 120, "{age} s, asked at {asked_at}");
                assert!(!known || age <= 180, "{age} s, asked at {asked_at}");
            }
        }
    }

    #[test]
    fn keys_are_forgotten_however_late_their_time_comes() {
        let began = Instant::now();
        let source = ip("192.0.2.1");
        for (late, known) in [
            (60, true),
            (119, true),
            (120, true),
            (180, false),
            (9999, false),
        ] {
            let mut mint = TokenMint::new(began, SEED);
            let token = mint.token(source);
            mint.handle_timeout(at(began, late), [1; 16]);
            assert_eq!(mint.knows(source, token), known, "after {late} s");
            assert!(mint.knows(source, mint.token(source)));
            assert_eq!(mint.poll_timeout(), at(began, late + 60));
        }
        let mut mint = TokenMint::new(began, SEED);
        let token = mint.token(source);
        mint.handle_timeout(at(began, 59), [1; 16]);
        assert_eq!(mint.token(source), token, "nothing before it is due");
    }
}
