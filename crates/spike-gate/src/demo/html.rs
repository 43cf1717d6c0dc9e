//! As much HTML as a visitor needs: tags, attributes and text, in order.
//!
//! Not the parser of the standard: it builds no tree and repairs nothing. It reads well-formed
//! pages as a browser does, and never panics on others.

/// One piece of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// `<name a="b">`, also when it closes itself.
    Open(Tag<'a>),
    /// `</name>`, lower case.
    Close(String),
    /// Everything between tags, as written.
    Text(&'a str),
    /// Comments, doctype, processing instructions.
    Aside(&'a str),
}

/// An opening tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag<'a> {
    /// Lower case.
    pub name: String,
    /// Names in lower case, values as written but for the quotes; character references stand.
    pub attributes: Vec<(String, &'a str)>,
}

impl<'a> Tag<'a> {
    /// The value of an attribute; the first counts.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.attributes
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| *value)
    }
}

/// Elements whose content is text whatever it looks like.
const RAW: [&str; 4] = ["script", "style", "title", "textarea"];

/// Elements without content and closing tag.
pub(super) const VOID: [&str; 13] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track",
    "wbr",
];

/// Cuts a page into tokens.
pub(super) fn tokens(page: &str) -> Vec<Token<'_>> {
    let mut out = Vec::new();
    let mut rest = page;
    let mut raw: Option<String> = None;
    while !rest.is_empty() {
        let text_end = match &raw {
            Some(name) => find_close(rest, name),
            None => find_markup(rest),
        };
        raw = None;
        let (text, markup) = rest.split_at(text_end);
        if !text.is_empty() {
            out.push(Token::Text(text));
        }
        if markup.is_empty() {
            break;
        }
        let (token, after) = read_markup(markup);
        if let Token::Open(tag) = &token
            && RAW.contains(&tag.name.as_str())
        {
            raw = Some(tag.name.clone());
        }
        out.push(token);
        rest = after;
    }
    out
}

/// Where the next markup begins: a `<` that starts a tag or an aside.
fn find_markup(text: &str) -> usize {
    let bytes = text.as_bytes();
    let starts = |i: usize| {
        bytes.get(i + 1).is_some_and(|next| match next {
            b'!' | b'?' => true,
            b'/' => bytes.get(i + 2).is_some_and(u8::is_ascii_alphabetic),
            other => other.is_ascii_alphabetic(),
        })
    };
    (0..bytes.len())
        .find(|&i| bytes.get(i) == Some(&b'<') && starts(i))
        .unwrap_or(bytes.len())
}

/// Where the raw text of `name` ends.
fn find_close(text: &str, name: &str) -> usize {
    let lower = text.to_ascii_lowercase();
    lower.find(&format!("</{name}")).unwrap_or(text.len())
}

fn read_markup(markup: &str) -> (Token<'_>, &str) {
    let cut = |end: &str, skip: usize| match markup.get(skip..).and_then(|m| m.find(end)) {
        Some(at) => markup.split_at(skip + at + end.len()),
        None => (markup, ""),
    };
    if markup.starts_with("<!--") {
        let (aside, rest) = cut("-->", 4);
        return (Token::Aside(aside), rest);
    }
    if markup.starts_with("<!") || markup.starts_with("<?") {
        let (aside, rest) = cut(">", 2);
        return (Token::Aside(aside), rest);
    }
    if let Some(inner) = markup.strip_prefix("</") {
        let end = inner.find('>').unwrap_or(inner.len());
        let (name, rest) = inner.split_at(end);
        let name = name.split_ascii_whitespace().next().unwrap_or_default();
        return (
            Token::Close(name.to_ascii_lowercase()),
            rest.strip_prefix('>').unwrap_or(rest),
        );
    }
    let inner = markup.strip_prefix('<').unwrap_or(markup);
    let end = inner
        .find(|c: char| c.is_ascii_whitespace() || c == '>' || c == '/')
        .unwrap_or(inner.len());
    let (name, mut rest) = inner.split_at(end);
    let mut tag = Tag {
        name: name.to_ascii_lowercase(),
        attributes: Vec::new(),
    };
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        if rest.is_empty() {
            return (Token::Open(tag), rest);
        }
        if let Some(after) = rest.strip_prefix('>') {
            return (Token::Open(tag), after);
        }
        let (name, value, after) = read_attribute(rest);
        tag.attributes.push((name.to_ascii_lowercase(), value));
        rest = after;
    }
}

