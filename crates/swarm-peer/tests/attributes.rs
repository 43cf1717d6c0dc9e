//! What a torrent says of files beside their bytes (BEP 47): torrents of libtorrent, fetched.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use swarm_peer::{AddBundle, Metainfo, Node, NodeConfig, Source, Storage, SwarmState, Want};
use tokio_util::sync::CancellationToken;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/metainfo/");

/// As `make.py` there makes it.
fn content(seed: u64, len: u64) -> Vec<u8> {
    let len = usize::try_from(len).unwrap();
    let mut bytes = Vec::new();
    for counter in 0_u64.. {
        if bytes.len() >= len {
            break;
        }
        let mut hash = Sha256::new();
        hash.update(seed.to_be_bytes());
        hash.update(counter.to_be_bytes());
        bytes.extend(hash.finalize());
    }
    bytes.truncate(len);
    bytes
}

/// The torrents whose names begin so, each with its files written below `dir`, links left out.
fn torrents(prefix: &str, dir: &Path) -> Vec<(String, Metainfo, PathBuf)> {
    let list = std::fs::read(format!("{VECTORS}expected.json")).unwrap();
    let list: Vec<Value> = serde_json::from_slice(&list).unwrap();
    let mut found = Vec::new();
    for vector in list {
        let name = vector["torrent"].as_str().unwrap();
        if !name.starts_with(prefix) {
            continue;
        }
        let meta = Metainfo::parse(&std::fs::read(format!("{VECTORS}{name}")).unwrap()).unwrap();
        let data = dir.join(name);
        for file in vector["content"].as_array().unwrap() {
            let path = file["path"].as_str().unwrap();
            let entry = meta.files().iter().find(|one| one.path.join("/") == path);
            if entry.unwrap().symlink {
                continue;
            }
            let path = data.join(meta.name()).join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let length = file["length"].as_u64().unwrap();
            std::fs::write(path, content(file["seed"].as_u64().unwrap(), length)).unwrap();
        }
        found.push((name.to_owned(), meta, data));
    }
    assert_eq!(found.len(), 3, "v1, v2 and hybrid");
    found
}

async fn node() -> Node {
    let config = NodeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..NodeConfig::default()
    };
    Node::start(config, CancellationToken::new()).await.unwrap()
}

/// Fetches what is wanted from a seed into the folder `out`, and tells what lies in the torrent's
/// own folder there.
async fn fetch_folder(meta: &Metainfo, data: &Path, out: &Path, want: Want) -> Vec<(String, u32)> {
    fetch(meta, data, Storage::Folder { dir: out.into() }, want).await;
    tree(&out.join(meta.name()))
}

/// Fetches what is wanted from a seed into `out`.
async fn fetch(meta: &Metainfo, data: &Path, out: Storage, want: Want) {
    let [from, to] = [node().await, node().await];
    let here = Storage::Folder { dir: data.into() };
    let mut bundle = AddBundle::new(Source::from(meta.clone()), here);
    bundle.seed_only = true;
    from.add(bundle)
        .await
        .unwrap()
        .wait_complete()
        .await
        .unwrap();
    let ends = match want {
        Want::All => SwarmState::Seeding,
        _ => SwarmState::Finished,
    };
    let mut bundle = AddBundle::new(Source::from(meta.clone()), out);
    bundle.want = want;
    bundle.peers.push(from.listen_addr());
    let handle = to.add(bundle).await.unwrap();
    let mut state = handle.state();
    while state != ends {
        state = handle.state_after(&state).await;
        assert!(!matches!(state, SwarmState::Failed(_)), "{state:?}");
    }
}

/// Every path below `dir`, with its mode.
fn tree(dir: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let about = std::fs::symlink_metadata(&path).unwrap();
            if about.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                found.push((name, about.permissions().mode() & 0o777));
            }
        }
    }
    found.sort();
    found
}

/// What a program and another file get that this process makes.
fn modes(dir: &Path) -> (u32, u32) {
    let path = dir.join("probe");
    std::fs::write(&path, "").unwrap();
    let plain = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    std::fs::remove_file(&path).unwrap();
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o777);
    options.write(true).create(true).open(&path).unwrap();
    let program = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_ne!(plain, program);
    (plain, program)
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_can_be_run_when_they_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, program) = modes(dir.path());
    for (name, meta, data) in torrents("tools-", dir.path()) {
        let out = dir.path().join(format!("{name}-out"));
        let found = fetch_folder(&meta, &data, &out, Want::All).await;
        let wanted = [
            ("bin/empty", program),
            ("bin/run", program),
            ("doc/read.me", plain),
            ("go", program),
        ];
        let wanted = wanted.map(|(path, mode)| (path.to_owned(), mode));
        assert_eq!(found, wanted, "{name}");
        // Of one that was chosen alone too.
        let chosen = dir.path().join(format!("{name}-chosen"));
        let go = meta
            .files()
            .iter()
            .find(|file| file.path == ["go"])
            .unwrap();
        let want = Want::Ranges(vec![go.range()]);
        let found = fetch_folder(&meta, &data, &chosen, want).await;
        let go = ("go".to_owned(), program);
        assert!(found.contains(&go), "{name}: {found:?}");
        assert!(!found.iter().any(|(path, _)| path == "bin/empty"), "{name}");
        // A volunteer's copy is nothing to be run.
        let kept = dir.path().join(format!("{name}-kept"));
        fetch(
            &meta,
            &data,
            Storage::Store { dir: kept.clone() },
            Want::All,
        )
        .await;
        let runnable: Vec<_> = tree(&kept)
            .into_iter()
            .filter(|(_, mode)| mode & 0o111 != 0)
            .collect();
        assert!(runnable.is_empty(), "{runnable:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t4_no_link_of_a_stranger_is_made() {
    let dir = tempfile::tempdir().unwrap();
    for (name, meta, data) in torrents("links-", dir.path()) {
        let out = dir.path().join(format!("{name}-out"));
        let found = fetch_folder(&meta, &data, &out, Want::All).await;
        let found: Vec<_> = found.into_iter().map(|(path, _)| path).collect();
        assert_eq!(found, ["a/file"], "{name}");
        // Nor is anything put where one would be: what lies there is somebody else's.
        let link = out.join(meta.name()).join("z");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
        fetch_folder(&meta, &data, &out, Want::All).await;
        assert!(!dir.path().join("elsewhere").exists(), "{name}");
    }
}
