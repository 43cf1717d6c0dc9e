//! Nobody sends us inside: by address, by name, by redirect, or by changing their mind.

use std::sync::{Arc, Mutex};

use super::*;
use crate::connector::fake::FakeNet;

const SECRETS: [&str; 5] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "referer",
    "origin",
];

fn client_over(network: &Arc<FakeNet>) -> HttpClient {
    let network: Arc<FakeNet> = Arc::clone(network);
    let connector = Connector::new(AddressPolicy::default(), SECOND).over(network);
    let tls = tls().unwrap().with_webpki_roots().with_no_client_auth();
    HttpClient::over(connector, tls)
}

/// A server whose answers are made from the request's head, one to a connection.
async fn server(
    answer: impl Fn(&str) -> String + Send + 'static,
) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 16_384];
            let len = stream.read(&mut request).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&request[..len]).into_owned();
            let _ = stream.write_all(answer(&head).as_bytes()).await;
            heads.lock().unwrap().push(head);
        }
    });
    (addr, seen)
}

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// Both ways out: whole answers, and streams.
async fn both(client: &HttpClient, url: &str, trust: Trust) -> [Result<(), HttpError>; 2] {
    let whole = client.get(url, 1000, SECOND, trust).await;
    let stream = client.lane(trust);
    let stream = stream.get(url, HeaderMap::new(), SECOND).await;
    [whole.map(|_| ()), stream.map(|_| ())]
}

/// Hosts that are, or lead, inside.
const TARGETS: [&str; 88] = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0x7F.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "0x7f.1",
    "127.0.0.1.",
    "%31%32%37.0.0.1",
    "１２７.0.0.1",
    "127。0。0。1",
    "①②⑦.0.0.1",
    "0",
    "0.0.0.0",
    "0.1.2.3",
    "0x0",
    "00000",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
    "a.b.LocalHost.",
    "ｌｏｃａｌｈｏｓｔ",
    "10.0.0.1",
    "10.255.255.255",
    "167772161",
    "0xa000001",
    "012.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "0xac.0x10.1",
    "192.168.0.1",
    "192.168.255.255",
    "3232235521",
    "0xc0a80001",
    "192.168.257",
    "169.254.169.254",
    "169.254.0.1",
    "2852039166",
    "0xA9FEA9FE",
    "0251.0376.0251.0376",
    "0xa9.254.0xa9fe",
    "100.64.0.1",
    "100.127.255.255",
    "100.100.100.200",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "4294967295",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[::ffff:169.254.169.254]",
    "[::ffff:10.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::169.254.169.254]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:53aa:64c::1]",
    "[2001:db8::1]",
    "[2a00::5efe:10.0.0.1]",
    "[2a00::200:5efe:127.0.0.1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[100::1]",
    "[5f00::1]",
    "[4000::1]",
    "inside.example",
    "mapped.example",
    "metadata.example",
];

