//! Holds the tables of JSON in `spec/` to what is answered.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Key and type of each row of the table below a heading of a document in `spec/`.
fn documented(document: &str, heading: &str) -> BTreeMap<String, String> {
    let path = format!("{}/../../spec/{document}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect(&path);
    let (_, section) = text.split_once(heading).expect(heading);
    let section = section.split("\n#").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let key = cells.next()?.trim_end_matches('`').to_owned();
        Some((key, cells.next()?.to_owned()))
    });
    let rows: BTreeMap<_, _> = rows.collect();
    assert!(!rows.is_empty(), "no table below {heading}");
    rows
}

/// Every key of an answer with the types that its values have.
fn shape(key: &str, value: &Value, into: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let name = match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let field = match key {
                    "" => field.clone(),
                    // Named as the figures of `/metrics` are.
                    "counters" => "counters.*".to_owned(),
                    _ => format!("{key}.{field}"),
                };
                shape(&field, value, into);
            }
            return;
        }
        Value::Array(values) => {
            for value in values {
                shape(&format!("{key}[]"), value, into);
            }
            return;
        }
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
    };
    into.entry(key.to_owned()).or_default().insert(name);
}

/// That answers have every key of the table and no other, each with its type and no other. All
/// that may be missing must be in one of them.
pub(crate) fn check(answers: &[Value], document: &str, heading: &str) {
    let mut shapes = BTreeMap::new();
    for answer in answers {
        shape("", answer, &mut shapes);
    }
    let documented = documented(document, heading);
    let keys = |map: Vec<&String>| map.into_iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(
        keys(shapes.keys().collect()),
        keys(documented.keys().collect()),
        "keys answered and keys documented"
    );
    for (key, types) in &shapes {
        let allowed: BTreeSet<&str> = documented[key].split(" or ").collect();
        for name in types {
            assert!(allowed.contains(name), "{key} is {name}, not {allowed:?}");
        }
    }
}
