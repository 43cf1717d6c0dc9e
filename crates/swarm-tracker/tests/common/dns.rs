//! A name server on loopback that says what a test has it say.

use std::net::{SocketAddr, UdpSocket};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::TXT;
use hickory_resolver::proto::rr::{RData, Record, RecordType};

/// Answers with what `says` has of a name, with its dot at the end; `None`: there is no such name.
/// Each answer holds for a second. It ends with the test.
pub(crate) fn name_server(
    says: impl Fn(&str, RecordType) -> Option<Vec<RData>> + Send + 'static,
) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let addr = socket.local_addr().expect("bound");
    std::thread::spawn(move || {
        let mut packet = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut packet) {
            let question = Message::from_vec(&packet[..len]).expect("a question");
            let query = question.queries[0].clone();
            let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
            let name = query.name().to_string().to_ascii_lowercase();
            match says(&name, query.query_type()) {
                None => answer.metadata.response_code = ResponseCode::NXDomain,
                Some(all) => {
                    for data in all {
                        answer.add_answer(Record::from_rdata(query.name().clone(), 1, data));
                    }
                }
            }
            answer.add_query(query);
            let answer = answer.to_vec().expect("an answer");
            // Who asked may be gone.
            let _ = socket.send_to(&answer, from);
        }
    });
    addr
}

/// One TXT record.
pub(crate) fn text(text: String) -> Vec<RData> {
    vec![RData::TXT(TXT::new(vec![text]))]
}
