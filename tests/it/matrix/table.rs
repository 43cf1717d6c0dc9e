//! The table of results: text that is the same whenever the results are.

use std::fmt::Write as _;
use std::fs;

use swarm_e2e::beside;
use swarm_e2e::foreign::Client;

use super::cell::{By, Cell, Direction};
use super::extras::Extra;
use super::{Kind, Outcome};

const HEAD: &str = "\
# Interop

Written by `cargo test -p swarm-e2e matrix`, a part of `tests/run`; don't edit. Every file of every exchange is compared by SHA-256.

The clients are Debian's, as they come but for DHT and local discovery, which are off where the row does not say otherwise. Ours and theirs run in two network namespaces joined by a wire; in the columns of uTP the wire drops TCP between peers. Encryption is left as each client has it: none of them refuses us for not speaking it. Transmission makes no files for empty ones; the others' empty files are compared, too. Clients that know no padding (BEP 47) are given the padding files of a hybrid when they seed it.

rqbit, which is slow to build, has a run and a table of its own: `tests/interop/long` writes [RQBIT.md](RQBIT.md).

";

pub(super) fn write(cells: &[(Cell, Outcome)], extras: &[(Extra, Outcome)]) {
    let mut text = HEAD.to_owned();
    text.push_str(
        "| client | torrent | leech starts from | ours seeds, TCP | ours fetches, TCP | ours seeds, uTP | ours fetches, uTP |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for client in [Client::Libtorrent, Client::Transmission, Client::Aria2] {
        let version = client.version();
        for kind in Kind::ALL {
            for by in [By::Torrent, By::Magnet] {
                let from = match by {
                    By::Torrent => ".torrent",
                    By::Magnet => "magnet",
                };
                let name = kind.name();
                // Writing to a string does not fail.
                let _ = write!(text, "| {version} | {name} | {from} |");
                for utp in [false, true] {
                    for direction in [Direction::OursSeeds, Direction::OursFetches] {
                        let found = cells.iter().find(|(cell, _)| {
                            cell.client == client
                                && cell.kind == kind
                                && cell.by == by
                                && cell.utp == utp
                                && cell.direction == direction
                        });
                        let outcome = found.map(|(_, outcome)| word(outcome));
                        let _ = write!(text, " {} |", outcome.expect("every cell was dealt with"));
                    }
                }
                text.push('\n');
            }
        }
    }
    text.push_str("\n| besides | with | |\n| --- | --- | --- |\n");
    for (extra, outcome) in extras {
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            extra.name,
            extra.client,
            word(outcome)
        );
    }
    let path = beside("interop/README.md");
    if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
        fs::write(&path, text).expect("the tests' folder is ours");
    }
}

fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Pass => "yes".to_owned(),
        Outcome::Cannot(why) => format!("cannot: {why}"),
        Outcome::Fail(_) => "**FAILS**".to_owned(),
    }
}
