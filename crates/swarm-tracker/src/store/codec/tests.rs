use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use swarm_proto::manifest::SecretKey;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use swarm_proto::id::{Digest, SwarmId};
use swarm_proto::manifest::{PublicKey, SiteName, SitePath};
use swarm_proto::tracker::BridgeOffer;

use super::*;
use crate::registry::Shown;
use crate::registry::shared::{Barred, Barring, BridgeId, Lie, PeerState, SharedOffer, Visits};

fn swarm() -> impl Strategy<Value = SwarmId> {
    // Few, so that some have many peers.
    (0..3_u8).prop_map(|n| SwarmId::new([n; 20]))
}

fn ip() -> impl Strategy<Value = IpAddr> {
    let v4 = (1..u32::MAX).prop_map(|n| Ipv4Addr::from(n).into());
    let v6 = (1..u128::MAX).prop_map(|n| IpAddr::from(Ipv6Addr::from(n)).to_canonical());
    prop_oneof![v4, v6]
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (ip(), 1..=u16::MAX).prop_map(SocketAddr::from)
}

fn key() -> impl Strategy<Value = PublicKey> {
    any::<u8>().prop_map(|n| SecretKey::new([n; 32]).public())
}

fn bridge() -> impl Strategy<Value = BridgeId> {
    (address(), key()).prop_map(|(address, key)| BridgeId { address, key })
}

fn site() -> impl Strategy<Value = SiteName> {
    "[a-z]{1,20}\\.[a-z]{2,9}(:81)?".prop_map(|name| SiteName::parse(&name).expect("a name"))
}

fn path() -> impl Strategy<Value = SitePath> {
    "(/[a-zA-Zäé%x ]{1,9}){1,4}/?"
        .prop_filter_map("a path", |path| SitePath::from_decoded(&path).ok())
}

fn peer() -> impl Strategy<Value = PeerChange> {
    let state = prop_oneof![
        Just(PeerState::Seed),
        Just(PeerState::Leech),
        Just(PeerState::Gone)
    ];
    let age = prop_oneof![Just(0), any::<u32>()];
    let parts = (swarm(), address(), state, any::<bool>(), any::<bool>(), age);
    parts.prop_map(|(swarm, peer, state, bridge, completed, age)| PeerChange {
        swarm,
        peer,
        state,
        bridge,
        completed,
        age,
    })
}

fn offer() -> impl Strategy<Value = Change> {
    let number = || option::of(any::<u64>());
    let terms = (number(), number(), number());
    let domain = option::of("[a-z0-9-]{1,30}(\\.[a-z]{2,9}){0,3}");
    let parts = (
        swarm(),
        address(),
        1..=u16::MAX,
        key(),
        terms,
        domain,
        any::<bool>(),
        any::<u32>(),
    );
    parts.prop_map(|(swarm, peer, port, key, terms, domain, proven, age)| {
        let (until, hits, rate) = terms;
        Change::Offer(Box::new(SharedOffer {
            swarm,
            peer,
            offer: BridgeOffer {
                domain,
                until,
                hits,
                rate,
                key: Some(key),
                ..BridgeOffer::new(port)
            },
            proven,
            age,
        }))
    })
}

fn barring() -> impl Strategy<Value = Barring> {
    let barred = prop_oneof![
        address().prop_map(Barred::Door),
        key().prop_map(Barred::Key),
        ip().prop_map(Barred::Place),
    ];
    let lie = (site(), path(), any::<[u8; 32]>(), "[a-z/+]{0,127}");
    let lie = lie.prop_map(|(site, path, digest, media_type)| Lie {
        site,
        path,
        shown: Shown {
            digest: Digest::new(digest),
            media_type,
        },
    });
    let parts = (barred, option::of(lie), any::<u32>());
    parts.prop_map(|(barred, lie, left)| Barring { barred, lie, left })
}

