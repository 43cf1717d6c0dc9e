//! `status`: what running peers do, as tables for people and as JSON.

use clap::Args;
use serde_json::Value;
use swarm_peer::config::PeerConfig;
use swarm_peer::control::{AskError, Request, ask};

use super::control::{TargetArgs, no_peer, sockets};
use super::output::rate;
use super::units::show_size;
use super::{Failure, print};

/// Flags of `status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Each connection too.
    #[arg(long)]
    peers: bool,
    /// One line of JSON a peer.
    #[arg(long, env = "SWARM_PEER_JSON")]
    json: bool,
}

pub(super) fn status(config: &PeerConfig, args: &StatusArgs) -> Result<(), Failure> {
    let mut any = false;
    for path in sockets(config) {
        let mut told = match ask(&path, &Request::Status { peers: args.peers }) {
            Ok(told) => told,
            Err(AskError::Nobody) => continue,
            Err(error) => {
                tracing::warn!(socket = %path.display(), "{error}");
                continue;
            }
        };
        any = true;
        if let Some(told) = told.as_object_mut() {
            told.insert("control".into(), path.display().to_string().into());
        }
        match args.json {
            true => print(&format!("{told}\n"))?,
            false => print(&in_words(&told))?,
        }
    }
    match any {
        true => Ok(()),
        false => Err(no_peer()),
    }
}

/// Text that a stranger may have chosen, harmless on a terminal.
fn text(value: &Value) -> String {
    let text = value.as_str().unwrap_or("-");
    let shown = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c });
    shown.take(120).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn speed(value: &Value) -> String {
    rate(value.as_f64().unwrap_or(0.0))
}

/// A limit, in bits a second.
fn limit(value: &Value) -> String {
    value
        .as_u64()
        .map_or_else(|| "unlimited".into(), |bits| rate(bits as f64 / 8.0))
}

fn switch(name: &str, value: &Value) -> String {
    match value {
        Value::Bool(on) => format!("{name} {}", if *on { "on" } else { "off" }),
        value => format!("{name} {}", text(value)),
    }
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn in_words(report: &Value) -> String {
    let mut out = format!(
        "peer {}, process {}, control {}\n",
        text(&report["peer"]),
        number(&report["pid"]),
        text(&report["control"])
    );
    out.push_str(&format!(
        "  sent {} (limit {}), received {} (limit {}), memory {}\n",
        show_size(number(&report["sent_bytes"])),
        limit(&report["upload_limit"]),
        show_size(number(&report["received_bytes"])),
        limit(&report["download_limit"]),
        show_size(number(&report["memory_bytes"]))
    ));
    let names = ["dht", "pex", "lsd", "utp", "udp_trackers"];
    let known = names.iter().filter(|name| !report[**name].is_null());
    let switches: Vec<String> = known.map(|name| switch(name, &report[*name])).collect();
    out.push_str(&format!("  {}\n", switches.join(", ").replace('_', " ")));
    for one in each(&report["bundles"]) {
        bundle(one, &mut out);
    }
    out
}

fn bundle(bundle: &Value, out: &mut String) {
    let (have, pieces) = (number(&bundle["have"]), number(&bundle["pieces"]));
    let percent = have.saturating_mul(100).checked_div(pieces).unwrap_or(0);
    out.push_str(&format!(
        "\n{}: {} {percent} %, {have} of {pieces} pieces, {}\n",
        text(&bundle["name"]),
        text(&bundle["state"]),
        show_size(number(&bundle["total_bytes"])),
    ));
    for version in ["info_hash_v1", "info_hash_v2"] {
        if bundle[version].is_string() {
            let name = version.replace('_', " ");
            out.push_str(&format!("  {name}  {}\n", text(&bundle[version])));
        }
    }
    out.push_str(&format!(
        "  down {} at {}, up {} at {}, wasted {}\n",
        show_size(number(&bundle["down_bytes"])),
        speed(&bundle["down_rate"]),
        show_size(number(&bundle["up_bytes"])),
        speed(&bundle["up_rate"]),
        show_size(number(&bundle["wasted_bytes"])),
    ));
    if !(bundle["upload_limit"].is_null() && bundle["download_limit"].is_null()) {
        out.push_str(&format!(
            "  limits: up {}, down {}\n",
            limit(&bundle["upload_limit"]),
            limit(&bundle["download_limit"])
        ));
    }
    out.push_str(&format!(
        "  {} peers, {} of them seeds; {} addresses known\n",
        number(&bundle["peers"]),
        number(&bundle["seeds"]),
        number(&bundle["known_peers"]),
    ));
    for trouble in ["error", "trouble"] {
        if bundle[trouble].is_string() {
            out.push_str(&format!("  {trouble}: {}\n", text(&bundle[trouble])));
        }
    }
    for tracker in each(&bundle["trackers"]) {
        let said = match tracker["error"].as_str() {
            Some(_) => text(&tracker["error"]),
            None => format!(
                "{} peers; {} seeds and {} leeches in all{}, {} s ago",
                number(&tracker["peers"]),
                number(&tracker["seeds"]),
                number(&tracker["leeches"]),
                tracker["completed"]
                    .as_u64()
                    .map_or_else(String::new, |n| format!(", {n} completed")),
                number(&tracker["age"]),
            ),
        };
        out.push_str(&format!("  tracker {}: {said}\n", text(&tracker["url"])));
    }
    for seed in each(&bundle["web_seeds"]) {
        out.push_str(&format!(
            "  web seed {}: {}\n",
            text(&seed["url"]),
            web_seed(seed)
        ));
    }
    let mut peers = each(&bundle["connected"]).peekable();
    if peers.peek().is_some() {
        out.push_str(&format!(
            "  {:<5} {:<22} {:>4} {:>15} {:>15}  {:<5} {}\n",
            "over", "address", "has", "down", "up", "flags", "client"
        ));
    }
    for peer in peers {
        let has = number(&peer["have"]).saturating_mul(100);
        out.push_str(&format!(
            "  {:<5} {:<22} {:>3}% {:>15} {:>15}  {:<5} {}\n",
            text(&peer["transport"]),
            text(&peer["addr"]),
            has.checked_div(pieces).unwrap_or(0),
            speed(&peer["down_rate"]),
            speed(&peer["up_rate"]),
            flags(peer),
            text(&peer["client"]),
        ));
    }
}

fn web_seed(seed: &Value) -> String {
    let mut said = text(&seed["state"]);
    if let Some(wait) = seed["wait"].as_u64() {
        said.push_str(&format!(" {wait} s after a failure"));
    }
    if seed["state"] == "asked" {
        let (requests, rate) = (number(&seed["requests"]), speed(&seed["down_rate"]));
        said.push_str(&format!(", {requests} requests, {rate}"));
    }
    match number(&seed["missing_files"]) {
        0 => {}
        missing => said.push_str(&format!("; lacks {missing} files")),
    }
    said
}

/// As other clients show them: `D` we want and may ask, `d` we want and are choked; `U` it wants
/// and may ask, `u` it wants and is choked; `S` it snubs us; `I` it called us.
fn flags(peer: &Value) -> String {
    let is = |name: &str| peer[name] == true;
    let mut flags = String::new();
    match (is("we_want"), is("chokes_us")) {
        (true, false) => flags.push('D'),
        (true, true) => flags.push('d'),
        _ => {}
    }
    match (is("wants"), is("we_choke")) {
        (true, false) => flags.push('U'),
        (true, true) => flags.push('u'),
        _ => {}
    }
    if is("snubs") {
        flags.push('S');
    }
    if !is("outgoing") {
        flags.push('I');
    }
    flags
}
