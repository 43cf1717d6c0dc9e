//! Query string in, bencoded reply out (BEP 3, 7, 23, 48).
//!
//! Requests are read strictly where a wrong guess would put a wrong peer into a swarm
//! (`info_hash`, `peer_id`, `port`) and leniently elsewhere. Replies are read leniently: real
//! trackers send unsorted keys, no interval, or a dictionary of peers when asked for none.

mod query;
mod reply;

pub(crate) use query::domain_name;
pub use query::{
    RequestError, announce_url, encode_query, encode_scrape_query, parse_announce, parse_scrape,
    scrape_url,
};
pub(super) use reply::one_line;
pub use reply::{
    ReplyError, decode_reply, decode_scrape_reply, encode_failure, encode_reply,
    encode_scrape_reply,
};

#[cfg(test)]
mod tests;
