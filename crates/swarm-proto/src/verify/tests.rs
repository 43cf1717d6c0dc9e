use super::*;
use crate::bencode::Item;
use crate::metainfo::{FileHasher, MetainfoBuilder};

const PIECE: usize = 32_768;

fn hashes(bytes: &[u8]) -> crate::metainfo::FileHashes {
    let mut hasher = FileHasher::new(PIECE as u32);
    hasher.update(bytes);
    hasher.finish()
}

/// Bytes that differ from block to block.
fn bytes(seed: u8, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| seed.wrapping_add((at / 251) as u8).wrapping_mul(31))
        .collect()
}

/// A hybrid of two files: 5,000 bytes in the first piece, 40,000 in the next two.
fn hybrid() -> Metainfo {
    let mut builder = MetainfoBuilder::new("site", PIECE as u32);
    builder.file(vec!["a".into()], hashes(&bytes(1, 5_000)));
    builder.file(vec!["b".into()], hashes(&bytes(2, 40_000)));
    builder.build().unwrap()
}

fn padded(mut bytes: Vec<u8>) -> Bytes {
    bytes.resize(PIECE, 0);
    bytes.into()
}

fn check(
    meta: &Metainfo,
    index: u32,
    bytes: impl Into<Bytes>,
) -> Result<VerifiedBytes, VerifyError> {
    let piece = meta.geometry().piece(index).unwrap();
    verify(
        meta,
        AssembledPiece {
            piece,
            bytes: bytes.into(),
        },
    )
}

fn fault(meta: &Metainfo, index: u32, bytes: impl Into<Bytes>) -> VerifyFault {
    check(meta, index, bytes).unwrap_err().fault
}

#[test]
fn right_pieces_pass_and_are_vouched_for_by_sha_256() {
    let meta = hybrid();
    let content = bytes(2, 40_000);
    for (index, bytes) in [
        (0, padded(bytes(1, 5_000))),
        (1, content[..PIECE].to_vec().into()),
        (2, content[PIECE..].to_vec().into()),
    ] {
        let verified = check(&meta, index, bytes.clone()).unwrap();
        assert_eq!(verified.voucher(), Voucher::Sha256Tree);
        assert_eq!(verified.piece().get(), index);
        assert_eq!(verified.into_bytes(), bytes);
    }
}

#[test]
fn the_liar_can_be_named_by_the_block_that_differs() {
    let meta = hybrid();
    let right = bytes(2, 40_000)[..PIECE].to_vec();
    let mut wrong = right.clone();
    wrong[16_384 + 7] ^= 1;
    let error = check(&meta, 1, wrong).unwrap_err();
    assert_eq!((error.piece.get(), error.fault), (1, VerifyFault::Sha256));
    let leaves = merkle::leaves(&right);
    assert_eq!(error.leaves[0], leaves[0]);
    assert_ne!(error.leaves[1], leaves[1]);
}

#[test]
fn padding_that_is_not_zero_is_refused() {
    let meta = hybrid();
    for at in [5_000, 16_384, PIECE - 1] {
        let mut piece = padded(bytes(1, 5_000)).to_vec();
        piece[at] = 1;
        assert_eq!(fault(&meta, 0, piece), VerifyFault::Padding, "{at}");
    }
}

#[test]
fn pieces_of_another_length_are_refused() {
    let meta = hybrid();
    for got in [0, 1, PIECE - 1, PIECE + 1, 2 * PIECE] {
        let expected = PIECE as u32;
        assert_eq!(
            fault(&meta, 1, vec![0; got]),
            VerifyFault::Length { expected, got }
        );
    }
    let last = 40_000 - PIECE;
    assert!(
        matches!(fault(&meta, 2, vec![0; PIECE]), VerifyFault::Length { expected, .. } if expected as usize == last)
    );
}

#[test]
fn a_right_piece_at_another_place_is_refused() {
    let meta = hybrid();
    assert_eq!(
        fault(&meta, 0, bytes(2, 40_000)[..PIECE].to_vec()),
        VerifyFault::Sha256
    );
    assert_eq!(
        fault(&meta, 1, padded(bytes(1, 5_000))),
        VerifyFault::Sha256
    );
}