#[tokio::test]
async fn t27_no_stranger_sends_us_inside_directly_or_by_redirect() {
    let network = Arc::new(FakeNet::default());
    network.name("inside.example", &[&["192.168.0.1", "10.0.0.1"]]);
    network.name("mapped.example", &[&["::ffff:127.0.0.1"]]);
    network.name("metadata.example", &[&["169.254.169.254", "fd00:ec2::254"]]);
    network.name("outside.example", &[&["93.184.216.34"]]);
    let (addr, _) = server(|head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let to = percent(path.trim_start_matches('/'));
        format!(
            "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    })
    .await;
    network.route("93.184.216.34:80", addr);
    let client = client_over(&network);
    let dialled = || std::mem::take(&mut *network.dialled.lock().unwrap());
    for target in TARGETS {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{target}/latest/meta-data");
            for refused in both(&client, &url, Trust::Stranger).await {
                let expected = matches!(
                    refused,
                    Err(HttpError::BadUrl(_) | HttpError::Connect(ConnectError::Refused(_)))
                );
                assert!(expected, "{url}: {refused:?}");
            }
            assert_eq!(dialled(), [], "{url}");
            let hidden: String = url.bytes().map(|byte| format!("{byte:02x}")).collect();
            let redirecting = format!("http://outside.example/{hidden}");
            for refused in both(&client, &redirecting, Trust::Stranger).await {
                assert!(refused.is_err(), "{url}");
            }
            let outside: SocketAddr = "93.184.216.34:80".parse().unwrap();
            assert_eq!(dialled(), [outside, outside], "by redirect to {url}");
        }
    }
}

/// Hexadecimal back to text.
fn percent(hex: &str) -> String {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    let bytes = digits.chunks(2).map(|two| (two[0] * 16 + two[1]) as u8);
    // Headers are bytes; what is not ASCII is escaped as a browser would.
    let escaped = bytes.map(|byte| match byte.is_ascii() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    escaped.collect()
}

#[tokio::test]
async fn t27_what_the_operator_named_may_not_redirect_inside_either() {
    let network = Arc::new(FakeNet::default());
    network.name("outside.example", &[&["93.184.216.34"]]);
    let (addr, _) = server(|_| {
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/admin\r\nContent-Length: 0\r\n\r\n".into()
    })
    .await;
    network.route("93.184.216.34:80", addr);
    let client = client_over(&network);
    for refused in both(&client, "http://outside.example/", Trust::CommandLine).await {
        let expected = matches!(refused, Err(HttpError::Connect(ConnectError::Refused(_))));
        assert!(expected, "{refused:?}");
    }
    let dialled = network.dialled.lock().unwrap().clone();
    assert!(
        dialled
            .iter()
            .all(|addr| addr.port() == 80 && !addr.ip().is_loopback())
    );
}

#[tokio::test]
async fn t28_a_name_is_resolved_once_and_the_vetted_address_is_dialled() {
    for way in 0..2 {
        let network = Arc::new(FakeNet::default());
        network.name(
            "rebind.example",
            &[&["93.184.216.34"], &["127.0.0.1"], &["127.0.0.1"]],
        );
        let (addr, _) = server(|_| FINE.into()).await;
        network.route("93.184.216.34:80", addr);
        network.route("127.0.0.1:80", addr);
        let client = client_over(&network);
        let lane = client.lane(Trust::Stranger);
        let ask = async || match way {
            0 => client
                .get("http://rebind.example/", 1000, SECOND, Trust::Stranger)
                .await
                .map(|_| ()),
            _ => match lane
                .get("http://rebind.example/", HeaderMap::new(), SECOND)
                .await
            {
                Ok(mut answer) => {
                    while answer.chunk().await.is_some() {}
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        ask().await.unwrap();
        assert_eq!(
            network.lookups.lock().unwrap().len(),
            1,
            "one look-up a call"
        );
        // The server closed the connection; the name leads inside now.
        let refused = ask().await;
        assert!(
            matches!(refused, Err(HttpError::Connect(ConnectError::Refused(_)))),
            "{refused:?}"
        );
        let dialled = network.dialled.lock().unwrap().clone();
        assert_eq!(dialled, ["93.184.216.34:80".parse().unwrap()]);
    }
}

#[tokio::test]
async fn t28_of_many_answers_only_the_permitted_are_dialled() {
    let network = Arc::new(FakeNet::default());
    let mixed: &[&str] = &["127.0.0.1", "10.0.0.1", "93.184.216.34", "::1"];
    network.name("mixed.example", &[mixed]);
    let (addr, _) = server(|_| FINE.into()).await;
    network.route("93.184.216.34:80", addr);
    network.route("127.0.0.1:80", addr);
    let client = client_over(&network);
    for fine in both(&client, "http://mixed.example/", Trust::Stranger).await {
        fine.unwrap();
    }
    let dialled = network.dialled.lock().unwrap().clone();
    assert!(
        dialled
            .iter()
            .all(|addr| addr.ip().to_string() == "93.184.216.34")
    );
}

#[tokio::test]
async fn t32_no_credentials_are_ever_sent() {
    let network = Arc::new(FakeNet::default());
    network.name("a.example", &[&["93.184.216.34"]]);
    network.name("b.example", &[&["93.184.216.35"]]);
    let (second, seen_there) =
        server(|_| FINE.replace("\r\n\r\n", "\r\nSet-Cookie: session=b\r\n\r\n")).await;
    let (first, seen_here) = server(|head| {
        let to = match head.contains("/with-user") {
            true => "http://me:secret@b.example/",
            false => "http://b.example/file",
        };
        format!(
            "HTTP/1.1 302 Found\r\nLocation: {to}\r\nSet-Cookie: session=a\r\n\
             WWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    })
    .await;
    network.route("93.184.216.34:80", first);
    network.route("93.184.216.35:80", second);
    let client = client_over(&network);
    for trust in [Trust::CommandLine, Trust::Stranger] {
        for _ in 0..2 {
            for fine in both(&client, "http://a.example/file", trust).await {
                fine.unwrap();
            }
        }
        for url in [
            "http://a.example/with-user",
            "http://me:secret@a.example/file",
            "http://me@a.example/file",
        ] {
            let before = seen_there.lock().unwrap().len();
            for refused in both(&client, url, trust).await {
                assert!(
                    matches!(refused, Err(HttpError::BadUrl(_))),
                    "{url}: {refused:?}"
                );
            }
            assert_eq!(seen_there.lock().unwrap().len(), before, "{url}");
        }
    }
    let (here, there) = (seen_here.lock().unwrap(), seen_there.lock().unwrap());
    assert!(here.len() >= 8 && there.len() >= 8);
    for head in here.iter().chain(there.iter()) {
        let head = head.to_ascii_lowercase();
        for secret in SECRETS {
            assert!(!head.contains(&format!("\n{secret}:")), "{head}");
        }
        assert!(
            !head.contains("secret") && !head.contains("session="),
            "{head}"
        );
    }
}
