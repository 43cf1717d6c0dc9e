//! T3: what a stranger's bencode and metainfo cost in memory while they are read, counted by the
//! allocator. Inputs are as long as a .torrent may be, and as nasty as their kind allows.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use peak_alloc::PeakAlloc;
use swarm_proto::bencode::{self, BencodeError, Rules};
use swarm_proto::limits;
use swarm_proto::metainfo::{HybridMismatch, Metainfo, MetainfoError};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// One test at a time: the allocator counts all threads.
static ALONE: Mutex<()> = Mutex::new(());

const LEN: usize = limits::METAINFO_LEN_MAX;

/// What a call returns, and the most bytes that were allocated at a time meanwhile.
fn peak<T>(call: impl FnOnce() -> T) -> (T, usize) {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let done = call();
    (done, ALLOCATOR.peak_usage().saturating_sub(before))
}

fn told(about: &str, len: usize, peak: usize) {
    let times = peak as f64 / len as f64;
    println!("{about:48} {len:9} bytes, {peak:9} at most: {times:.2} times");
}

/// Four letters that rise with the number.
fn name(n: usize) -> String {
    let letter = |place: u32| char::from(b'a' + (n / 26_usize.pow(place) % 26) as u8);
    [3, 2, 1, 0].map(letter).iter().collect()
}

/// As many parts as fit into `room` bytes, at most `most`.
fn fill(room: usize, most: usize, part: impl Fn(usize) -> String) -> String {
    let mut text = String::with_capacity(room);
    for n in 0..most {
        let part = part(n);
        if text.len() + part.len() > room {
            break;
        }
        text.push_str(&part);
    }
    text
}

#[test]
fn t3_bencode_of_any_shape_costs_less_than_twice_its_length_to_read() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let many = |unit: &str| format!("l{}e", unit.repeat((LEN - 2) / unit.len()));
    let most = |unit: &str, tokens: usize| format!("l{}e", unit.repeat(2_999_999 / tokens));
    let depth = limits::METAINFO_DEPTH_MAX - 1;
    let nest = |open: &str, within: &str, times: usize| {
        let (open, close) = (open.repeat(times), "e".repeat(times));
        format!("{open}{within}{close}")
    };
    let key = |n: usize| format!("4:{}0:", name(n));
    let unsorted = |n: usize| format!("4:{}0:", name((n * 7919) % 456_976));
    // Keys in falling order, and behind them the next level.
    let level = format!("d{}4:aaaa", fill(65_000, 9000, |n| key(456_000 - n)));
    let tokens = Err(BencodeError::Tokens { max: 3_000_000 });
    let double = Err(BencodeError::DuplicateKey { at: 0 });
    let too_deep = Err(BencodeError::Depth { max: depth + 1 });
    let deep_dicts = nest("d0:", "de", depth - 1);
    let cases: Vec<(&str, String, Result<(), BencodeError>)> = vec![
        ("integers", many("i0e"), tokens.clone()),
        ("integers, as many as may be", most("i0e", 1), Ok(())),
        ("empty strings, as many as may be", most("0:", 1), Ok(())),
        ("empty lists", many("le"), tokens.clone()),
        ("empty lists, as many as may be", most("le", 1), Ok(())),
        ("empty dictionaries", most("de", 1), Ok(())),
        ("deep lists", many(&nest("l", "", depth)), tokens.clone()),
        (
            "deep lists, as many as may be",
            most(&nest("l", "", depth), depth),
            Ok(()),
        ),
        ("lists too deep", "l".repeat(LEN), too_deep),
        ("deep dictionaries", most(&deep_dicts, 2 * depth), Ok(())),
        (
            "sorted keys",
            format!("d{}e", fill(LEN, 450_000, key)),
            Ok(()),
        ),
        (
            "keys in no order",
            format!("d{}e", fill(LEN, 450_000, unsorted)),
            Ok(()),
        ),
        (
            "double keys, found at the end",
            format!("d{}e", "1:b0:1:a0:".repeat(749_999)),
            double,
        ),
        (
            "unsorted dictionaries in each other",
            format!("{}0:{}", level.repeat(100), "e".repeat(100)),
            Ok(()),
        ),
        (
            "one string",
            format!("{}:{}", LEN - 9, "x".repeat(LEN - 9)),
            Ok(()),
        ),
    ];
    for (about, input, expected) in cases {
        let input = input.into_bytes();
        let (got, most) = peak(|| bencode::decode(&input, &Rules::METAINFO).map(|_| ()));
        told(about, input.len(), most);
        match (&got, &expected) {
            // Where it shows doesn't matter here.
            (Err(got), Err(expected)) => assert_eq!(kind(got), kind(expected), "{about}"),
            _ => assert_eq!(got, expected, "{about}"),
        }
        assert!(most < 2 * input.len(), "{about}: {most} bytes");
    }
}

