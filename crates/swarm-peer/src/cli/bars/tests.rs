use super::*;

/// A bundle of ten megabytes in forty pieces, some way on.
fn half() -> Sum {
    Sum {
        have: 17,
        pieces: 40,
        done_bytes: 4_250_000,
        total_bytes: 10_000_000,
        peers: 3,
        down_bytes: 4_300_000,
        down_rate: 1_000_000.0,
        ..Sum::default()
    }
}

fn done() -> Sum {
    Sum {
        have: 40,
        done_bytes: 10_000_000,
        ..half()
    }
}

fn shown(name: &str, sum: Sum) -> Shown {
    Shown {
        name: name.to_owned(),
        id: "0a1b2c".to_owned(),
        sum,
    }
}

fn one(name: &str, sum: Sum, width: usize) -> String {
    let lines = lines("fetching", &[shown(name, sum)], width);
    let [line] = <[String; 1]>::try_from(lines).unwrap();
    line
}

#[test]
fn a_bundle_is_a_bar_with_its_figures() {
    for (sum, width, wanted) in [
        (
            half(),
            100,
            "film.mkv              42% [==========>              ] 4.2 MB/10.0 MB ↓ 8.0 Mbit/s, 3 peers, 6 s left",
        ),
        (
            half(),
            80,
            "film.mkv              42% [========>           ] ↓ 8.0 Mbit/s, 3 peers, 6 s left",
        ),
        (
            half(),
            60,
            "film.mkv              42% [===>     ] ↓ 8.0 Mbit/s, 6 s left",
        ),
        (half(), 40, "film.mkv       42% [====>     ] 6 s left"),
        (half(), 30, "film.mkv    42% [====>      ]"),
        (half(), 20, "film.…  42%"),
        (half(), 3, "… …"),
        (
            done(),
            60,
            "film.mkv             100% [===========] 10.0 MB/10.0 MB done",
        ),
    ] {
        assert_eq!(one("film.mkv", sum, width), wanted);
    }
    let uploads = Sum {
        up_bytes: 1,
        up_rate: 125_000.0,
        peers: 1,
        ..half()
    };
    let line = one("film.mkv", uploads, 120);
    assert!(
        line.ends_with("↓ 8.0 Mbit/s ↑ 1.0 Mbit/s, 1 peer, 6 s left"),
        "{line}"
    );
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in 0..200 {
        for sum in [Sum::default(), half(), done()] {
            for name in [
                "a",
                "a rather long name of a film.mkv",
                "映画映画映画映画映画映画映画映画",
            ] {
                for line in lines("a.site.test", &[shown(name, sum), shown("b", sum)], width) {
                    assert!(columns(&line) <= width, "{width}: {line:?}");
                }
            }
        }
    }
}

#[test]
fn all_of_it_is_done_only_when_all_of_it_is() {
    let almost = Sum {
        done_bytes: 9_999_999,
        ..half()
    };
    let line = one("a", almost, 100);
    assert!(line.contains(" 99% [") && line.contains(">]"), "{line}");
    let line = one("a", done(), 100);
    assert!(line.contains("100% [") && line.contains("==]"), "{line}");
    // Nothing but an empty file was chosen.
    let empty = Sum {
        done_bytes: 0,
        total_bytes: 0,
        ..half()
    };
    let line = one("a", empty, 100);
    assert!(
        line.contains("100% [") && line.ends_with("] done"),
        "{line}"
    );
}

#[test]
fn what_is_not_known_is_not_made_up() {
    let link = Sum {
        unknown: 1,
        peers: 2,
        ..Sum::default()
    };
    let line = one("", link, 80);
    assert!(line.starts_with("0a1b2c "), "{line}");
    assert!(line.contains("  ?% [      "), "{line}");
    assert!(line.ends_with("] metadata, 2 peers"), "{line}");
    // One of two is here whole, of the other nobody knows how much there is.
    let both = lines("site", &[shown("a", done()), shown("b", link)], 100);
    let line = both.last().unwrap();
    assert!(line.starts_with("site (1 of 2) "), "{line}");
    assert!(
        line.contains(" 99% [") && line.contains("10.0 MB/10.0 MB+? "),
        "{line}"
    );
    assert!(!line.contains("done"), "{line}");
}

