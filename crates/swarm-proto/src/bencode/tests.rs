use super::*;

fn lenient(bytes: &[u8]) -> Result<Value<'_>, BencodeError> {
    decode(bytes, &Rules::NETWORK)
}

#[test]
fn worked_examples_of_bep_3_are_read() {
    assert_eq!(lenient(b"4:spam"), Ok(Value::Bytes(b"spam")));
    assert_eq!(lenient(b"i3e"), Ok(Value::Int(3)));
    assert_eq!(lenient(b"i-3e"), Ok(Value::Int(-3)));
    assert_eq!(
        lenient(b"l4:spam4:eggse"),
        Ok(Value::List(vec![
            Value::Bytes(b"spam"),
            Value::Bytes(b"eggs")
        ]))
    );
    let value = lenient(b"d3:cow3:moo4:spaml1:a1:bee").unwrap();
    let dict = value.as_dict().unwrap();
    assert_eq!(dict.get(b"cow").unwrap().as_str(), Some("moo"));
    assert_eq!(dict.get(b"spam").unwrap().as_list().unwrap().len(), 2);
    assert_eq!(dict.get(b"pig"), None);
}
