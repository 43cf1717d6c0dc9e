//! Whether a page that came through the gate is the manifest's page.
//!
//! The gate may point `src`, `href`, `srcset` and `poster` to another place for the same file, add
//! `integrity`, `crossorigin` and `referrerpolicy`, and insert elements marked `data-spikeswarm`.
//! With that undone every tag, attribute, comment and character must be the same.

use super::html::{Tag, Token, VOID, tokens, unescape};

/// Where two pages part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("differs at {at:?}: {what}")]
pub(super) struct Difference {
    at: String,
    what: String,
}

/// Attributes that may point elsewhere.
const ADDRESSES: [&str; 5] = ["src", "href", "srcset", "imagesrcset", "poster"];

/// Attributes that may be added.
const ADDED: [&str; 3] = ["integrity", "crossorigin", "referrerpolicy"];

/// The mark of what was inserted.
const MARK: &str = "data-spikeswarm";

/// Compares the manifest's page with the one received; `stands_for` tells which file an address
/// means.
///
/// # Errors
/// The first [`Difference`].
pub(super) fn compare(
    expected: &str,
    received: &str,
    stands_for: &dyn Fn(&str) -> String,
) -> Result<(), Difference> {
    let mut wanted = tokens(expected).into_iter();
    let received = without_inserted(tokens(received));
    let mut came = received.iter();
    loop {
        match (wanted.next(), came.next()) {
            (None, None) => return Ok(()),
            (Some(Token::Open(want)), Some(Token::Open(got))) => {
                same_tag(&want, got, stands_for)?;
            }
            (Some(want), Some(got)) if want == *got => {}
            (want, got) => {
                return Err(Difference {
                    at: shorten(&format!("{want:?}")),
                    what: shorten(&format!("{got:?}")),
                });
            }
        }
    }
}

/// Drops marked elements with all they hold.
fn without_inserted(tokens: Vec<Token<'_>>) -> Vec<Token<'_>> {
    let mut kept: Vec<Token<'_>> = Vec::with_capacity(tokens.len());
    let mut inside: Option<(String, usize)> = None;
    for token in tokens {
        match (&mut inside, &token) {
            (None, Token::Open(tag)) if tag.get(MARK).is_some() => {
                let holds = !VOID.contains(&tag.name.as_str());
                inside = holds.then(|| (tag.name.clone(), 1));
            }
            (None, _) => kept.push(token),
            (Some((name, depth)), Token::Open(tag)) if tag.name == *name => *depth += 1,
            (Some((name, depth)), Token::Close(close)) if close == name => {
                *depth -= 1;
                if *depth == 0 {
                    inside = None;
                }
            }
            _ => {}
        }
    }
    kept
}

fn same_tag(
    want: &Tag<'_>,
    got: &Tag<'_>,
    stands_for: &dyn Fn(&str) -> String,
) -> Result<(), Difference> {
    let differ = |what: String| Difference {
        at: format!("<{}>", want.name),
        what: shorten(&what),
    };
    if want.name != got.name {
        return Err(differ(format!("<{}> came instead", got.name)));
    }
    for (name, value) in &want.attributes {
        let Some(came) = got.get(name) else {
            return Err(differ(format!("{name} is missing")));
        };
        let (value, came) = (unescape(value), unescape(came));
        let same = value == came
            || match name.as_str() {
                "srcset" | "imagesrcset" => {
                    candidates(&value, stands_for) == candidates(&came, stands_for)
                }
                name if ADDRESSES.contains(&name) => stands_for(&value) == stands_for(&came),
                _ => false,
            };
        if !same {
            return Err(differ(format!("{name} is {came:?}, not {value:?}")));
        }
    }
    let added = got
        .attributes
        .iter()
        .find(|(name, _)| want.get(name).is_none() && !ADDED.contains(&name.as_str()));
    match added {
        Some((name, _)) => Err(differ(format!("{name} was added"))),
        None => Ok(()),
    }
}

/// Addresses and descriptors of a `srcset`.
fn candidates(srcset: &str, stands_for: &dyn Fn(&str) -> String) -> Vec<(String, String)> {
    srcset
        .split(',')
        .map(|one| {
            let (address, descriptor) = one.trim().split_once(' ').unwrap_or((one.trim(), ""));
            (stands_for(address), descriptor.trim().to_owned())
        })
        .collect()
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(120) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "<!doctype html><head><link rel=stylesheet href=/a.css></head>\
        <body class=x><img src=\"/i.png\" srcset=\"/i.png 1x, /j.png 2x\" alt=\"A &amp; B\">text</body>";

    fn check(received: &str) -> Result<(), Difference> {
        compare(PAGE, received, &|address| {
            address.replace("http://l.bridge.test:81/", "/")
        })
    }

    #[test]
    fn the_same_page_is_the_same() {
        check(PAGE).unwrap();
    }

    #[test]
    fn moved_files_integrity_and_the_banner_are_undone() {
        check(
            "<!doctype html><head><link rel=stylesheet href=\"http://l.bridge.test:81/a.css\" \
             integrity=\"sha256-x\" crossorigin=\"anonymous\"></head><body class=x>\
             <img src=\"http://l.bridge.test:81/i.png\" srcset=\"http://l.bridge.test:81/i.png 1x, /j.png 2x\" \
             alt=\"A &amp; B\" referrerpolicy=\"no-referrer\">text<div data-spikeswarm=banner><div>busy\
             </div><br></div></body>",
        )
        .unwrap();
    }

    #[test]
    fn every_other_change_is_named() {
        for (from, to) in [
            ("text", "texts"),
            ("text", ""),
            ("class=x", "class=y"),
            ("class=x", "class=x onload=evil()"),
            ("class=x", ""),
            ("src=\"/i.png\"", "src=\"/other.png\""),
            ("src=\"/i.png\"", "src=\"http://elsewhere.test/i.png\""),
            ("/j.png 2x", "/j.png 3x"),
            ("/j.png 2x", "/k.png 2x"),
            ("</body>", "<script src=/x.js></script></body>"),
            ("<img", "<object"),
            ("<!doctype html>", ""),
            ("</body>", ""),
            ("A &amp; B", "A"),
        ] {
            let changed = PAGE.replacen(from, to, 1);
            assert!(check(&changed).is_err(), "{changed}");
        }
    }
}
