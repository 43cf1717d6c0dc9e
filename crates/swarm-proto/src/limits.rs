//! Every bound a stranger can push against, with its reason.
//!
//! These are promises, not configuration: nothing in a config file changes them. What an operator
//! may tune (slots, queues below these bounds, time-outs) lives in config structs.

// ---- bencode ----

/// Containers inside containers in a network message. Our deepest real message has five levels;
/// 64 leaves room and still lets a value be dropped on a 64 KiB stack.
pub const BENCODE_DEPTH_MAX: usize = 64;

/// Values and keys in one network message. A tracker's reply with 3,000 non-compact peers stays
/// well below.
pub const BENCODE_TOKENS_MAX: usize = 100_000;

/// Containers inside containers in a metainfo file: a v2 file tree nests one dictionary per
/// directory, so this is [`DIRECTORY_DEPTH_MAX`] plus the levels around the tree.
pub const METAINFO_DEPTH_MAX: usize = DIRECTORY_DEPTH_MAX + 8;

/// Values and keys in one metainfo file (libtorrent's `max_decode_tokens`).
pub const METAINFO_TOKENS_MAX: usize = 3_000_000;

/// Containers inside containers that [`Item::to_bytes`](crate::bencode::Item::to_bytes) writes.
/// Only our own code makes items, and none nests deeper than a metainfo file.
pub const ENCODE_DEPTH_MAX: usize = 256;

// ---- metainfo ----

/// Bytes of a .torrent file (libtorrent's `max_buffer_size`).
pub const METAINFO_LEN_MAX: usize = 10_000_000;

/// Bytes of an info dictionary that is fetched from peers (BEP 9): what a .torrent may hold.
pub const INFO_LEN_MAX: usize = METAINFO_LEN_MAX;

/// Pieces of one torrent (libtorrent's `max_pieces`); a bitfield is then at most 256 KiB.
pub const PIECES_MAX: u32 = 0x20_0000;

/// Shortest piece of a v1 torrent, bytes. Shorter ones only make bitfields long.
pub const PIECE_LENGTH_MIN_V1: u32 = 1024;

/// Shortest piece of a v2 or hybrid torrent, bytes (BEP 52).
pub const PIECE_LENGTH_MIN_V2: u32 = 16 * 1024;

/// Longest piece, bytes. A piece is held in memory until it is verified.
pub const PIECE_LENGTH_MAX: u32 = 64 * 1024 * 1024;

/// Entries in a file list, pad files included. Each costs at least 25 bytes of metainfo, so a file
/// of [`METAINFO_LEN_MAX`] could name about 400,000; this only states it.
pub const FILES_MAX: usize = 400_000;

/// Directories above one file.
pub const DIRECTORY_DEPTH_MAX: usize = 100;

/// Bytes of info dictionary for each directory of its paths, at least, beyond the first thousand: a
/// file takes some 24 to name, and who gives many files directories of their own gives those names.
pub const INFO_LEN_PER_DIRECTORY_MIN: usize = 16;

/// Bytes of one path component. 255 is what Linux, macOS and Windows file systems take.
pub const PATH_COMPONENT_LEN_MAX: usize = 255;

/// Bytes of one path, separators included, below the torrent's name.
pub const PATH_LEN_MAX: usize = 4096;

/// Files of one torrent whose names are alike once sanitised and case-folded
/// (libtorrent's `max_duplicate_filenames`). More is an attack, not carelessness.
pub const DUPLICATE_NAMES_MAX: usize = 500;

/// Trackers kept of a metainfo file or magnet link.
pub const TRACKERS_MAX: usize = 100;

/// Web seeds kept of a metainfo file or magnet link.
pub const WEB_SEEDS_MAX: usize = 100;

/// Bytes of one tracker or web seed URL.
pub const URL_LEN_MAX: usize = 2048;

/// Bytes of a magnet link.
pub const MAGNET_LEN_MAX: usize = 64 * 1024;

/// Peer addresses kept of a magnet link (`x.pe`).
pub const MAGNET_PEERS_MAX: usize = 100;

/// Ranges of files that a magnet link selects (`so`).
pub const MAGNET_SELECTED_MAX: usize = 1000;

// ---- local network ----

/// Swarms in one announce on the local network (BEP 14), so that it fits into an Ethernet frame.
pub const LSD_SWARMS_MAX: usize = 24;

/// Bytes of such an announce that are read: an Ethernet frame.
pub const LSD_PACKET_LEN_MAX: usize = 1500;

// ---- DHT ----

/// Nodes of the DHT that peers told of and that are remembered, the latest of them (BEP 5): 6 bytes
/// each, and as many packets should we have to enter by them.
pub const DHT_NODES_HEARD_MAX: usize = 32;

