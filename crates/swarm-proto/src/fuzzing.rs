//! (to come)

/// An announce or scrape query: what is accepted survives being written and read again. The
/// same bytes as a reply: whatever is accepted, neither form loses a peer.
pub fn announce(data: &[u8]) {
    use crate::tracker::http;

    if let Ok(query) = std::str::from_utf8(data) {
        if let Ok(request) = http::parse_announce(query) {
            let again = http::parse_announce(&http::encode_query(&request));
            assert_eq!(again, Ok(request), "announce changed on the way");
        }
        if let Ok(request) = http::parse_scrape(query) {
            let again = http::parse_scrape(&http::encode_scrape_query(&request));
            assert_eq!(again, Ok(request), "scrape changed on the way");
        }
    }
    if let Ok(mut reply) = http::decode_reply(data) {
        // Compact replies group by family.
        reply.peers.sort_by_key(std::net::SocketAddr::is_ipv6);
        for compact in [true, false] {
            let again = http::decode_reply(&http::encode_reply(&reply, compact));
            assert_eq!(again.as_ref(), Ok(&reply), "reply changed on the way");
        }
    }
    let _ = http::decode_scrape_reply(data);
}
