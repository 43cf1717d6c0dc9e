//! Bars of progress, as a terminal is shown them.

use std::path::Path;

use swarm_e2e::Proc;
use swarm_e2e::process::Ended;

use crate::{publish, seed, text};

/// Runs a program at a terminal of 24 lines and 100 columns, and gives on what it shows.
const AT_TERMINAL: &str = "
import fcntl, os, pty, struct, sys, termios
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 100, 0, 0))
    os.execvp(sys.argv[1], sys.argv[1:])
while True:
    try:
        part = os.read(terminal, 65536)
    except OSError:
        break
    if not part:
        break
    sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

fn at_terminal(args: &[&str]) -> Ended {
    let program = swarm_e2e::bin("swarm-peer");
    let mut all = vec!["-c", AT_TERMINAL, text(&program)];
    all.extend(args);
    swarm_e2e::process::run_program(Path::new("/usr/bin/python3"), all)
}

/// The lines that were shown one after the other, without what moves the cursor.
fn lines(shown: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut chars = shown.chars();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            plain.push(c);
            continue;
        }
        assert_eq!(
            chars.next(),
            Some('['),
            "a sequence that is none of ours: {shown:?}"
        );
        let end = chars.by_ref().find(|c| c.is_ascii_alphabetic());
        if end != Some('m') {
            plain.push('\n');
        }
    }
    let lines = plain.split(['\n', '\r']).map(str::trim_end);
    lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_bar_grows_until_it_is_complete() {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    std::fs::create_dir_all(&root).expect("a folder");
    let film: Vec<u8> = (0..3_000_000_u32)
        .map(|n| (n.wrapping_mul(n) >> 11) as u8)
        .collect();
    std::fs::write(root.join("film.bin"), &film).expect("a file");
    let published = publish(scratch.path(), "http://bar.test", &root, &[]);
    let (_seed, peer): (Proc, _) = seed(&[text(&published.out)], &[]);
    let torrents = published.torrents();
    let out = scratch.path().join("out");
    let ended = at_terminal(&[
        "fetch",
        text(&torrents[0]),
        "--out",
        text(&out),
        "--peer",
        &peer,
        "--down",
        "10Mbit",
        "--timeout",
        "60s",
    ]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert!(std::fs::read(out.join("bar.test/film.bin")).expect("fetched") == film);
    let lines = lines(&ended.stdout);
    let bars: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("bar.test "))
        .collect();
    let percent = |line: &str| -> Option<u32> {
        let (before, _) = line.split_once('%')?;
        before.rsplit(' ').next()?.parse().ok()
    };
    let percents: Vec<u32> = bars.iter().filter_map(|line| percent(line)).collect();
    println!("{percents:?}\n{}", bars.last().expect("a bar"));
    assert!(
        percents.iter().any(|percent| (10..=90).contains(percent)),
        "{bars:?}"
    );
    // While the file is checked at the start, the bar is of that.
    let begun = percents
        .iter()
        .position(|percent| (10..=90).contains(percent));
    let grown = &percents[begun.expect("just seen")..];
    assert!(grown.is_sorted(), "{percents:?}");
    let last = bars.last().expect("a bar");
    assert!(
        last.contains(" 100% [=") && last.contains("=] 3.0 MB/3.0 MB done"),
        "{last}"
    );
    for bar in bars {
        assert!(bar.chars().count() < 100, "{bar}");
    }
    let complete = lines.last().expect("a line");
    assert!(complete.starts_with("complete: "), "{complete}");
}

#[test]
fn t4_a_name_with_control_characters_never_reaches_the_terminal() {
    let scratch = tempfile::tempdir().expect("scratch");
    let out = scratch.path().join("out");
    // A title, a clear screen, and a C1 introducer.
    let link = "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567\
                &dn=nice%1b%5d0;owned%07%1b%5b2J%c2%9b31m";
    let ended = at_terminal(&[
        "fetch",
        link,
        "--out",
        text(&out),
        "--peer",
        "127.0.0.1:9",
        "--timeout",
        "2s",
    ]);
    assert_eq!(ended.code, Some(3), "{}", ended.stdout);
    assert!(ended.stdout.contains("nice"), "{:?}", ended.stdout);
    for bad in ["\u{1b}]", "\u{7}", "\u{1b}[2J", "\u{9b}"] {
        assert!(!ended.stdout.contains(bad), "{:?}", ended.stdout);
    }
    let lines = lines(&ended.stdout);
    let bar = lines.iter().find(|line| line.starts_with("nice_]0;owned"));
    println!("{bar:?}");
    assert!(bar.is_some_and(|bar| bar.contains("  ?% [")), "{lines:?}");
}