/// The name of an error without its fields.
fn kind(error: &impl Debug) -> String {
    let text = format!("{error:?}");
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}

/// A .torrent of v1 with these files, all content of which is in one piece.
fn v1(files: &str) -> String {
    let hash = "0123456789abcdefghij";
    format!("d4:infod5:filesl{files}e4:name1:n12:piece lengthi16384e6:pieces20:{hash}ee")
}

/// A .torrent of v2 with this tree and what follows the info dictionary.
fn v2(tree: &str, outside: &str) -> String {
    let info = format!("d9:file treed{tree}e12:meta versioni2e4:name1:n12:piece lengthi16384ee");
    format!("d4:info{info}{outside}e")
}

/// A .torrent with both.
fn hybrid(files: &str, tree: &str) -> String {
    let hash = "0123456789abcdefghij";
    format!(
        "d4:infod9:file treed{tree}e5:filesl{files}e12:meta versioni2e4:name1:n12:piece lengthi16384e6:pieces20:{hash}ee"
    )
}

/// An empty file of v1.
fn empty(name: &str) -> String {
    format!("d6:lengthi0e4:pathl{}:{name}ee", name.len())
}

/// An empty file of v2.
fn leaf(name: &str) -> String {
    format!("{}:{name}d0:d6:lengthi0eee", name.len())
}

/// A file of v2 with content, its root made of the number.
fn full(name: &str, length: u64, root: usize) -> String {
    format!(
        "{}:{name}d0:d6:lengthi{length}e11:pieces root32:{root:032}ee",
        name.len()
    )
}

const ONE_BYTE: &str = "d6:lengthi1e4:pathl4:zzzzee";

/// Room for what stands around files.
const ROOM: usize = LEN - 4096;

