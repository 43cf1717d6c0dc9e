//! How much of the tracker one place on the network may use in a second.
//!
//! Pure: time is an argument, chance comes from a seed.

use std::net::{IpAddr, Ipv6Addr};

use siphasher::sip::SipHasher13;

/// Places told apart. Two that fall on one number share a budget; nobody can choose whose, as the
/// hash has a key.
const NUMBERS: usize = 1 << 16;

/// What one customer of a provider has: an IPv4 address, or an IPv6 /64.
pub(crate) fn place_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// What each place has used in this second. 512 KiB, whoever asks.
pub(crate) struct Budgets {
    key: SipHasher13,
    per_second: u32,
    /// Second and use, by number of the place.
    used: Box<[(u32, u32)]>,
}

impl std::fmt::Debug for Budgets {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budgets").finish_non_exhaustive()
    }
}

impl Budgets {
    /// Budgets of `per_second` for each place, spread by a secret `seed`.
    pub(crate) fn new(per_second: u32, seed: [u8; 16]) -> Self {
        Self {
            key: SipHasher13::new_with_key(&seed),
            per_second,
            used: vec![(0, 0); NUMBERS].into(),
        }
    }

    /// Takes `cost` of what the place of `source` has in the second `now`; `false` where it has
    /// not so much left. This host itself always has.
    pub(crate) fn take(&mut self, now: u32, source: IpAddr, cost: u32) -> bool {
        if source.is_loopback() {
            return true;
        }
        let hash = match place_of(source) {
            IpAddr::V4(ip) => self.key.hash(&ip.octets()),
            IpAddr::V6(ip) => self.key.hash(&ip.octets()),
        };
        let Some(used) = self.used.get_mut(hash as usize % NUMBERS) else {
            return false;
        };
        if used.0 != now {
            *used = (now, 0);
        }
        let after = used.1.saturating_add(cost);
        let enough = after <= self.per_second;
        if enough {
            used.1 = after;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn taken(budgets: &mut Budgets, now: u32, source: &str, cost: u32) -> usize {
        (0..5000)
            .filter(|_| budgets.take(now, ip(source), cost))
            .count()
    }

    #[test]
    fn t20_one_place_has_so_much_a_second_and_no_more() {
        let mut budgets = Budgets::new(100, [3; 16]);
        assert_eq!(taken(&mut budgets, 7, "192.0.2.1", 1), 100);
        assert_eq!(
            taken(&mut budgets, 7, "192.0.2.2", 9),
            11,
            "what is left is too little"
        );
        assert_eq!(taken(&mut budgets, 7, "192.0.2.2", 1), 1);
        assert_eq!(
            taken(&mut budgets, 8, "192.0.2.1", 1),
            100,
            "the next second"
        );
        // A customer has a /64.
        assert_eq!(taken(&mut budgets, 8, "2001:db8::1", 1), 100);
        assert_eq!(taken(&mut budgets, 8, "2001:db8::ffff:9", 1), 0);
        assert_eq!(taken(&mut budgets, 8, "2001:db8:0:1::1", 1), 100);
        assert_eq!(taken(&mut budgets, 8, "127.0.0.1", 1), 5000, "this host");
        assert_eq!(taken(&mut budgets, 8, "::1", 1), 5000, "this host");
    }

    #[test]
    fn few_share_a_budget_and_nobody_can_choose_with_whom() {
        let shared = |seed: u8| {
            let mut budgets = Budgets::new(1, [seed; 16]);
            let places = (0..1000_u32).map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
            let refused = places.filter(|place| !budgets.take(1, *place, 1));
            refused.collect::<Vec<IpAddr>>()
        };
        let (one, other) = (shared(1), shared(2));
        assert!(one.len() < 30 && other.len() < 30, "{one:?} {other:?}");
        assert_ne!(one, other);
    }
}