// ---- wire ----

/// Bytes of a block that may be asked for. BEP 3: "All current implementations use 2^14 (16 kiB),
/// and close connections which request an amount greater than that."
pub const BLOCK_LEN_MAX: u32 = 16 * 1024;

/// Bytes of one length-prefixed message, the prefix not counted: the bitfield of a torrent with
/// [`PIECES_MAX`] pieces and its message id.
pub const FRAME_LEN_MAX: usize = 1 + PIECES_MAX as usize / 8;

/// Bytes of one message once the torrent's size is known, unless its bitfield is longer. Blocks,
/// hashes and metadata come in 16 KiB and some.
pub const MESSAGE_LEN_MAX: usize = 64 * 1024;

/// Hashes in one hash request (BEP 52; libtorrent refuses more than 8,192 per message, we ask and
/// answer no more than fit in a block-sized message).
pub const HASHES_PER_REQUEST_MAX: u32 = 512;

/// Bytes sent for each byte received on a uTP connection whose opener has not yet shown that it
/// gets our packets (T24): what QUIC allows (RFC 9000, 8.1), and enough for two lost answers.
pub const UTP_REPLY_FACTOR_MAX: u64 = 3;

/// uTP connections opened by others and not yet proven. An honest one is proven within a round
/// trip; each costs 100 bytes and a task for a second.
pub const UTP_UNPROVEN_MAX: usize = 256;

/// uTP connections opened by others that are remembered, 100 bytes each.
pub const UTP_PATHS_MAX: usize = 8192;

// ---- session ----

/// Bytes that [`PeerSession::poll_transmit`](crate::session::PeerSession::poll_transmit) lets a
/// driver hold unsent: enough for one large write.
pub const OUTPUT_LEN_MAX: usize = 256 * 1024;

// ---- tracker ----

/// Bytes of the query of an announce or scrape. A real announce has some 350; a scrape of
/// [`SCRAPE_HASHES_MAX`] swarms, each byte escaped, has 5,000.
pub const ANNOUNCE_QUERY_LEN_MAX: usize = 8 * 1024;

/// Bytes of a tracker's reply that a client reads (libtorrent's
/// `tracker_maximum_response_length`).
pub const TRACKER_REPLY_LEN_MAX: usize = 1024 * 1024;

/// Peers taken of one announce reply, and given at most. Clients ask for 50 to 200.
pub const PEERS_PER_REPLY_MAX: usize = 1000;

/// Swarms in one scrape (BEP 15 names "up to about 74", aquatic takes 70).
pub const SCRAPE_HASHES_MAX: usize = 70;

/// Bytes of a datagram that our tracker answers with (BEP 15): what every path of IPv6 carries in
/// one piece, 1280 with its headers, as pieces are lost and forged more easily. A scrape of
/// [`SCRAPE_HASHES_MAX`] swarms has 848.
pub const UDP_REPLY_LEN_MAX: usize = 1232;

/// Bytes of a packet of a UDP tracker (BEP 15) that a client reads: [`PEERS_PER_REPLY_MAX`] peers
/// of IPv6. Longer ones are cut off.
pub const UDP_TRACKER_PACKET_LEN_MAX: usize = 20 + 18 * PEERS_PER_REPLY_MAX;

/// Longest failure or warning kept of a foreign tracker, in bytes: it ends in a log line.
pub const TRACKER_REASON_LEN_MAX: usize = 256;

/// Bytes of one message of a peer that speaks WebSocket, whole or in fragments (aquatic's limit):
/// an announce with [`WS_OFFERS_MAX`] offers of 6 KiB. A frame may be as long: browsers send a
/// message as one, and fragments of a long message are kept until the last, too.
pub const WS_MESSAGE_LEN_MAX: usize = 64 * 1024;

/// Offers taken of one announce (aquatic's limit). Each is a connection that a browser holds ready;
/// WebTorrent makes five at a time.
pub const WS_OFFERS_MAX: usize = 10;

/// Bytes of one session description. That of a data channel has some 500, and 100 more for each
/// address its host may be reached at.
pub const WS_SDP_LEN_MAX: usize = 8 * 1024;

/// Sites in need taken of one reply of the register.
pub const SITES_PER_REPLY_MAX: usize = 1024;

/// Bridges taken of one reply of the register, and given at most.
pub const BRIDGES_PER_REPLY_MAX: usize = 512;

/// Bytes of the query with which a tracker calls a bridge (spec 0006, 3.2): a nonce, and a host,
/// each byte of it escaped.
pub const PROOF_QUERY_LEN_MAX: usize = 1024;

// ---- site manifest, keys, stamps, alarms (spec 0002) ----

