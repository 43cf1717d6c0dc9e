//! What an announce costs and what a peer weighs, from a thousand peers to as many as are asked
//! for, in swarms of a hundred and in one swarm: the registry alone, without a socket.
//! `bench/tracker` prints its lines.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::tracker::AnnounceRequest;
use swarm_tracker::config::{AnnounceConfig, VolunteerConfig};
use swarm_tracker::registry::{Moment, Registry, RegistryConfig, Via};

/// Announces that are timed.
const TIMED: u32 = 500_000;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [most] => compare(most.parse()?),
        [v6, one, peers] => {
            let cost = measure(v6.parse()?, one.parse()?, peers.parse()?)?;
            println!("{} {} {} {}", cost.nanos, cost.sweep, cost.bytes, cost.left);
            Ok(())
        }
        _ => Err("usage: registry_cost PEERS".into()),
    }
}

/// Measures each in a process of its own, so that none has the memory of another.
fn compare(most: u32) -> Result<(), Box<dyn Error>> {
    for (name, v6, one) in [
        ("IPv4, 100 in a swarm", false, false),
        ("IPv4, all in one swarm", false, true),
        ("IPv6, 100 in a swarm", true, false),
    ] {
        let mut first = None;
        let mut peers: u32 = 1000;
        while peers <= most {
            let child = Command::new(std::env::current_exe()?)
                .args([v6.to_string(), one.to_string(), peers.to_string()])
                .stderr(Stdio::inherit())
                .output()?;
            let text = String::from_utf8(child.stdout)?;
            let figures: Result<Vec<f64>, _> = text.split_whitespace().map(str::parse).collect();
            let [nanos, sweep, bytes, left] = figures?[..] else {
                return Err("a measurement has failed".into());
            };
            let first = *first.get_or_insert(nanos);
            println!(
                "registry {name}, {peers} peers: {nanos:.0} ns an announce, {:.2} of that with 1000; {sweep:.2} ms a sweep; {bytes:.1} bytes a peer, {left:.1} once all have left",
                nanos / first
            );
            peers *= 10;
        }
    }
    Ok(())
}

/// Bytes of anonymous memory of this process.
fn memory() -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: f64 = kib.ok_or("no RssAnon in /proc/self/status")?.parse()?;
    Ok(kib * 1024.0)
}

fn at(secs: u64) -> Moment {
    Moment {
        elapsed: Duration::from_secs(secs),
        unix: 1_800_000_000 + secs,
    }
}

struct Cost {
    /// Of an announce.
    nanos: f64,
    /// Milliseconds in which nobody is answered, every 20 seconds.
    sweep: f64,
    /// Of a peer.
    bytes: f64,
    /// What is left of that when all are gone.
    left: f64,
}

fn measure(v6: bool, one: bool, peers: u32) -> Result<Cost, Box<dyn Error>> {
    let empty = memory()?;
    let mut registry = Registry::new(
        RegistryConfig {
            open: true,
            announce: AnnounceConfig {
                peers_max: usize::MAX,
                ..AnnounceConfig::default()
            },
            volunteers: VolunteerConfig::default(),
            bridge_domains: Vec::new(),
            seed: 1,
        },
        at(0),
    );
    let swarms = if one { 1 } else { peers / 100 };
    // Three of ten are seeds.
    let announce = |peer: u32| {
        let mut id = [7; 20];
        id[..4].copy_from_slice(&(peer % swarms).wrapping_mul(0x9e37_79b1).to_be_bytes());
        let port = 1024 + (peer / swarms % 50_000) as u16;
        let mut request = AnnounceRequest::new(SwarmId::new(id), PeerId::new([1; 20]), port);
        request.left = Some(u64::from(peer / swarms % 10 >= 3));
        request.numwant = Some(50);
        // Far and wide, so that no network has too many.
        let place = peer.wrapping_mul(0x85eb_ca6b);
        let [a, b, c, d] = place.to_be_bytes();
        let source: IpAddr = match v6 {
            false => Ipv4Addr::new(11 + a % 100, b, c, d).into(),
            true => {
                let [a, b, c, d] = [a, b, c, d].map(u16::from);
                Ipv6Addr::new(0x2a00 + a, b << 8 | c, d, 0, 0, 0, 0, 1).into()
            }
        };
        (source, request)
    };
    for peer in 0..peers {
        let (source, request) = announce(peer);
        registry.announce(at(1), source, &request, Via::Udp)?;
    }
    let bytes = (memory()? - empty) / f64::from(peers);
    let mut rng = SmallRng::seed_from_u64(2);
    let began = Instant::now();
    let mut told = 0;
    for _ in 0..TIMED {
        let (source, request) = announce(rng.random_range(0..peers));
        told += registry
            .announce(at(2), source, &request, Via::Udp)?
            .peers
            .len();
    }
    let nanos = began.elapsed().as_nanos() as f64 / f64::from(TIMED);
    if told < TIMED as usize * 25 {
        return Err(format!("only {told} peers were told of").into());
    }
    let began = Instant::now();
    registry.sweep_peers(at(3));
    let sweep = began.elapsed().as_secs_f64() * 1000.0;
    registry.sweep_peers(at(10_000));
    if registry.totals().peers > 0 {
        return Err("peers live on".into());
    }
    let left = (memory()? - empty) / f64::from(peers);
    Ok(Cost {
        nanos,
        sweep,
        bytes,
        left,
    })
}
