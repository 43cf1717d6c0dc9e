//! uTP with foreign clients, both ways, TCP out of reach.

use std::path::Path;

use swarm_e2e::process::run_ok;
use swarm_e2e::{Proc, Tree, beside, small_site};

use crate::{SOON, publish, seed, text};

#[test]
fn libtorrent_fetches_from_us_and_we_from_it_by_utp_alone() {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("root");
    small_site(&root);
    let published = publish(scratch.path(), "http://utp.test", &root, &[]);
    let truth = Tree::of(&root);
    let (_seed, peer) = seed(&[text(&published.out)], &["--utp", "only"]);
    let script = beside("interop/lt.py");
    let python = Path::new("/usr/bin/python3");
    for (n, torrent) in published.torrents().iter().enumerate() {
        let theirs = scratch.path().join(format!("theirs{n}"));
        let args = [
            text(&script),
            "fetch",
            text(torrent),
            "--out",
            text(&theirs),
            "--peer",
            &peer,
            "--transport",
            "utp",
        ];
        let mut leech = Proc::start_program("libtorrent", python, args);
        leech.event("complete", SOON);
        assert!(leech.end(SOON).success(), "libtorrent ends well");
        truth_within(&theirs, &truth);
        let args = [
            text(&script),
            "seed",
            text(torrent),
            "--data",
            text(&theirs),
            "--transport",
            "utp",
        ];
        let mut foreign = Proc::start_program("libtorrent", python, args);
        let listening = foreign.event("listening", SOON);
        foreign.event("complete", SOON);
        let from = listening["peer"].as_str().expect("an address");
        // By uTP alone, and as we come: libtorrent takes the call by TCP and says nothing.
        for utp in ["only", "on"] {
            let ours = scratch.path().join(format!("ours-{utp}{n}"));
            run_ok(
                "swarm-peer",
                [
                    "fetch",
                    text(torrent),
                    "--out",
                    text(&ours),
                    "--peer",
                    from,
                    "--utp",
                    utp,
                ],
            );
            truth_within(&ours, &truth);
        }
    }
}

fn truth_within(out: &Path, truth: &Tree) {
    let mut got = Tree::of(&out.join("utp.test"));
    assert!(!got.0.is_empty(), "nothing came");
    got.0.retain(|path, _| !path.starts_with(".swarm/"));
    got.assert_within(truth);
}
