//! Announce and scrape over UDP, packet by packet, from good clients and bad.

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use common::site::{TestSite, v1};
use common::{config, get, start, unix};
use swarm_proto::id::{PeerId, SwarmId};
use swarm_proto::tracker::http::encode_query;
use swarm_proto::tracker::udp::{ConnectionToken, Request, Response};
use swarm_proto::tracker::{AnnounceEvent, AnnounceReply, AnnounceRequest, ScrapeEntry};
use swarm_tracker::TrackerConfig;

const SWARM: SwarmId = SwarmId::new([0xe9; 20]);

fn open() -> TrackerConfig {
    TrackerConfig {
        open: true,
        ..config()
    }
}

/// One client's socket, joined to a tracker.
struct Client {
    socket: UdpSocket,
    v6: bool,
}

impl Client {
    fn new(tracker: SocketAddr) -> Self {
        Self::from(tracker, tracker.ip().to_string().as_str())
    }

    /// A client at another address of this host.
    fn from(tracker: SocketAddr, own: &str) -> Self {
        let own: std::net::IpAddr = own.parse().expect("an address");
        let socket = UdpSocket::bind((own, 0)).expect("loopback");
        socket.connect(tracker).expect("connected");
        let v6 = tracker.is_ipv6();
        Self { socket, v6 }
    }

    fn send(&self, packet: &[u8]) {
        self.socket.send(packet).expect("sent");
    }

    /// What comes within the time, if anything.
    fn hear(&self, wait: Duration) -> Option<Vec<u8>> {
        self.socket.set_read_timeout(Some(wait)).expect("settable");
        let mut buf = [0; 4096];
        let len = self.socket.recv(&mut buf).ok()?;
        Some(buf[..len].to_vec())
    }

    fn ask(&self, request: &Request) -> Response {
        self.send(&request.encode());
        let answer = self.hear(Duration::from_secs(10)).expect("an answer");
        let answer = Response::decode(&answer, self.v6).expect("a good answer");
        assert_eq!(answer.transaction(), request.transaction());
        answer
    }

    fn token(&self) -> ConnectionToken {
        match self.ask(&Request::Connect { transaction: 77 }) {
            Response::Connect { token, .. } => token,
            other => panic!("{other:?}"),
        }
    }

    fn announce(&self, announce: AnnounceRequest) -> Result<AnnounceReply, String> {
        let request = Request::Announce {
            token: self.token(),
            transaction: 5,
            announce,
            path: "/announce?passkey=x".into(),
        };
        match self.ask(&request) {
            Response::Announce { reply, .. } => Ok(reply),
            Response::Error { message, .. } => Err(message),
            other => panic!("{other:?}"),
        }
    }

    fn scrape(&self, swarm_ids: Vec<SwarmId>) -> Vec<ScrapeEntry> {
        let request = Request::Scrape {
            token: self.token(),
            transaction: 6,
            swarm_ids,
        };
        match self.ask(&request) {
            Response::Scrape { entries, .. } => entries,
            other => panic!("{other:?}"),
        }
    }
}

fn request(port: u16, left: u64) -> AnnounceRequest {
    AnnounceRequest {
        left: Some(left),
        ..AnnounceRequest::new(SWARM, PeerId::new([7; 20]), port)
    }
}

