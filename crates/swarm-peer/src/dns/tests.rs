use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::TXT;
use hickory_resolver::proto::rr::{RData, Record};
use swarm_proto::manifest::{PublicKey, SecretKey};
use tokio::net::UdpSocket;

use super::*;

/// What a server says to whoever asks it anything.
#[derive(Clone)]
enum Says {
    Texts(Vec<Vec<String>>),
    Code(ResponseCode),
    Rubbish,
    Nothing,
}

/// A server on loopback, and how often it was asked.
async fn server(says: Says) -> (Dns, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buf = [0; 2048];
        loop {
            let (len, from) = socket.recv_from(&mut buf).await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let question = Message::from_vec(&buf[..len]).unwrap();
            let query = question.queries[0].clone();
            let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
            answer.metadata.recursion_available = true;
            match &says {
                Says::Nothing => continue,
                Says::Rubbish => {
                    socket.send_to(&buf[..7], from).await.unwrap();
                    continue;
                }
                Says::Code(code) => answer.metadata.response_code = *code,
                Says::Texts(texts) => {
                    for text in texts {
                        let data = RData::TXT(TXT::new(text.clone()));
                        answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
                    }
                }
            }
            answer.add_query(query);
            socket
                .send_to(&answer.to_vec().unwrap(), from)
                .await
                .unwrap();
        }
    });
    (Dns::at(addr).unwrap(), asked)
}

fn site() -> SiteName {
    SiteName::parse("example.org").unwrap()
}

fn key(n: u8) -> PublicKey {
    SecretKey::new([n; 32]).public()
}

fn record(n: u8) -> String {
    format!(
        "v=1; origin=https://origin.example.org; operator={}",
        key(n)
    )
}

#[tokio::test]
async fn good_records_among_others_are_found_and_asked_for_once() {
    let (front, back) = (record(2)[..30].to_owned(), record(2)[30..].to_owned());
    let texts = vec![
        vec!["v=spf1 -all".to_owned()],
        vec![record(1)],
        vec!["v=1; origin=nonsense; operator=nonsense".to_owned()],
        // One record in two strings.
        vec![front, back],
    ];
    let (dns, asked) = server(Says::Texts(texts)).await;
    for _ in 0..3 {
        let consents = dns.consents(&site()).await.unwrap();
        let operators: Vec<_> = consents.list.iter().map(|one| one.operator).collect();
        assert_eq!(operators, [key(1), key(2)]);
        assert!(consents.valid_for <= Duration::from_secs(60));
        assert!(consents.valid_for >= Duration::from_secs(30));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn more_records_than_anybody_needs_are_not_kept() {
    // As many as one packet holds.
    let texts = (1..=9).map(|n| vec![format!("v=1;origin=http://o.x;operator={}", key(n))]);
    let texts: Vec<_> = texts.collect();
    assert!(texts.len() > CONSENTS_MAX);
    let (dns, _) = server(Says::Texts(texts)).await;
    let list = dns.consents(&site()).await.unwrap().list;
    assert_eq!(list.len(), CONSENTS_MAX);
}

#[tokio::test]
async fn nothing_there_is_an_answer_and_no_answer_is_none() {
    for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
        let (dns, _) = server(Says::Code(code)).await;
        let consents = dns.consents(&site()).await.unwrap();
        assert_eq!(consents, Consents::nobody(ABSENT.0), "{code}");
    }
    for says in [
        Says::Code(ResponseCode::ServFail),
        Says::Code(ResponseCode::Refused),
        Says::Rubbish,
        Says::Nothing,
    ] {
        let (dns, _) = server(says).await;
        let error = dns.consents(&site()).await.unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("_spikeswarm.example.org. cannot be looked up"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn addresses_are_never_asked_about() {
    let (dns, asked) = server(Says::Texts(vec![vec![record(1)]])).await;
    for site in ["127.0.0.1:8000", "localhost", "[::1]"] {
        let site = SiteName::parse(site).unwrap();
        assert_eq!(dns.consents(&site).await.unwrap().list, []);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}
