//! `swarm-peer inspect`: shows any of our files readably. Everything shown is a claim of the file;
//! whether its signatures hold is said with it.

mod describe;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use swarm_peer::config::PeerConfig;
use swarm_peer::publish::read_limited;
use swarm_peer::report::shown_url;
use swarm_peer::{AddBundle, Scraped, Scraper, Source, Storage};
use swarm_proto::id::SwarmId;
use swarm_proto::limits;
use swarm_proto::manifest::{
    Envelope, PayloadType, SignedAlarm, SignedKeySet, SignedManifest, SignedStamp, SiteRecord,
};
use swarm_proto::metainfo::{Magnet, Metainfo};
use swarm_proto::tracker::ScrapeEntry;

use super::{EXIT_INTEGRITY, EXIT_NOT_FOUND, Failure, print};

/// Show a torrent, manifest, site record, key set, alarm, stamp or magnet link.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct InspectArgs {
    /// The file, a published folder, or a magnet link.
    #[arg(value_name = "FILE|MAGNET")]
    what: String,
    /// List every file too.
    #[arg(long)]
    files: bool,
    /// Ask the trackers of a torrent or link how many hold it, without joining (BEP 48).
    #[arg(long)]
    scrape: bool,
    /// Print one object of JSON.
    #[arg(long, env = "SWARM_PEER_JSON")]
    json: bool,
}

/// Prints what a file says of itself.
pub(super) fn run(config: &PeerConfig, args: &InspectArgs) -> Result<(), Failure> {
    let mut described = if args.what.starts_with("magnet:") {
        let magnet =
            Magnet::parse(&args.what).map_err(|error| Failure::new(EXIT_INTEGRITY, error))?;
        describe::magnet(&magnet)
    } else {
        let mut path = PathBuf::from(&args.what);
        if path.is_dir() {
            path.push("manifest");
        }
        let max = limits::SITE_RECORD_LEN_MAX.max(limits::METAINFO_LEN_MAX);
        let bytes =
            read_limited(&path, max).map_err(|error| Failure::new(EXIT_NOT_FOUND, error))?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        describe(&bytes, args.files, now).map_err(|reason| {
            Failure::text(EXIT_INTEGRITY, format!("{}: {reason}", path.display()))
        })?
    };
    if args.scrape {
        let figures = scrape(config, &args.what)?;
        if let Some(described) = described.as_object_mut() {
            described.insert("scrape".into(), figures);
        }
    }
    if args.json {
        return print(&format!("{described}\n"));
    }
    let mut text = String::new();
    lines(&described, 0, &mut text);
    print(&text)
}

/// What trackers say of a torrent or link.
fn scrape(config: &PeerConfig, what: &str) -> Result<Value, Failure> {
    let source = match what.starts_with("magnet:") {
        true => Magnet::parse(what)
            .map(Source::from)
            .map_err(anyhow::Error::from),
        false => return scrape_source(config, super::fetch::read_torrent(what.as_ref())?.into()),
    };
    scrape_source(config, source?)
}

fn scrape_source(config: &PeerConfig, source: Source) -> Result<Value, Failure> {
    let mut bundle = AddBundle::new(source, Storage::Memory);
    super::fetch::add_trackers(&mut bundle, config);
    let node = config.node();
    let scraper = Scraper::new(node.policy, node.listen.ip()).map_err(anyhow::Error::from)?;
    let asked = scraper.ask(&bundle, config.udp_trackers);
    let said = super::runtime()?.block_on(asked);
    let rows = said.into_iter().flat_map(|Scraped { url, said }| {
        let tracker = shown_url(&url);
        match said {
            Ok(figures) if figures.is_empty() => vec![json!({
                "tracker": tracker,
                "error": "tracker does not know it",
            })],
            Ok(figures) => {
                let row = |(id, figures): (SwarmId, ScrapeEntry)| {
                    json!({
                        "tracker": tracker,
                        "swarm_id": id.to_string(),
                        "seeds": figures.complete,
                        "leeches": figures.incomplete,
                        "completed": figures.downloaded,
                    })
                };
                figures.into_iter().map(row).collect()
            }
            Err(error) => vec![json!({
                "tracker": tracker,
                "error": swarm_peer::http::chain(&error),
            })],
        }
    });
    Ok(rows.collect())
}