/// Name, value and what follows. Always takes at least one character.
fn read_attribute(text: &str) -> (&str, &str, &str) {
    let first = text.chars().next().map_or(0, char::len_utf8);
    let tail = text.get(first..).unwrap_or_default();
    let end = tail
        .find(|c: char| c.is_ascii_whitespace() || matches!(c, '=' | '>' | '/'))
        .unwrap_or(tail.len());
    let (name, rest) = text.split_at(first + end);
    let Some(rest) = rest.trim_start().strip_prefix('=') else {
        return (name, "", rest);
    };
    let rest = rest.trim_start();
    for quote in ['"', '\''] {
        if let Some(inner) = rest.strip_prefix(quote) {
            return match inner.split_once(quote) {
                Some((value, after)) => (name, value, after),
                None => (name, inner, ""),
            };
        }
    }
    let end = rest
        .find(|c: char| c.is_ascii_whitespace() || c == '>')
        .unwrap_or(rest.len());
    let (value, rest) = rest.split_at(end);
    (name, value, rest)
}

/// The characters that addresses in attributes are escaped with.
pub(super) fn unescape(value: &str) -> String {
    if !value.contains('&') {
        return value.to_owned();
    }
    let mut out = value.to_owned();
    for (from, to) in [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&apos;", "'"),
        ("&#39;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ] {
        out = out.replace(from, to);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open(token: &Token<'_>) -> Option<String> {
        match token {
            Token::Open(tag) => Some(tag.name.clone()),
            _ => None,
        }
    }

    #[test]
    fn tags_text_and_asides_come_in_order() {
        let page = "<!doctype html><P class=a data-x='1 2' HIDDEN>1 < 2<br/><!-- <b> --></P>";
        let found = tokens(page);
        assert_eq!(found.len(), 6, "{found:?}");
        let Token::Open(tag) = &found[1] else {
            panic!("{found:?}")
        };
        assert_eq!(tag.name, "p");
        assert_eq!(tag.get("class"), Some("a"));
        assert_eq!(tag.get("data-x"), Some("1 2"));
        assert_eq!(tag.get("hidden"), Some(""));
        assert_eq!(found[2], Token::Text("1 < 2"));
        assert_eq!(found[4], Token::Aside("<!-- <b> -->"));
        assert_eq!(found[5], Token::Close("p".into()));
    }

    #[test]
    fn scripts_and_styles_hold_no_tags() {
        let found = tokens("<script>if (a<b) '<img src=x>'</SCRIPT><img src=y>");
        assert_eq!(found[1], Token::Text("if (a<b) '<img src=x>'"));
        assert_eq!(open(&found[3]).as_deref(), Some("img"));
        assert_eq!(tokens("<style>a{").len(), 2);
    }

    #[test]
    fn odd_attributes_are_read_without_losing_the_tag() {
        let found = tokens("<a =b c = 'd\" e' f=\"g>h\" /i j=k/l><b>");
        let Token::Open(tag) = &found[0] else {
            panic!("{found:?}")
        };
        assert_eq!(tag.get("c"), Some("d\" e"));
        assert_eq!(tag.get("f"), Some("g>h"));
        assert_eq!(tag.get("j"), Some("k/l"));
        assert_eq!(open(&found[1]).as_deref(), Some("b"));
    }

    #[test]
    fn addresses_are_unescaped() {
        assert_eq!(unescape("/a?b=1&amp;c=&quot;2&quot;"), "/a?b=1&c=\"2\"");
        assert_eq!(unescape("/plain"), "/plain");
    }

    proptest! {
        #[test]
        fn no_page_makes_it_panic(page in "[<>/!a-c=\"' \\-é]{0,60}") {
            let _ = tokens(&page);
        }
    }
}
