use super::*;

/// 256 ids of twelve letters, five bits each, and 32 bits of key: the bounds are eight standard
/// deviations wide.
#[tokio::test]
async fn t60_fresh_peer_ids_differ_and_their_bits_are_balanced() {
    let mut ids = std::collections::BTreeSet::new();
    let mut ones = [0_usize; 12 * 5 + 32];
    for _ in 0..256 {
        let shutdown = CancellationToken::new();
        let config = NodeConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..NodeConfig::default()
        };
        let node = Node::start(config, shutdown.clone()).await.unwrap();
        let id = node.peer_id();
        let (prefix, letters) = id.as_ref().split_at(8);
        assert_eq!(prefix, NodeConfig::default().peer_id_prefix);
        let letters = letters.iter().map(|letter| match letter {
            b'A'..=b'Z' => u32::from(letter - b'A'),
            b'2'..=b'7' => u32::from(letter - b'2') + 26,
            _ => panic!("no letter of base 32: {letter}"),
        });
        let bits = letters.flat_map(|letter| (0..5).map(move |bit| letter >> bit & 1));
        let key = node.inner.key;
        let bits = bits.chain((0..32).map(|bit| key >> bit & 1));
        for (ones, bit) in ones.iter_mut().zip(bits) {
            *ones += bit as usize;
        }
        ids.insert(id.as_ref().to_vec());
        shutdown.cancel();
        node.join().await;
    }
    assert_eq!(ids.len(), 256);
    for (bit, ones) in ones.into_iter().enumerate() {
        assert!(ones.abs_diff(128) < 64, "bit {bit}: {ones} of 256");
    }
}