fn with_event(port: u16, left: u64, event: AnnounceEvent) -> AnnounceRequest {
    AnnounceRequest {
        event,
        ..request(port, left)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_of_udp_and_http_meet() {
    let mut config = open();
    config.http.push("[::1]:0".parse().expect("an address"));
    let (tracker, shutdown) = start(config).await;
    let [v4, v6] = *tracker.udp_addrs() else {
        panic!("UDP is where HTTP is");
    };
    let seed = Client::new(v4).announce(request(2001, 0)).expect("taken");
    assert_eq!((seed.complete, seed.incomplete), (1, 0));
    assert!((120..=128).contains(&seed.interval), "{}", seed.interval);
    let query = encode_query(&request(2002, 9));
    get(tracker.http_addr(), &format!("/announce?{query}")).await;
    Client::new(v6).announce(request(2006, 9)).expect("taken");
    let mut told = Client::new(v4).announce(request(2003, 9)).expect("taken");
    told.peers.sort();
    assert_eq!((told.complete, told.incomplete), (1, 3));
    let both = ["127.0.0.1:2001", "127.0.0.1:2002"].map(|peer| peer.parse().expect("an address"));
    assert_eq!(
        told.peers, both,
        "over IPv4 an answer has room for IPv4 only"
    );
    let told = Client::new(v6).announce(request(2007, 9)).expect("taken");
    assert_eq!(told.peers, ["[::1]:2006".parse().expect("an address")]);
    // And over HTTP everybody is told of everybody.
    let query = encode_query(&request(2002, 9));
    let reply = get(tracker.http_addr(), &format!("/announce?{query}")).await;
    let reply = swarm_proto::tracker::http::decode_reply(&reply.body).expect("good");
    assert_eq!(reply.peers.len(), 4);

    let client = Client::new(v4);
    client
        .announce(with_event(2003, 0, AnnounceEvent::Completed))
        .expect("taken");
    client
        .announce(with_event(2001, 0, AnnounceEvent::Stopped))
        .expect("taken");
    let many: Vec<SwarmId> = (0..70)
        .map(|n| {
            if n == 40 {
                SWARM
            } else {
                SwarmId::new([n; 20])
            }
        })
        .collect();
    let figures = client.scrape(many);
    assert_eq!(figures.len(), 70);
    let here = ScrapeEntry {
        complete: 1,
        downloaded: 1,
        incomplete: 3,
    };
    for (n, entry) in figures.into_iter().enumerate() {
        let expected = if n == 40 {
            here
        } else {
            ScrapeEntry::default()
        };
        assert_eq!(entry, expected, "{n}");
    }
    shutdown.cancel();
    tracker.join().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t13_forged_packets_bring_nobody_anything() {
    let (tracker, _shutdown) = start(open()).await;
    let addr = tracker.udp_addrs()[0];
    let (honest, victim) = (Client::new(addr), Client::from(addr, "127.0.0.9"));
    let token = honest.token();
    for port in 2000..2100 {
        honest.announce(request(port, 9)).expect("taken");
    }
    // What somebody with another's token, or a guessed one, makes the tracker send to a third.
    let mut asked = 0;
    for n in 0..20_000_u64 {
        let token = match n % 3 {
            0 => token,
            1 => ConnectionToken(n),
            _ => ConnectionToken(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        };
        let packet = match n % 5 {
            0 => Request::Scrape {
                token,
                transaction: 1,
                swarm_ids: vec![SWARM; 70],
            }
            .encode(),
            1 => vec![n as u8; (n % 1500) as usize],
            _ => Request::Announce {
                token,
                transaction: 1,
                announce: request(3000, 9),
                path: String::new(),
            }
            .encode(),
        };
        asked += packet.len();
        victim.send(&packet);
    }
    let heard = victim.hear(Duration::from_millis(500));
    assert_eq!(heard, None, "of {asked} bytes");
    // A connect request, whatever follows it, is answered by no more than it is.
    let connect = Request::Connect { transaction: 3 }.encode();
    victim.send(&[&connect[..], &[0; 500]].concat());
    let answer = victim.hear(Duration::from_secs(10)).expect("an answer");
    assert_eq!(answer.len(), connect.len());
    assert_eq!(tracker.totals().peers, 100, "no forged peer was taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t14_only_the_packets_source_counts() {
    let (tracker, _shutdown) = start(open()).await;
    let addr = tracker.udp_addrs()[0];
    let client = Client::new(addr);
    let mut packet = Request::Announce {
        token: client.token(),
        transaction: 1,
        announce: request(2001, 9),
        path: "/announce?ip=203.0.113.7&ipv4=203.0.113.7".into(),
    }
    .encode();
    // BEP 15's field for an address of one's choice.
    packet[84..88].copy_from_slice(&[203, 0, 113, 7]);
    client.send(&packet);
    client.hear(Duration::from_secs(10)).expect("an answer");
    let told = Client::new(addr).announce(request(2002, 9)).expect("taken");
    assert_eq!(told.peers, ["127.0.0.1:2001".parse().expect("an address")]);
    let refused = client.announce(request(80, 9));
    let reason = "port is below the least this tracker accepts";
    assert_eq!(refused, Err(reason.to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t18_bundles_of_no_site_are_refused_with_the_error_action() {
    let (tracker, _shutdown) = start(config()).await;
    let client = Client::new(tracker.udp_addrs()[0]);
    let reason = "info hash is not registered at this tracker";
    assert_eq!(client.announce(request(2001, 9)), Err(reason.to_owned()));
    assert_eq!(tracker.totals().peers, 0);
    assert_eq!(client.scrape(vec![SWARM]), [ScrapeEntry::default()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_of_a_withdrawn_bundle_are_told_to_stop() {
    let site = TestSite::new("example.org", 1);
    let mut config = config();
    config.site_keys.insert(site.name.clone(), site.root());
    let (tracker, _shutdown) = start(config).await;
    let record = site.record(1, unix(), &[("/index.html", 1)]);
    tracker.register_site(record).await.expect("good");
    let client = Client::new(tracker.udp_addrs()[0]);
    let peer = AnnounceRequest {
        swarm_id: v1(1),
        ..request(2001, 9)
    };
    client.announce(peer.clone()).expect("registered");
    let heir = TestSite::new("example.org", 2);
    tracker.pin_site_key(heir.name.clone(), heir.root()).await;
    let reason = "this bundle was withdrawn by its site";
    assert_eq!(client.announce(peer.clone()), Err(reason.to_owned()));
    let target = format!("/announce?{}", encode_query(&peer));
    let reply = get(tracker.http_addr(), &target).await;
    assert_eq!(reply.status, 410, "what makes clients stop");
    assert!(reply.text().contains(reason), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_longer_than_a_datagram_should_be() {
    let mut config = open();
    config.announce.peers_per_reply_max = 1000;
    config.announce.peers_per_reply = 1000;
    config.http = ["127.0.0.1:0", "[::1]:0"]
        .map(|a| a.parse().expect("an address"))
        .into();
    let (tracker, _shutdown) = start(config).await;
    for (addr, fit) in tracker.udp_addrs().iter().zip([202, 67]) {
        let client = Client::new(*addr);
        for port in 2000..2250 {
            client.announce(request(port, 9)).expect("taken");
        }
        for numwant in [None, Some(250), Some(u32::MAX)] {
            let announce = AnnounceRequest {
                numwant,
                ..request(3000, 9)
            };
            let told = client.announce(announce).expect("taken");
            assert_eq!(told.peers.len(), fit);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_sockets_are_one_tracker() {
    let config = TrackerConfig {
        udp_sockets: 4,
        ..open()
    };
    let (tracker, shutdown) = start(config).await;
    let addr = tracker.udp_addrs()[0];
    let token = Client::new(addr).token();
    for port in 2000..2040 {
        // Each from a socket of its own, with the token that another one was given.
        let client = Client::new(addr);
        let request = Request::Announce {
            token,
            transaction: 1,
            announce: request(port, 0),
            path: String::new(),
        };
        assert!(matches!(client.ask(&request), Response::Announce { .. }));
    }
    assert_eq!(tracker.totals().peers, 40);
    shutdown.cancel();
    tracker.join().await;
    let again = UdpSocket::bind(addr);
    assert!(again.is_ok(), "the port is free again: {again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_is_where_it_is_wanted() {
    let none = TrackerConfig {
        udp: Some(Vec::new()),
        ..open()
    };
    let (tracker, _shutdown) = start(none).await;
    assert!(tracker.udp_addrs().is_empty());
    let (tracker, _shutdown) = start(open()).await;
    let taken = TrackerConfig {
        udp: Some(tracker.udp_addrs().to_vec()),
        ..config()
    };
    let error = swarm_tracker::Tracker::start(taken, Default::default()).await;
    let line = error.expect_err("in use").to_string();
    assert!(line.contains(&tracker.udp_addrs()[0].to_string()), "{line}");
}