#[test]
fn nothing_comes_and_no_time_is_told() {
    for down_rate in [0.0, 0.5, f64::NAN] {
        let stalled = Sum {
            down_rate,
            peers: 0,
            ..half()
        };
        let line = one("film.mkv", stalled, 100);
        assert!(line.ends_with(" kbit/s, 0 peers"), "{line}");
    }
    let slow = Sum {
        down_rate: 1.0,
        total_bytes: u64::MAX,
        ..half()
    };
    let line = one("film.mkv", slow, 100);
    assert!(
        line.contains("  0% [ ") && line.ends_with(", ages left"),
        "{line}"
    );
    for (sum, word) in [
        (
            Sum {
                paused: true,
                ..half()
            },
            "paused",
        ),
        (
            Sum {
                checking: true,
                ..half()
            },
            "checking",
        ),
    ] {
        let line = one("film.mkv", sum, 100);
        assert!(
            line.ends_with(&format!("] 4.2 MB/10.0 MB {word}")),
            "{line}"
        );
    }
}

#[test]
fn many_bundles_are_one_bar() {
    let some = |count: usize| -> Vec<Shown> {
        let each = (0..count).map(|n| shown("site.test", if n % 2 == 0 { done() } else { half() }));
        each.collect()
    };
    assert_eq!(lines("site.test", &some(8), 80).len(), 9);
    let all = lines("site.test", &some(9), 80);
    assert_eq!(all.len(), 1);
    assert!(
        all[0].starts_with("site.test (5 of 9)    74% ["),
        "{}",
        all[0]
    );
    let all = lines("a.site.of.a.very.long.name.test", &some(6000), 100);
    assert_eq!(all.len(), 1);
    assert!(
        all[0].starts_with("a.si… (3000 of 6000)  71% ["),
        "{}",
        all[0]
    );
    assert!(
        all[0].contains("] 42.8 GB/60.0 GB ↓ 48.00 Gbit/s, 18000 peers"),
        "{}",
        all[0]
    );
    assert_eq!(lines("nothing", &[], 80).len(), 1);
}

#[test]
fn bundles_of_one_name_are_told_apart() {
    let mut bundles = [
        shown("site", half()),
        shown("site", half()),
        shown("other", half()),
    ];
    bundles[1].id = "ffffff".into();
    let lines = lines("fetching", &bundles, 80);
    let starts: Vec<&str> = lines.iter().map(|line| &line[..12]).collect();
    assert_eq!(
        starts,
        [
            "0a1b2c site ",
            "ffffff site ",
            "other       ",
            "fetching (0 "
        ]
    );
}

#[test]
fn no_name_reaches_the_terminal_with_its_teeth() {
    for name in [
        "\u{1b}[2J\u{1b}]0;owned\u{7}",
        "a\r\nb\tc\u{8}\u{7f}",
        "\u{9b}31m\u{85}",
        "\u{202e}gpj.exe\u{2066}",
        "\u{2028}line",
    ] {
        for line in lines(name, &[shown(name, half()), shown("b", half())], 80) {
            let bad = |c: char| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c);
            assert!(!line.contains(bad), "{line:?}");
            assert!(!line.contains('\u{2066}'), "{line:?}");
        }
    }
    // Wide letters count twice, and half of one is none.
    let line = one(&"映".repeat(300), half(), 61);
    assert!(line.starts_with("映映映映映映映映映…   42% ["), "{line}");
    let line = one(&"x".repeat(100_000), half(), 80);
    assert!(line.starts_with("xxxxxxxxxxxxxxxxxxx…  42% ["), "{line}");
    // A tower of marks takes no more room than two.
    let tower = format!("a{}b", "\u{301}".repeat(100));
    assert!(one(&tower, half(), 80).starts_with("a\u{301}\u{301}b   "));
}