#[test]
fn t3_metainfo_that_is_refused_costs_less_than_twice_its_length() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let files = |part: &dyn Fn(usize) -> String| fill(ROOM, usize::MAX, part);
    let small = files(&|n| empty(&name(n)));
    let leaves = fill(ROOM, 399_000, |n| leaf(&name(n)));
    let half = fill(ROOM / 2, 450_000, |n| empty(&name(n)));
    let count = half.len() / empty("aaaa").len();
    let half_leaves: String = (0..count).map(|n| leaf(&name(n))).collect();
    let roots = |last: &str| fill(ROOM, 450_000, |n| full(&name(n), 16_385, n + 1)) + last;
    let dirs = |n| {
        let parents = "1:a".repeat(8);
        format!("d6:lengthi0e4:pathl4:{}{parents}1:fee", name(n))
    };
    let deep = |file: &str| format!("{}{file}{}", "1:ad".repeat(101), "e".repeat(101));
    let long = "x".repeat(255);
    let long = format!(
        "{}{}{}",
        format!("255:{long}d").repeat(15),
        fill(ROOM - 9000, 450_000, |n| leaf(&name(n))),
        "e".repeat(15)
    );
    let pads = "d4:attr1:p6:lengthi0ee".repeat(limits::FILES_MAX + 1);
    let layer = format!(
        "12:piece layersd32:{:032}9600000:{}e",
        1,
        "x".repeat(9_600_000)
    );
    let mismatch = HybridMismatch::Path(0);
    let cases: Vec<(&str, String, MetainfoError)> = vec![
        (
            "too long",
            v1(&(small.clone() + &small)),
            MetainfoError::TooLong(0),
        ),
        (
            "more files than may be",
            v1(&pads),
            MetainfoError::FileCount,
        ),
        ("nothing but empty files", v1(&small), MetainfoError::Empty),
        (
            "a bad length at the end",
            v1(&(small.clone() + "d6:lengthi-1e4:pathl1:aee")),
            MetainfoError::FileLength(-1),
        ),
        (
            "no path at the end",
            v1(&(small.clone() + "d6:lengthi1ee")),
            MetainfoError::Missing("path"),
        ),
        (
            "pieces of another length",
            v1(&(small.clone() + "d6:lengthi20000e4:pathl1:aee")),
            MetainfoError::PiecesLength {
                expected: 40,
                got: 20,
            },
        ),
        (
            "files of one name",
            v1(&(files(&|_| empty("aaaa")) + ONE_BYTE)),
            MetainfoError::DuplicateNames,
        ),
        (
            "directories and directories",
            v1(&(files(&dirs) + ONE_BYTE)),
            MetainfoError::PathsLength,
        ),
        (
            "a tree of empty files",
            v2(&leaves, ""),
            MetainfoError::Empty,
        ),
        (
            "a tree too deep",
            v2(&deep(&leaves.clone()), ""),
            MetainfoError::Path,
        ),
        (
            "a tree of long names",
            v2(&long, ""),
            MetainfoError::PathsLength,
        ),
        (
            "a tree out of order",
            v2(&(leaves.clone() + &leaf("a")), ""),
            MetainfoError::TreeOrder,
        ),
        (
            "a root that stands for two lengths",
            v2(&roots(&full("zzzz", 17_000, 1)), ""),
            MetainfoError::RootReused,
        ),
        (
            "a false layer",
            v2(&full("a", 4_915_200_000, 1), &layer),
            MetainfoError::LayerRoot,
        ),
        (
            "a hybrid of two kinds",
            hybrid(&half, &half_leaves.replacen("4:aaaa", "4:aaa0", 1)),
            mismatch.into(),
        ),
        (
            "a hybrid with a file more",
            hybrid(&(half.clone() + ONE_BYTE), &half_leaves),
            HybridMismatch::FileCount {
                v1: count + 1,
                v2: count,
            }
            .into(),
        ),
    ];
    for (about, input, expected) in cases {
        let input = input.into_bytes();
        let (got, most) = peak(|| Metainfo::parse(&input).map(|_| ()));
        told(about, input.len(), most);
        let error = got.expect_err(about);
        match expected {
            MetainfoError::TooLong(_) => assert_eq!(kind(&error), "TooLong"),
            expected => assert_eq!(error, expected, "{about}"),
        }
        assert!(most < 2 * input.len(), "{about}: {most} bytes");
    }
}

#[test]
fn t3_metainfo_that_is_taken_costs_no_more_than_a_dozen_times_its_length() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let small = fill(ROOM / 4, 380_000, |n| empty(&name(n)));
    let leaves = fill(ROOM / 4, 199_000, |n| full(&name(n), 1, n + 1));
    let deep = fill(ROOM / 4, 450_000, |n| {
        let parents = "1:a".repeat(12);
        format!("d6:lengthi0e4:pathl{parents}4:{}ee", name(n))
    });
    let wide = fill(ROOM / 4, 450_000, |n| full(&name(n), 16_385, n + 1));
    let long = "x".repeat(60);
    let long = format!(
        "{}{}{}",
        format!("60:{long}d").repeat(4),
        leaves,
        "e".repeat(4)
    );
    for (about, input) in [
        (
            "v1, as many files as there is room for",
            v1(&(small.clone() + ONE_BYTE)),
        ),
        ("v1, deep paths", v1(&(deep + ONE_BYTE))),
        ("v2, as many files with padding", v2(&leaves, "")),
        ("v2, in one long path", v2(&long, "")),
        ("v2, all with layers", v2(&wide, "")),
    ] {
        let input = input.into_bytes();
        let (got, most) = peak(|| Metainfo::parse(&input));
        told(about, input.len(), most);
        got.expect(about);
        assert!(most < 12 * input.len(), "{about}: {most} bytes");
    }
}
