//! T61: what keeps strangers out must be in the program that is shipped, not only in debug builds.

use std::fs;
use std::hint::black_box;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Says something of a release build when it runs in one.
#[test]
fn t61_arithmetic_that_overflows_panics_in_this_build() {
    assert!(catch_unwind(|| black_box(u32::MAX) + black_box(1)).is_err());
    assert!(catch_unwind(|| black_box(0_usize) - black_box(1)).is_err());
    assert!(catch_unwind(|| black_box(u64::MAX) * black_box(2)).is_err());
}

#[test]
fn t61_the_release_profile_checks_for_overflow() {
    let manifest = fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    let (_, release) = manifest.split_once("\n[profile.release]\n").unwrap();
    let release = release.split("\n[").next().unwrap();
    assert!(
        release.lines().any(|line| line == "overflow-checks = true"),
        "{release}"
    );
}

/// The two that there are state what our own code does; what a stranger sends reaches neither.
#[test]
fn t61_no_debug_assertion_guards_against_strangers() {
    let known = ["wire/core.rs", "download/hashes.rs"];
    let mut folders = vec![workspace().join("crates")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_source = path.extension().is_some_and(|end| end == "rs")
                && path.components().any(|part| part.as_os_str() == "src");
            if path.is_dir() {
                folders.push(path);
            } else if is_source {
                let text = fs::read_to_string(&path).unwrap();
                if text.contains(" debug_assert!(") || text.contains(" debug_assert_") {
                    found.push(path);
                }
            }
        }
    }
    found.retain(|path| !known.iter().any(|known| path.ends_with(known)));
    assert!(found.is_empty(), "{found:?}");
}
