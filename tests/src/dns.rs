//! A name server on loopback that knows a few records.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::TXT;
use hickory_resolver::proto::rr::{RData, Record};

/// Names, with their dot at the end, and texts.
type Texts = BTreeMap<String, Vec<String>>;

/// A running server; it ends with the test's process.
pub struct NameServer {
    /// Where it listens.
    pub addr: SocketAddr,
    texts: Arc<Mutex<Texts>>,
}

impl NameServer {
    /// Knows nothing yet: every name is unknown.
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
        let addr = socket.local_addr().expect("a bound socket has an address");
        let texts: Arc<Mutex<Texts>> = Arc::default();
        let known = Arc::clone(&texts);
        std::thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok((len, from)) = socket.recv_from(&mut buf) {
                let answer = answer(&buf[..len], &known.lock().expect("nobody panics with it"));
                if let Some(answer) = answer {
                    // Who asked may be gone.
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { addr, texts }
    }

    /// From now on this name has these texts, for a second; none: there is no such name.
    pub fn set(&self, name: &str, texts: &[&str]) {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        let mut known = self.texts.lock().expect("nobody panics with it");
        known.insert(format!("{name}."), texts);
    }
}

fn answer(question: &[u8], known: &Texts) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_available = true;
    let texts = known.get(&query.name().to_string().to_ascii_lowercase());
    match texts.filter(|texts| !texts.is_empty()) {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(texts) => {
            for text in texts {
                let data = RData::TXT(TXT::new(vec![text.clone()]));
                answer.add_answer(Record::from_rdata(query.name().clone(), 1, data));
            }
        }
    }
    answer.add_query(query);
    answer.to_vec().ok()
}
