use std::collections::BTreeMap;

use super::*;
use crate::metainfo::MetainfoError;

/// What must hold of every name that comes out, whatever went in.
fn assert_harmless(name: &str, from: &[u8]) {
    let about = from.escape_ascii();
    assert!(!name.is_empty() && name != "." && name != "..", "{about}");
    assert!(name.len() <= limits::PATH_COMPONENT_LEN_MAX, "{about}");
    assert!(!name.contains(['/', '\\', '\0']), "{about}");
    assert!(!name.chars().any(char::is_control), "{about}");
    assert!(
        !name.chars().any(|c| ('\u{202a}'..='\u{202e}').contains(&c)),
        "{about}"
    );
    let stem = name.split('.').next().unwrap().to_ascii_uppercase();
    for device in ["CON", "PRN", "AUX", "NUL", "COM1", "LPT9"] {
        assert_ne!(stem.trim_end(), device, "{about}");
    }
    assert_eq!(sanitise(name.as_bytes()), name, "{about}: not stable");
    let path = std::path::Path::new(name);
    let parts: Vec<_> = path.components().collect();
    assert!(
        matches!(parts[..], [std::path::Component::Normal(_)]),
        "{about}"
    );
}

#[test]
fn known_tricks_are_made_harmless() {
    let cases: [(&[u8], &str); 60] = [
        (b"", "_"),
        (b".", "_"),
        (b"..", "__"),
        (b"...", "..."),
        (b"/", "_"),
        (b"\\", "_"),
        (b"//", "__"),
        (b"../", ".._"),
        (b"..\\", ".._"),
        (b"/..", "_.."),
        (b"../../etc/passwd", ".._.._etc_passwd"),
        (b"..\\..\\windows\\win.ini", ".._.._windows_win.ini"),
        (b"/etc/passwd", "_etc_passwd"),
        (b"C:\\autoexec.bat", "C:_autoexec.bat"),
        (b"\\\\server\\share", "__server_share"),
        (b"\\\\?\\C:\\x", "__?_C:_x"),
        (b"a\0b", "a_b"),
        (b"a.txt\0.exe", "a.txt_.exe"),
        (b"\x01\x02\x1f", "___"),
        (b"line\nbreak", "line_break"),
        (b"\r\n", "__"),
        (b"tab\t", "tab_"),
        (b"\x7f", "_"),
        (b"\xc2\x85", "_"),
        (b"\xc2\x9b31m", "_31m"),
        (b"\x1b[31m", "_[31m"),
        ("\u{202e}gpj.exe".as_bytes(), "_gpj.exe"),
        ("a\u{200f}b".as_bytes(), "a_b"),
        ("\u{2066}x\u{2069}".as_bytes(), "_x_"),
        ("\u{feff}x".as_bytes(), "_x"),
        ("x\u{2028}y".as_bytes(), "x_y"),
        (b"\xff", "_"),
        (b"\xff\xfe", "__"),
        (b"\xc0\xaf", "__"),
        (b"\xc0\xae\xc0\xae/", "_____"),
        (b"\xe0\x80\xaf", "___"),
        (b"\xed\xa0\x80", "___"),
        (b"\xf4\x90\x80\x80", "____"),
        (b"gr\xf6\xdfe", "gr__e"),
        (b"con", "_con"),
        (b"CON", "_CON"),
        (b"Con.txt", "_Con.txt"),
        (b"con .txt", "_con .txt"),
        (b"con.tar.gz", "_con.tar.gz"),
        (b"nul:stream", "_nul:stream"),
        (b"aux", "_aux"),
        (b"prn.html", "_prn.html"),
        (b"com1", "_com1"),
        (b"COM9.log", "_COM9.log"),
        (b"lpt0", "_lpt0"),
        ("com¹".as_bytes(), "_com¹"),
        (b"CONIN$", "_CONIN$"),
        (b"clock$.x", "_clock$.x"),
        (b"console", "console"),
        (b"com10", "com10"),
        (b"com", "com"),
        (b"nullable.rs", "nullable.rs"),
        (b"my.con", "my.con"),
        (b".htaccess", ".htaccess"),
        ("日本語 é.html".as_bytes(), "日本語 é.html"),
    ];
    for (given, expected) in cases {
        assert_eq!(sanitise(given), expected, "{}", given.escape_ascii());
        assert_harmless(&sanitise(given), given);
    }
}

#[test]
fn generated_tricks_are_made_harmless() {
    let parts: [&[u8]; 24] = [
        b"..",
        b".",
        b"/",
        b"\\",
        b"\0",
        b"a",
        b"con",
        b"NUL",
        b" ",
        b":",
        b"%2e%2e",
        b"%2f",
        b"\xff",
        b"\xc0\xaf",
        b"\xe2\x80\xae",
        b"\xe2\x80\xa8",
        b"\x1b",
        b"\n",
        b"~",
        b"-rf",
        b"*",
        b"\xf0\x9f\x90\x9d",
        b"$(x)",
        b"COM3.",
    ];
    let mut names: Vec<Vec<u8>> = Vec::new();
    for a in parts {
        for b in parts {
            names.push([a, b].concat());
            for c in [&b"/"[..], b"..", b"", b".txt"] {
                names.push([a, c, b].concat());
            }
        }
        for length in [239, 240, 254, 255, 256, 257, 300, 5000] {
            names.push(a.iter().copied().cycle().take(length).collect());
            names.push([&vec![b'x'; length][..], a].concat());
            names.push([a, &vec![b'x'; length][..], b".html"].concat());
            names.push([a, "ü".repeat(length).as_bytes()].concat());
        }
    }
    assert!(names.len() > 3000);
    for name in names {
        assert_harmless(&sanitise(&name), &name);
    }
}