/// The info dictionary of a hybrid with other SHA-1 hashes, as an attacker who can make SHA-1
/// collide would publish it: the v1 half vouches for `decoy`, the v2 half for the real content.
fn with_v1_pieces_of(meta: &Metainfo, decoy: &[u8]) -> Metainfo {
    let value = crate::bencode::decode(meta.raw_info(), &crate::bencode::Rules::METAINFO).unwrap();
    let Item::Dict(mut info) = Item::from(&value) else {
        panic!("a dictionary")
    };
    let hashes: Vec<[u8; 20]> = decoy
        .chunks(PIECE)
        .map(|p| Sha1::digest(p).into())
        .collect();
    info.insert(b"pieces".to_vec(), Item::bytes(hashes.as_flattened()));
    let mut lying = Metainfo::from_info(&Item::Dict(info).to_bytes()).unwrap();
    for file in meta.files().iter().filter_map(|file| file.pieces_root) {
        if let Some(layer) = meta.piece_layer(file) {
            lying.set_piece_layer(file, layer.to_vec()).unwrap();
        }
    }
    lying
}

#[test]
fn sha_256_decides_where_sha_1_says_otherwise() {
    let meta = hybrid();
    // The decoy has the right SHA-1 in every piece and the wrong SHA-256.
    let mut decoy = bytes(9, 2 * PIECE + 40_000 - PIECE);
    decoy[5_000..PIECE].fill(0);
    let lying = with_v1_pieces_of(&meta, &decoy);
    let real = [padded(bytes(1, 5_000)).to_vec(), bytes(2, 40_000)].concat();
    for (index, (decoy, real)) in (0..).zip(decoy.chunks(PIECE).zip(real.chunks(PIECE))) {
        let piece = lying.geometry().piece(index).unwrap();
        assert_eq!(
            lying.v1_hash(piece),
            Some(Sha1::digest(decoy).into()),
            "the trap is set"
        );
        assert_eq!(fault(&lying, index, decoy.to_vec()), VerifyFault::Sha256);
        assert!(check(&lying, index, real.to_vec()).is_ok());
    }
}

/// The first 320 bytes of the two PDF files of <https://shattered.io> (2017): the same SHA-1.
fn shattered() -> [Vec<u8>; 2] {
    const SAME_FRONT: &str = "255044462d312e330a25e2e3cfd30a0a0a312030206f626a0a3c3c2f57696474682032203020522f4865696768742033203020522f547970652034203020522f537562747970652035203020522f46696c7465722036203020522f436f6c6f7253706163652037203020522f4c656e6774682038203020522f42697473506572436f6d706f6e656e7420383e3e0a73747265616d0affd8fffe00245348412d3120697320646561642121212121852fec092339759c39b1a1c63c4c97e1fffe01";
    const ONE: &str = "7f46dc93a6b67e013b029aaa1db2560b45ca67d688c7f84b8c4c791fe02b3df614f86db1690901c56b45c1530afedfb76038e972722fe7ad728f0e4904e046c230570fe9d41398abe12ef5bc942be33542a4802d98b5d70f2a332ec37fac3514e74ddc0f2cc1a874cd0c78305a21566461309789606bd0bf3f98cda8044629a1";
    const TWO: &str = "7346dc9166b67e118f029ab621b2560ff9ca67cca8c7f85ba84c79030c2b3de218f86db3a90901d5df45c14f26fedfb3dc38e96ac22fe7bd728f0e45bce046d23c570feb141398bb552ef5a0a82be331fea48037b8b5d71f0e332edf93ac3500eb4ddc0decc1a864790c782c76215660dd309791d06bd0af3f98cda4bc4629b1";
    [ONE, TWO].map(|end| {
        data_encoding::HEXLOWER
            .decode(format!("{SAME_FRONT}{end}").as_bytes())
            .unwrap()
    })
}