fn change() -> impl Strategy<Value = Change> {
    let visits = (bridge(), any::<u32>(), any::<u64>(), site(), path());
    prop_oneof![
        offer(),
        (swarm(), address()).prop_map(|(swarm, peer)| Change::Withdrawn { swarm, peer }),
        bridge().prop_map(Change::Proven),
        bridge().prop_map(Change::Unproven),
        bridge().prop_map(Change::Doubted),
        barring().prop_map(|barring| Change::Barred(Box::new(barring))),
        visits.prop_map(|(bridge, count, bits, site, path)| {
            Change::Visits(Box::new(Visits {
                bridge,
                count,
                bits,
                page: (site, path),
            }))
        }),
        site().prop_map(Change::Site),
        site().prop_map(Change::Alarm),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        writer in any::<Writer>(),
        peers in vec(peer(), 0..200),
        others in vec(change(), 0..50),
    ) {
        let entries = encode(&writer, &mut peers.clone(), &others);
        let mut read = (Vec::new(), Vec::new());
        for entry in &entries {
            let entry = decode(entry).expect("we wrote it");
            prop_assert_eq!(entry.writer, writer);
            read.0.extend(entry.peers);
            read.1.extend(entry.others);
        }
        // In order, swarm by swarm.
        let mut sorted = peers;
        sorted.sort_by_key(|peer| peer.swarm);
        prop_assert_eq!(read, (sorted, others));
    }

    #[test]
    fn rubbish_is_refused_and_never_panics(
        bytes in vec(any::<u8>(), 0..500),
        version in prop_oneof![Just(VERSION), any::<u8>()],
    ) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = version;
        }
        if let Ok(entry) = decode(&bytes) {
            // Nothing is made of less than it takes to say it.
            prop_assert!(entry.peers.len() * 7 + entry.others.len() <= bytes.len());
        }
        let _ = decode_barring(&bytes, 5);
    }

    #[test]
    fn what_was_cut_off_or_changed_is_no_panic_either(
        peers in vec(peer(), 1..20),
        others in vec(change(), 0..9),
        cut in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let mut entry = encode(&[1; 16], &mut peers.clone(), &others).remove(0);
        let whole = decode(&entry).expect("we wrote it");
        let cut = &entry[..cut.index(entry.len())];
        if let Ok(less) = decode(cut) {
            // Where it ended between two changes.
            prop_assert!(whole.others.starts_with(&less.others));
            prop_assert!(less.peers.len() + less.others.len() < peers.len() + others.len());
        }
        let at = at.index(entry.len());
        entry[at] ^= 1 << bit;
        if let Ok(other) = decode(&entry) {
            prop_assert_ne!(other, whole);
        }
    }

    #[test]
    fn a_barring_is_kept_without_its_time(barring in barring(), left in any::<u32>()) {
        let bytes = encode_barring(&barring);
        let other = Barring { left: 1, ..barring.clone() };
        prop_assert_eq!(&bytes, &encode_barring(&other), "one thing has one form");
        prop_assert_eq!(decode_barring(&bytes, left), Ok(Barring { left, ..barring }));
    }
}

fn v4(n: u32) -> PeerChange {
    PeerChange {
        swarm: SwarmId::new([1; 20]),
        peer: SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + n), 6881)),
        state: PeerState::Leech,
        bridge: false,
        completed: false,
        age: 0,
    }
}

#[test]
fn a_crowd_takes_seven_bytes_a_peer_in_entries_of_bounded_length() {
    let mut peers: Vec<PeerChange> = (0..100_000).map(v4).collect();
    let entries = encode(&[1; 16], &mut peers, &[]);
    assert_eq!(entries.len(), 3);
    let bytes: usize = entries.iter().map(Vec::len).sum();
    assert!(bytes < 700_500, "{bytes}");
    let mut read = 0;
    for entry in &entries {
        assert!(entry.len() <= ENTRY_LEN + 100, "{}", entry.len());
        read += decode(entry).expect("we wrote it").peers.len();
    }
    assert_eq!(read, 100_000);
}

#[test]
fn a_peer_that_no_reader_takes_does_not_spoil_the_others() {
    let odd = PeerChange {
        peer: SocketAddr::from(([10, 0, 0, 9], 0)),
        ..v4(0)
    };
    let nowhere = PeerChange {
        peer: SocketAddr::from(([0, 0, 0, 0], 5)),
        ..v4(0)
    };
    let entries = encode(&[1; 16], &mut vec![odd, v4(1), nowhere], &[]);
    assert_eq!(
        decode(&entries[0]).map(|entry| entry.peers),
        Ok(vec![v4(1)])
    );
}

