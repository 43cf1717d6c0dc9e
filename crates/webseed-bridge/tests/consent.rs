//! A site that shows no keys itself: who carries it is as its DNS says.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::TXT;
use hickory_resolver::proto::rr::{RData, Record};
use swarm_peer::connector::AddressPolicy;
use swarm_peer::dns::Dns;
use swarm_peer::http::HttpClient;
use swarm_proto::manifest::{PublicKey, SiteName, TrustError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use webseed_bridge::plain::publish_folder;
use webseed_bridge::site_source::{SiteSource, SourceError};

/// What the tracker hands out, and what DNS says.
#[derive(Default)]
struct World {
    record: Mutex<Vec<u8>>,
    texts: Mutex<Vec<String>>,
}

impl World {
    fn names(&self, operators: &[PublicKey]) {
        let text = |key| format!("v=1; origin=https://origin.test; operator={key}");
        *self.texts.lock().unwrap() = operators.iter().map(text).collect();
    }
}

async fn tracker(world: Arc<World>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let body = world.record.lock().unwrap().clone();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream
                .write_all(&[head.into_bytes(), body].concat())
                .await
                .unwrap();
        }
    });
    url
}

async fn name_server(world: Arc<World>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buf = [0; 2048];
        loop {
            let (len, from) = socket.recv_from(&mut buf).await.unwrap();
            let question = Message::from_vec(&buf[..len]).unwrap();
            let query = question.queries[0].clone();
            let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
            let texts = world.texts.lock().unwrap().clone();
            if texts.is_empty() {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            for text in texts {
                let data = RData::TXT(TXT::new(vec![text]));
                answer.add_answer(Record::from_rdata(query.name().clone(), 1, data));
            }
            answer.add_query(query);
            socket
                .send_to(&answer.to_vec().unwrap(), from)
                .await
                .unwrap();
        }
    });
    addr
}

/// A record of the site by keys of its own, and their root.
async fn published(dir: &std::path::Path, site: &SiteName, by: &str) -> (Vec<u8>, PublicKey) {
    let root = dir.join(by).join("root");
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("index.html"), by).unwrap();
    let published = publish_folder(site.clone(), &root, &dir.join(by).join("work"))
        .await
        .unwrap();
    (published.record.to_bytes(), published.keys.root[0])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_site_names_in_dns_is_believed_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    // `site.test` does not resolve, so there are no keys of its own to be had.
    let site = SiteName::parse("site.test").unwrap();
    let (first, first_key) = published(dir.path(), &site, "first").await;
    let (second, second_key) = published(dir.path(), &site, "second").await;
    let world = Arc::new(World::default());
    let tracker = tracker(world.clone()).await;
    let dns = name_server(world.clone()).await;
    let trust = dir.path().join("trust");
    // Each a bridge that was just started.
    let source = || {
        SiteSource::new(
            HttpClient::new(AddressPolicy::default()).unwrap(),
            vec![tracker.clone()],
            HashMap::new(),
            Some(trust.clone()),
            Some(Dns::at(dns).unwrap()),
        )
    };
    let refused = |result: Result<_, SourceError>| match result {
        Err(SourceError::Refused { source, .. }) => source,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("believed"),
    };

    *world.record.lock().unwrap() = first.clone();
    assert!(matches!(
        source().refresh(&site).await,
        Err(SourceError::Http(_))
    ));
    world.names(&[second_key]);
    let error = refused(source().refresh(&site).await);
    assert!(matches!(error, TrustError::NotAnchored), "{error}");

    world.names(&[second_key, first_key]);
    assert!(source().refresh(&site).await.is_ok());
    // Known from now on, whatever becomes of the name server.
    world.names(&[]);
    assert!(source().refresh(&site).await.is_ok());

    // Somebody else's record, and the site has not named him.
    *world.record.lock().unwrap() = second.clone();
    world.names(&[first_key]);
    let error = refused(source().refresh(&site).await);
    assert!(matches!(error, TrustError::NotAnchored), "{error}");
    // The site lets somebody else carry it.
    world.names(&[second_key]);
    assert!(source().refresh(&site).await.is_ok());
    *world.record.lock().unwrap() = first;
    let error = refused(source().refresh(&site).await);
    assert!(matches!(error, TrustError::NotAnchored), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dns_takes_no_site_away_from_keys_that_were_given_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let site = SiteName::parse("site.test").unwrap();
    let (own, own_key) = published(dir.path(), &site, "own").await;
    let (other, other_key) = published(dir.path(), &site, "other").await;
    let world = Arc::new(World::default());
    let tracker = tracker(world.clone()).await;
    let dns = name_server(world.clone()).await;
    let source = SiteSource::new(
        HttpClient::new(AddressPolicy::default()).unwrap(),
        vec![tracker],
        HashMap::from([(site.clone(), vec![own_key])]),
        None,
        Some(Dns::at(dns).unwrap()),
    );
    world.names(&[other_key]);
    *world.record.lock().unwrap() = other;
    assert!(source.refresh(&site).await.is_err());
    *world.record.lock().unwrap() = own;
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    assert!(source.refresh(&site).await.is_ok());
}