#[test]
fn t9_two_contents_of_one_sha_1_are_told_apart() {
    let [one, two] = shattered();
    assert_eq!((one.len(), two.len()), (320, 320));
    assert_ne!(one, two);
    assert_eq!(Sha1::digest(&one), Sha1::digest(&two), "they collide");

    let mut builder = MetainfoBuilder::new("site", 16_384);
    let mut hasher = FileHasher::new(16_384);
    hasher.update(&one);
    builder.file(vec!["a.pdf".into()], hasher.finish());
    let meta = builder.build().unwrap();
    assert!(check(&meta, 0, one).is_ok());
    assert_eq!(fault(&meta, 0, two.clone()), VerifyFault::Sha256);

    // The same list without its v2 half: nothing but the SHA-1 is there to ask, so both pass. That
    // is why no bundle is v1 only.
    let v1 = Item::dict([
        ("length", Item::int(320)),
        ("name", Item::bytes("a.pdf")),
        ("piece length", Item::int(16_384)),
        ("pieces", Item::bytes(Sha1::digest(&two))),
    ]);
    let v1 = Metainfo::from_info(&v1.to_bytes()).unwrap();
    assert_eq!(check(&v1, 0, two).unwrap().voucher(), Voucher::Sha1);
}

#[test]
fn without_its_layers_a_hybrid_falls_back_to_sha_1_and_v2_has_nothing() {
    let hybrid = Metainfo::from_info(hybrid().raw_info()).unwrap();
    let content = bytes(2, 40_000);
    // The first file needs no layer.
    assert_eq!(
        check(&hybrid, 0, padded(bytes(1, 5_000)))
            .unwrap()
            .voucher(),
        Voucher::Sha256Tree
    );
    let verified = check(&hybrid, 1, content[..PIECE].to_vec()).unwrap();
    assert_eq!(verified.voucher(), Voucher::Sha1);
    assert_eq!(fault(&hybrid, 1, vec![0; PIECE]), VerifyFault::Sha1);

    let value =
        crate::bencode::decode(hybrid.raw_info(), &crate::bencode::Rules::METAINFO).unwrap();
    let Item::Dict(mut info) = Item::from(&value) else {
        panic!("a dictionary")
    };
    info.remove(&b"pieces"[..]);
    info.remove(&b"files"[..]);
    let v2 = Metainfo::from_info(&Item::Dict(info).to_bytes()).unwrap();
    assert_eq!(
        fault(&v2, 1, content[..PIECE].to_vec()),
        VerifyFault::Unknown
    );
    assert!(check(&v2, 0, padded(bytes(1, 5_000))).is_ok());
}

#[test]
fn two_pieces_at_once_are_judged_as_each_is_alone() {
    let whole = hybrid();
    let bare = Metainfo::from_info(hybrid().raw_info()).unwrap();
    let content = bytes(2, 40_000);
    let mut flipped = content.clone();
    flipped[100] ^= 1;
    flipped[PIECE + 100] ^= 1;
    let mut claims = Vec::new();
    for content in [&content, &flipped] {
        claims.push((1, Bytes::copy_from_slice(&content[..PIECE])));
        claims.push((2, Bytes::copy_from_slice(&content[PIECE..])));
    }
    claims.push((2, Bytes::copy_from_slice(&content[..PIECE])));
    claims.push((0, padded(bytes(1, 5_000))));
    claims.push((1, Bytes::new()));
    let mut right = 0;
    for meta in [&whole, &bare] {
        let claim = |(index, bytes): &(u32, Bytes)| AssembledPiece {
            piece: meta.geometry().piece(*index).unwrap(),
            bytes: bytes.clone(),
        };
        assert!(!is_sha1_decisive(meta, meta.geometry().piece(0).unwrap()));
        for first in &claims {
            for second in &claims {
                let alone = [first, second].map(|one| verify(meta, claim(one)));
                right += alone.iter().filter(|one| one.is_ok()).count();
                assert_eq!(verify_two(meta, [claim(first), claim(second)]), alone);
            }
        }
    }
    assert!(is_sha1_decisive(&bare, bare.geometry().piece(1).unwrap()));
    assert_eq!(right, 2 * 2 * 3 * claims.len());
}