/// Bytes of a site name: a DNS name of 253, a colon and a port.
pub const SITE_NAME_LEN_MAX: usize = 253 + 1 + 5;

/// Bytes of a decoded site path.
pub const SITE_PATH_LEN_MAX: usize = 1024;

/// Bytes of one component of a site path: what a metainfo's path takes unchanged.
pub const SITE_PATH_COMPONENT_LEN_MAX: usize = PATH_COMPONENT_LEN_MAX;

/// Components of a site path; with those around it, it stays below [`DIRECTORY_DEPTH_MAX`].
pub const SITE_PATH_DEPTH_MAX: usize = 64;

/// Signatures on one envelope: the old and the new roots of a key roll. Each costs a verification.
pub const SIGNATURES_MAX: usize = 2 * ROLE_KEYS_MAX;

/// Keys of one role of one site.
pub const ROLE_KEYS_MAX: usize = 16;

/// Key sets in one chain: a roll each month for five years. Each costs up to
/// [`SIGNATURES_MAX`] verifications, 60 microseconds each.
pub const KEY_CHAIN_MAX: usize = 64;

/// Bytes of one envelope, payload and signatures. A key set with all keys is below 3 KiB, a
/// manifest's head below 1 KiB.
pub const ENVELOPE_LEN_MAX: usize = 16 * 1024;

/// Bytes of a chain of keys.
pub const KEY_CHAIN_LEN_MAX: usize = KEY_CHAIN_MAX * ENVELOPE_LEN_MAX;

/// Bytes of a manifest's body. 200 to 400 bytes describe a file and its variants.
pub const MANIFEST_BODY_LEN_MAX: usize = 32 * 1024 * 1024;

/// Bytes of a signed manifest: head and body.
pub const MANIFEST_LEN_MAX: usize = MANIFEST_BODY_LEN_MAX + ENVELOPE_LEN_MAX + 64;

/// Bytes of a site record: keys, manifest and stamp.
pub const SITE_RECORD_LEN_MAX: usize = MANIFEST_LEN_MAX + KEY_CHAIN_LEN_MAX + ENVELOPE_LEN_MAX;

/// Values and keys in a manifest's body, which is decoded only after its signature held.
pub const MANIFEST_TOKENS_MAX: usize = 3_000_000;

/// Files of one manifest. A file with two variants is 30 tokens, so this many fit.
pub const MANIFEST_FILES_MAX: usize = 100_000;

/// Bundles of one manifest: 300 GiB at the usual size of a bundle.
pub const MANIFEST_BUNDLES_MAX: usize = 10_000;

/// Trackers named for one bundle of a manifest.
pub const BUNDLE_TRACKERS_MAX: usize = 16;

/// Bytes of a media type with its parameters; it goes into a header.
pub const MEDIA_TYPE_LEN_MAX: usize = 127;

/// Seconds that clocks may differ before something signed counts as made in the future.
pub const CLOCK_SKEW_SECS_MAX: u64 = 600;

/// Seconds a manifest may live: 30 days without a gate, and some slack for rounding.
pub const MANIFEST_LIFETIME_SECS_MAX: u64 = 31 * 86_400;

/// Seconds a freshness stamp may live: how long a mirror can freeze a stamped site.
pub const STAMP_LIFETIME_SECS_MAX: u64 = 86_400;

/// Seconds an alarm may live: how long volunteers stay when a gate vanishes.
pub const ALARM_LIFETIME_SECS_MAX: u64 = 3_600;

/// Bytes of a site's trust state on disk: one key set, some numbers.
pub const TRUST_STATE_LEN_MAX: usize = 64 * 1024;

/// Blocks asked of one peer at a time: 32 MiB under way, a gigabit at 250 ms. What is not on the
/// way from there is bounded by the memory for pieces.
pub const REQUESTS_OUT_MAX: usize = 2048;

/// Requests to one peer that are no more counted on, but whose blocks are still taken.
pub const STRAY_REQUESTS_MAX: usize = 512;

/// Blocks that a peer may send unasked before it is taken for a flood. More than none, since a
/// block may cross the memory of a very old request.
pub const UNREQUESTED_BLOCKS_MAX: u32 = 64;

/// Requests of one peer that are queued, 12 bytes each; announced as `reqq`
/// (libtorrent's `max_allowed_in_request_queue`).
pub const REQUESTS_IN_MAX: usize = 2000;

/// Requests of one peer that are passed on before their blocks are on the way: 256 KiB of blocks
/// in memory per peer.
pub const REQUESTS_PASSED_MAX: usize = 16;

/// Requests refused to one peer (choked, or past the queue) before it is taken for a flood. A peer
/// without the fast extension may have a whole queue on its way when it is choked.
pub const REQUESTS_REFUSED_MAX: u32 = 4000;