#[test]
fn long_names_keep_their_extension() {
    let long = "x".repeat(400) + ".tar.gz";
    let name = sanitise(long.as_bytes());
    assert_eq!(name.len(), limits::PATH_COMPONENT_LEN_MAX);
    assert!(name.ends_with("x.gz"));
    let no_extension = "x.".to_owned() + &"y".repeat(400);
    assert_eq!(
        sanitise(no_extension.as_bytes()).len(),
        limits::PATH_COMPONENT_LEN_MAX
    );
}

fn apart(paths: &[&str]) -> Vec<String> {
    let mut paths: Vec<Vec<String>> = paths
        .iter()
        .map(|path| path.split('/').map(str::to_owned).collect())
        .collect();
    for (nth, name) in renames(&paths).unwrap() {
        *paths[nth].last_mut().unwrap() = name;
    }
    paths.iter().map(|path| path.join("/")).collect()
}

fn renames(paths: &[Vec<String>]) -> Result<BTreeMap<usize, String>, MetainfoError> {
    tell_apart(|| paths.to_vec(), paths.len(), 1000)
}

#[test]
fn names_that_a_disk_would_mix_up_are_told_apart() {
    let cases: [(&[&str], &[&str]); 12] = [
        (&["a", "b"], &["a", "b"]),
        (&["a", "a"], &["a", "a.1"]),
        (
            &["a.txt", "A.txt", "a.TXT"],
            &["a.txt", "A.1.txt", "a.2.TXT"],
        ),
        (&["a", "a.1", "a"], &["a", "a.1", "a.2"]),
        (&["a", "a", "a.1"], &["a", "a.1", "a.1.1"]),
        (&["d/a", "D/A"], &["d/a", "D/A.1"]),
        (&["d/a", "e/a"], &["d/a", "e/a"]),
        (&["b", "b/x"], &["b.1", "b/x"]),
        (&["B/x", "b"], &["B/x", "b.1"]),
        (&["b", "b.1/x", "b/x"], &["b.2", "b.1/x", "b/x"]),
        (&["Ä", "ä"], &["Ä", "ä.1"]),
        (&["a.", "a ", "a"], &["a.", "a .1", "a.2"]),
    ];
    for (given, expected) in cases {
        let got = apart(given);
        assert_eq!(got, expected, "{given:?}");
        let mut folded: Vec<String> = got
            .iter()
            .map(|path| {
                path.split('/')
                    .map(apart::fold)
                    .collect::<Vec<_>>()
                    .join("/")
            })
            .collect();
        folded.sort();
        folded.dedup();
        assert_eq!(folded.len(), given.len(), "{given:?}");
    }
}

#[test]
fn telling_many_names_apart_takes_no_square_time() {
    // 400 duplicates of a name whose numbered forms are all taken.
    let mut paths: Vec<Vec<String>> = vec![vec!["a".to_owned()]];
    paths.extend((1..=20_000).map(|n| vec![format!("a.{n}")]));
    paths.extend((0..400).map(|_| vec!["A".to_owned()]));
    let start = std::time::Instant::now();
    let names = renames(&paths).unwrap();
    assert_eq!(names.get(&20_400).unwrap(), "A.20400");
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn more_duplicates_than_the_bound_are_refused() {
    let same = |count: usize| vec![vec!["a".to_owned()]; count];
    let names = renames(&same(limits::DUPLICATE_NAMES_MAX + 1)).unwrap();
    assert_eq!(names.len(), limits::DUPLICATE_NAMES_MAX);
    let error = renames(&same(limits::DUPLICATE_NAMES_MAX + 2));
    assert_eq!(error, Err(MetainfoError::DuplicateNames));
}

#[test]
fn t3_more_directories_than_the_bound_are_refused_however_they_are_spread() {
    let paths = |count: usize, depth: usize| -> Vec<Vec<String>> {
        let path = |n: usize| (0..=depth).map(|level| format!("{level}.{n}")).collect();
        (0..count).map(path).collect()
    };
    for depth in [1, 2, 10, 100] {
        let most = 1000 / depth;
        assert_eq!(renames(&paths(most, depth)), Ok(BTreeMap::new()), "{depth}");
        let error = renames(&paths(most + 1, depth));
        assert_eq!(error, Err(MetainfoError::PathsLength), "{depth}");
    }
    // However often they are named.
    let few = [paths(100, 10), paths(100, 10), paths(100, 10)].concat();
    assert_eq!(renames(&few).map(|names| names.len()), Ok(200));
}
