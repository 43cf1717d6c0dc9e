//! Tests of the reader and the writer.

use super::*;

mod bad;
mod deep;

fn lenient(bytes: &[u8]) -> Result<Value<'_>, BencodeError> {
    decode(bytes, &Rules::NETWORK)
}

#[test]
fn worked_examples_of_bep_3_are_read() {
    assert_eq!(lenient(b"4:spam"), Ok(Value::Bytes(b"spam")));
    assert_eq!(lenient(b"0:"), Ok(Value::Bytes(b"")));
    assert_eq!(lenient(b"i3e"), Ok(Value::Int(3)));
    assert_eq!(lenient(b"i-3e"), Ok(Value::Int(-3)));
    assert_eq!(lenient(b"i0e"), Ok(Value::Int(0)));
    let list = lenient(b"l4:spam4:eggse").unwrap().as_list().unwrap();
    let values: Vec<_> = list.iter().collect();
    assert_eq!(values, [Value::Bytes(b"spam"), Value::Bytes(b"eggs")]);
    let value = lenient(b"d3:cow3:moo4:spaml1:a1:bee").unwrap();
    let dict = value.as_dict().unwrap();
    assert_eq!(dict.get(b"cow").unwrap().as_str(), Some("moo"));
    assert_eq!(dict.get(b"spam").unwrap().as_list().unwrap().len(), 2);
    assert_eq!(dict.get(b"pig"), None);
}

#[test]
fn integers_reach_both_ends_of_64_bits() {
    assert_eq!(lenient(b"i9223372036854775807e"), Ok(Value::Int(i64::MAX)));
    assert_eq!(lenient(b"i-9223372036854775808e"), Ok(Value::Int(i64::MIN)));
}

#[test]
fn a_dictionary_keeps_the_bytes_it_was_read_from() {
    let input = b"d4:infod1:b0:1:ai1eee";
    let value = lenient(input).unwrap();
    let outer = value.as_dict().unwrap();
    let inner = outer.get(b"info").unwrap().as_dict().unwrap();
    assert_eq!(outer.raw(), input);
    assert_eq!(inner.raw(), b"d1:b0:1:ai1ee");
    assert!(outer.is_sorted() && !inner.is_sorted());
    let keys: Vec<&[u8]> = inner.iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [b"b", b"a"], "as found");
    assert_eq!(inner.get(b"a").unwrap().as_int(), Some(1));
}

#[test]
fn what_follows_a_value_is_left() {
    let (value, rest) = decode_prefix(b"d8:msg_typei1eerest", &Rules::NETWORK).unwrap();
    assert_eq!(
        value.as_dict().unwrap().get(b"msg_type").unwrap().as_int(),
        Some(1)
    );
    assert_eq!(rest, b"rest");
    assert_eq!(
        lenient(b"i1ei2e"),
        Err(BencodeError::TrailingBytes { at: 3 })
    );
}

#[test]
fn items_are_written_in_canonical_form() {
    let item = Item::dict([
        ("z", Item::int(-1)),
        (
            "a",
            Item::list([Item::bytes("x"), Item::list([]), Item::dict::<&str>([])]),
        ),
        ("", Item::bytes([0xff])),
    ]);
    let bytes = item.to_bytes();
    assert_eq!(bytes, b"d0:1:\xff1:al1:xledee1:zi-1ee");
    let value = decode(&bytes, &Rules::SIGNED).unwrap();
    assert_eq!(Item::from(&value), item);
}

#[test]
fn the_token_bound_is_exact() {
    let rules = Rules {
        tokens_max: 5,
        ..Rules::NETWORK
    };
    // A list, two integers, a string and an empty list; then one more.
    assert!(decode(b"li1ei2e1:xlee", &rules).is_ok());
    assert_eq!(
        decode(b"li1ei2e1:xlei3ee", &rules),
        Err(BencodeError::Tokens { max: 5 })
    );
    // Keys count too.
    assert!(decode(b"d1:ai1e1:bi2ee", &rules).is_ok());
    assert_eq!(
        decode(b"d1:ai1e1:bi2e1:ci3ee", &rules),
        Err(BencodeError::Tokens { max: 5 })
    );
}

#[test]
fn network_messages_of_too_many_tokens_are_refused() {
    let mut bomb = vec![b'l'];
    bomb.extend(std::iter::repeat_n(*b"0:", 100_000).flatten());
    bomb.push(b'e');
    assert_eq!(lenient(&bomb), Err(BencodeError::Tokens { max: 100_000 }));
    assert!(decode(&bomb, &Rules::METAINFO).is_ok());
}

#[test]
fn a_walk_goes_on_behind_what_another_has_walked_through() {
    let input = b"d1:ald1:xi1eei2ee1:bd1:yleee";
    let value = lenient(input).unwrap();
    let mut outer = value.as_dict().unwrap().iter();
    let (_, list) = outer.next().unwrap();
    let mut inner = list.as_list().unwrap().iter();
    assert_eq!(inner.behind(), None, "not at its end yet");
    assert_eq!(inner.by_ref().count(), 2);
    assert_eq!(inner.behind(), Some(&b"1:bd1:yleee"[..]));
    outer.resume(inner.behind().unwrap());
    let (key, dict) = outer.next().unwrap();
    assert_eq!((key, dict.as_dict().unwrap().len()), (&b"b"[..], 1));
    // Nothing that was given out waits to be left, so nothing moves.
    let mut ints = lenient(b"li1ei2ei3ee").unwrap().as_list().unwrap().iter();
    ints.next();
    ints.resume(b"");
    assert_eq!(ints.next(), Some(Value::Int(2)));
    assert_eq!(outer.next(), None);
    assert_eq!(outer.behind(), Some(&b""[..]));
}