#[test]
fn t7_blocks_pass_alone_against_leaves_that_lead_to_the_root() {
    let meta = hybrid();
    let content = bytes(2, 40_000);
    let piece = meta.geometry().piece(1).unwrap();
    let hashes = merkle::leaves(&content[..PIECE]);
    let leaves = PieceLeaves::prove(&meta, piece, &hashes).unwrap();
    for n in [0, 1] {
        let range = meta.geometry().nth_block(piece, n).unwrap();
        let place = range.begin() as usize..range.end() as usize;
        let block = Bytes::copy_from_slice(&content[place]);
        let verified = verify_block(&leaves, range, block.clone()).unwrap();
        assert_eq!((verified.range(), verified.bytes()), (range, &block));
        for at in [0, 16_383] {
            let mut lie = block.to_vec();
            lie[at] ^= 1;
            let error = verify_block(&leaves, range, lie.into()).unwrap_err();
            assert_eq!((error.range, error.fault), (range, VerifyFault::Sha256));
        }
        let error = verify_block(&leaves, range, block.slice(1..)).unwrap_err();
        assert!(matches!(error.fault, VerifyFault::Length { .. }));
    }
    // The truth at another place is a lie.
    let second = meta.geometry().nth_block(piece, 1).unwrap();
    let first = Bytes::copy_from_slice(&content[..16_384]);
    assert!(verify_block(&leaves, second, first).is_err());
}

#[test]
fn t7_false_leaves_are_never_believed() {
    let meta = hybrid();
    let content = bytes(2, 40_000);
    let piece = meta.geometry().piece(1).unwrap();
    let right = merkle::leaves(&content[..PIECE]);
    let mut wrong = right.clone();
    wrong[1][31] ^= 1;
    let other = meta.geometry().piece(2).unwrap();
    assert_eq!(PieceLeaves::prove(&meta, piece, &wrong), None);
    assert_eq!(PieceLeaves::prove(&meta, piece, &right[..1]), None);
    assert_eq!(PieceLeaves::prove(&meta, piece, &[]), None);
    assert_eq!(PieceLeaves::prove(&meta, other, &right), None);
    // The last piece of a file: one leaf, and a filler that a peer may send along.
    let tail = [merkle::leaf(&content[PIECE..]), [0; 32]];
    assert!(PieceLeaves::prove(&meta, other, &tail).is_some());
}

#[test]
fn padding_behind_a_block_must_be_zero_and_parts_of_leaves_prove_nothing() {
    let meta = hybrid();
    let data = bytes(1, 5_000);
    let piece = meta.geometry().piece(0).unwrap();
    let leaves = PieceLeaves::prove(&meta, piece, &merkle::leaves(&data)).unwrap();
    let block = |begin, len| meta.geometry().block(0, begin, len).unwrap();
    let fault = |range, bytes: &[u8]| {
        verify_block(&leaves, range, Bytes::copy_from_slice(bytes)).map_err(|e| e.fault)
    };
    let mut padded = data.clone();
    padded.resize(16_384, 0);
    assert!(fault(block(0, 5_000), &data).is_ok());
    assert!(fault(block(0, 16_384), &padded).is_ok());
    padded[16_383] = 1;
    let padding = Err(VerifyFault::Padding);
    assert_eq!(fault(block(0, 16_384), &padded), padding);
    assert_eq!(fault(block(16_384, 16_384), &padded), padding);
    assert!(fault(block(16_384, 16_384), &[0; 16_384]).is_ok());
    let unknown = Err(VerifyFault::Unknown);
    assert_eq!(fault(block(0, 4_999), &data[..4_999]), unknown);
    assert_eq!(fault(block(8, 4_992), &data[8..]), unknown);
    let elsewhere = meta.geometry().block(1, 0, 5_000).unwrap();
    assert_eq!(fault(elsewhere, &data), unknown);
}