/// Pieces that a peer may allow us to ask for while it chokes us (BEP 6) and that are remembered.
/// The BEP's example has 10, libtorrent allows 5.
pub const ALLOWED_FAST_MAX: usize = 32;

/// Messages of one peer within a minute that change nothing: keep-alives, pieces said twice,
/// unknown messages. An honest peer sends a few.
pub const USELESS_MESSAGES_MAX: u32 = 5000;

/// Messages of that kind that are forgiven for each block that the peer takes: who reads a film at
/// full speed asks for the next piece in place of others, and cancels about as much as it takes.
pub const USELESS_PER_BLOCK: u32 = 2;

/// Bytes of messages other than blocks that wait for one peer to read: a bitfield of
/// [`PIECES_MAX`] pieces and some answers.
pub const CONTROL_LEN_MAX: usize = 512 * 1024;

/// Peers taken of one message of ut_pex, of each kind. BEP 11 allows 50, and more in the first.
pub const PEX_PEERS_PER_MESSAGE_MAX: usize = 200;

/// Messages of ut_pex of one peer that are read within a minute. BEP 11 allows one; with the first,
/// which comes at once, and a clock that runs fast, two may fall into the same.
pub const PEX_MESSAGES_PER_MINUTE_MAX: u32 = 2;

/// Messages of ut_pex within a minute that are a flood. libtorrent has no more than six; more
/// clemency costs little, since those beyond the first two are not read.
pub const PEX_FLOOD_PER_MINUTE: u32 = 20;

/// Peers taken of all messages of ut_pex of one peer within a minute: the largest that a client in
/// the field sends at first, and twice what BEP 11 allows from then on.
pub const PEX_PEERS_PER_MINUTE_MAX: usize = 200;

/// Pieces of metadata asked of one peer at a time.
pub const METADATA_REQUESTS_MAX: usize = 16;

/// Hash requests open at one peer at a time.
pub const HASH_REQUESTS_MAX: usize = 16;

// ---- hashes ----

/// Bytes that are hashed to answer one hash request for layers below the pieces, if a piece is not
/// longer: what [`HASHES_PER_REQUEST_MAX`] leaves cover.
pub const HASHED_PER_REQUEST_MAX: u64 = HASHES_PER_REQUEST_MAX as u64 * BLOCK_LEN_MAX as u64;

/// Bytes that are hashed within a second for one peer's hash requests: the longest piece, and some
/// thirtieth of a core.
pub const HASHED_PER_PEER_MAX: u64 = PIECE_LENGTH_MAX as u64;

/// Leaf hashes kept in case they are asked for again: 1 MiB, the leaves of 512 MiB. The largest
/// request needs 4096.
pub const LEAVES_CACHED_MAX: usize = 32 * 1024;

/// Pieces whose leaf hashes are being fetched.
pub const LEAF_FETCHES_MAX: usize = 256;

/// Bytes of false pieces that are held until leaf hashes tell which of their blocks are true; one
/// piece is held whatever its length.
pub const RESCUED_LEN_MAX: usize = 16 * 1024 * 1024;

// ---- download ----

/// Peers that lied and are kept out, the latest of them.
pub const BANS_MAX: usize = 4096;

/// Addresses of whose gone connections it is remembered that they took more than they said to have.
pub const TAKERS_MAX: usize = 1024;

/// Connections that are gone and whose blocks may still turn out to be false.
pub const DEPARTED_PEERS_MAX: usize = 1024;

/// Pieces of which an earlier try was false and whose senders are remembered by block hash:
/// 32 bytes for each block of each try.
pub const SUSPECT_PIECES_MAX: usize = 64;

/// Tries remembered of one false piece. The first has many senders, each further one a single
/// sender that is then banned.
pub const SUSPECT_TRIES_MAX: usize = 8;

/// Pieces that one peer suggests and we remember: what a fast seed of small pieces suggests in a
/// round trip, at 4 bytes each.
pub const SUGGESTIONS_MAX: usize = 128;

/// Addresses that could not be reached and for which an introduction was asked for (BEP 55) within
/// a minute.
pub const PUNCHES_MAX: usize = 64;

/// Introductions that one peer may ask of us within a minute (BEP 55): each makes us send two
/// messages of 30 bytes and two peers up to three packets each.
pub const INTRODUCTIONS_PER_MINUTE_MAX: u32 = 20;

/// Calls of one bundle within a minute to addresses that a peer introduced and we did not ask for
/// (BEP 55). Up to three packets of 20 bytes go to each, whoever lives there (T25).
pub const UNASKED_PUNCHES_PER_MINUTE_MAX: u32 = 10;

/// Pieces with a deadline.
pub const DEADLINES_MAX: usize = 1024;