#[test]
fn a_lie_that_no_manifest_could_excuse_is_told_without_an_excuse() {
    let lie = Lie {
        site: SiteName::parse("example.org").expect("a name"),
        path: SitePath::parse("/a").expect("a path"),
        shown: Shown {
            digest: Digest::new([1; 32]),
            media_type: "x".repeat(200),
        },
    };
    let barring = Barring {
        barred: Barred::Key(SecretKey::new([1; 32]).public()),
        lie: Some(lie),
        left: 9,
    };
    let told = decode_barring(&encode_barring(&barring), 9);
    assert_eq!(
        told,
        Ok(Barring {
            lie: None,
            ..barring
        })
    );
}

#[test]
fn bad_entries_are_named() {
    let head = |rest: &[u8]| [&[VERSION][..], &[7; 16], rest].concat();
    let peers = |rest: &[u8]| head(&[&[kind::PEERS][..], &[1; 20], rest].concat());
    let key = SecretKey::new([1; 32]).public();
    let offer = |flags: u8, rest: &[u8]| {
        let address = [4, 10, 0, 0, 1, 0x10, 0];
        let parts = [&[kind::OFFER][..], &[1; 20], &address, &[0x1f, 0x90]];
        head(
            &[
                &parts.concat(),
                &key.as_bytes()[..],
                &[0; 4],
                &[flags],
                rest,
            ]
            .concat(),
        )
    };
    assert!(decode(&offer(0, &[])).is_ok());
    for (bytes, error) in [
        (vec![], Damaged::CutOff),
        (vec![2; 40], Damaged::Version),
        (vec![VERSION; 16], Damaged::CutOff),
        (vec![0; ENTRY_LEN_MAX + 1], Damaged::TooLong),
        (head(&[0]), Damaged::Bad("kind")),
        (head(&[11]), Damaged::Bad("kind")),
        (peers(&[0, 0]), Damaged::Bad("count")),
        (peers(&[0, 1]), Damaged::CutOff),
        (peers(&[0xff, 0xff, 0, 10, 0, 0, 1, 1, 1]), Damaged::CutOff),
        (peers(&[0, 1, 64, 10, 0, 0, 1, 1, 1]), Damaged::Bad("flags")),
        (peers(&[0, 1, 3, 10, 0, 0, 1, 1, 1]), Damaged::Bad("flags")),
        (peers(&[0, 1, 0, 10, 0, 0, 1, 0, 0]), Damaged::Bad("port")),
        (peers(&[0, 1, 0, 0, 0, 0, 0, 1, 1]), Damaged::Bad("address")),
        (
            peers(&[0, 1, 32, 0, 0, 0, 0, 10, 0, 0, 1, 1, 1]),
            Damaged::Bad("age"),
        ),
        (offer(32, &[]), Damaged::Bad("flags")),
        (offer(flag::DOMAIN, &[0, 0]), Damaged::Bad("domain")),
        (offer(flag::DOMAIN, b"\0\x05a..bc"), Damaged::Bad("domain")),
        (offer(flag::DOMAIN, b"\0\x05a/b.c"), Damaged::Bad("domain")),
        (
            offer(flag::DOMAIN, b"\0\x05a\r\n.c"),
            Damaged::Bad("domain"),
        ),
        (offer(flag::DOMAIN, b"\0\xff"), Damaged::Bad("text")),
        (offer(flag::UNTIL, &[0; 7]), Damaged::CutOff),
        (head(b"\x09\0\x02A."), Damaged::Bad("site")),
        (head(b"\x04\x04\x0a\0\0\x01\x01\x01"), Damaged::CutOff),
        (head(b"\x07\x04"), Damaged::Bad("barring")),
        (
            head(&[&b"\x04\x04\x0a\0\0\x01\x01\x01"[..], &[0; 32]].concat()),
            Damaged::Bad("key"),
        ),
    ] {
        assert_eq!(decode(&bytes).expect_err("refused"), error, "{bytes:?}");
    }
    // IPv4-mapped: one peer would have two spellings.
    let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets();
    let mapped = peers(&[&[0, 1, flag::V6][..], &mapped, &[1, 1]].concat());
    assert_eq!(decode(&mapped), Err(Damaged::Bad("address")));
}