/// What the bytes are, by the first thing that tells formats apart.
fn describe(bytes: &[u8], files: bool, now: u64) -> Result<Value, String> {
    let chain = |error: &(dyn std::error::Error + 'static)| swarm_peer::http::chain(error);
    let has = |keys: &[&[u8]]| {
        let rules = swarm_proto::bencode::Rules::METAINFO;
        let value = swarm_proto::bencode::decode(bytes, &rules);
        value.is_ok_and(|value| {
            value
                .as_dict()
                .is_some_and(|dict| keys.iter().all(|key| dict.get(key).is_some()))
        })
    };
    if bytes.first() == Some(&b'l') {
        let keys = SignedKeySet::parse(bytes).map_err(|error| chain(&error))?;
        return Ok(describe::keys(&keys, now));
    }
    if has(&[b"keys", b"manifest"]) {
        let record = SiteRecord::parse(bytes).map_err(|error| chain(&error))?;
        return Ok(describe::record(&record, files, now));
    }
    if has(&[b"body", b"head"]) {
        let manifest = SignedManifest::parse(bytes).map_err(|error| chain(&error))?;
        return Ok(describe::manifest(&manifest, files));
    }
    if has(&[b"info"]) {
        let meta = Metainfo::parse(bytes).map_err(|error| chain(&error))?;
        return Ok(describe::torrent(&meta, files));
    }
    match Envelope::claimed_type(bytes) {
        Some(PayloadType::Alarm) => {
            let alarm = SignedAlarm::parse(bytes).map_err(|error| chain(&error))?;
            Ok(describe::alarm(&alarm))
        }
        Some(PayloadType::Stamp) => {
            let stamp = SignedStamp::parse(bytes).map_err(|error| chain(&error))?;
            Ok(describe::stamp(&stamp))
        }
        Some(kind) => Ok(json!({"kind": format!("envelope of {}", kind.as_str())})),
        None => Err("no file that we know".into()),
    }
}

/// An object as indented lines, names in front. File names were checked when they were parsed, but
/// a terminal is shown no control character whatever happens.
fn lines(value: &Value, indent: usize, text: &mut String) {
    let Value::Object(fields) = value else { return };
    let mut fields: Vec<(&String, &Value)> = fields
        .iter()
        .filter(|(_, value)| !value.is_null() && value.as_array().is_none_or(|a| !a.is_empty()))
        .collect();
    // What it is comes first, what is long comes last.
    fields.sort_by_key(|(name, value)| {
        let first = FIRST.iter().position(|one| one == name);
        (is_long(value), first.unwrap_or(FIRST.len()))
    });
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in fields {
        match value {
            Value::Object(_) => {
                text.push_str(&format!("{:indent$}{name}\n", ""));
                lines(value, indent + 2, text);
            }
            Value::Array(items) if is_long(value) => {
                text.push_str(&format!("{:indent$}{name:width$}  {}\n", "", items.len()));
                for item in items {
                    text.push_str(&format!("{:indent$}  - {}\n", "", one_line(item)));
                }
            }
            other => {
                let line = one_line(other);
                text.push_str(&format!("{:indent$}{name:width$}  {line}\n", ""));
            }
        }
    }
}

/// Fields in the order that people ask for them.
const FIRST: [&str; 9] = [
    "kind",
    "name",
    "site",
    "root_key",
    "signatures",
    "path",
    "sequence",
    "info_hash_v1",
    "info_hash_v2",
];

fn is_long(value: &Value) -> bool {
    match value {
        Value::Object(_) => true,
        Value::Array(items) => items.iter().any(Value::is_object),
        _ => false,
    }
}

fn one_line(value: &Value) -> String {
    let line = match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let filled = fields.iter().filter(|(_, value)| {
                !value.is_null() && value.as_array().is_none_or(|a| !a.is_empty())
            });
            let fields: Vec<String> = filled
                .map(|(name, value)| format!("{name} {}", one_line(value)))
                .collect();
            fields.join(", ")
        }
        Value::Array(items) => items.iter().map(one_line).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    line.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_becomes_lines_without_control_characters() {
        let value = json!({
            "kind": "torrent",
            "none": null,
            "name": "a\u{1b}[31mb",
            "trackers": ["http://a/", "http://b/"],
            "files": [{"path": "x", "length": 5}],
            "stamp": {"issued": 1},
        });
        let mut text = String::new();
        lines(&value, 0, &mut text);
        for line in [
            "kind      torrent\n",
            "name      a\u{fffd}[31mb\n",
            "trackers  http://a/ http://b/\n",
            "files     1\n",
            "  - length 5, path x\n",
            "stamp\n  issued  1\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in {text}");
        }
        assert!(!text.contains("none"));
    }

    #[test]
    fn programs_are_named_and_links_with_where_they_lead() {
        let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/metainfo/");
        let shown = |name: &str| {
            let torrent = std::fs::read(format!("{vectors}{name}-v2-16k.torrent")).unwrap();
            let mut text = String::new();
            lines(&describe(&torrent, true, 0).unwrap(), 0, &mut text);
            text
        };
        let (tools, links) = (shown("tools"), shown("links"));
        let line = |text: &str, path: &str| {
            let found = text
                .lines()
                .find(|line| line.contains(&format!("path {path}")));
            found.unwrap().to_owned()
        };
        assert!(
            line(&tools, "bin/run").contains("executable true"),
            "{tools}"
        );
        assert!(
            !line(&tools, "doc/read.me").contains("executable"),
            "{tools}"
        );
        assert!(line(&links, "a/link").contains("symlink a/file"), "{links}");
        assert!(
            line(&links, "z").contains("symlink ../../etc/passwd"),
            "{links}"
        );
        assert!(!line(&links, "a/file").contains("symlink"), "{links}");
    }

    #[test]
    fn rubbish_is_named_rubbish() {
        for bytes in [
            &b""[..],
            b"de",
            b"le",
            b"hello",
            b"d4:infod4:name",
            b"d4:infodee",
        ] {
            assert!(describe(bytes, false, 0).is_err(), "{bytes:?}");
        }
    }
}
