//! `srcset`, as the HTML standard splits it (section "Parsing a srcset attribute").

/// Rewrites each URL of a `srcset`; `None` if the attribute is better left as it is: nothing
/// moved, or it does not parse.
pub fn rewrite(srcset: &str, mut moved: impl FnMut(&str) -> Option<String>) -> Option<String> {
    let mut out = String::with_capacity(srcset.len() + 64);
    let mut rest = srcset;
    let mut any = false;
    loop {
        let start = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ',');
        if start.is_empty() {
            return any.then_some(out);
        }
        let end = start
            .find(|c: char| c.is_ascii_whitespace())
            .unwrap_or(start.len());
        let (url, after) = start.split_at(end);
        let trimmed = url.trim_end_matches(',');
        if trimmed.is_empty() || trimmed.contains([')', '(']) {
            return None;
        }
        let (descriptor, after) = if trimmed.len() == url.len() {
            descriptor(after)?
        } else {
            ("", after)
        };
        if !out.is_empty() {
            out.push_str(", ");
        }
        match moved(trimmed) {
            Some(url) => {
                any = true;
                out.push_str(&url);
            }
            None => out.push_str(trimmed),
        }
        if !descriptor.is_empty() {
            out.push(' ');
            out.push_str(descriptor);
        }
        rest = after;
    }
}

/// What stands between a URL and the next comma outside parentheses.
fn descriptor(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_u32;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth = depth.checked_add(1)?,
            ')' => depth = depth.checked_sub(1)?,
            ',' if depth == 0 => return Some((text.get(..at)?.trim(), text.get(at + 1..)?)),
            _ => {}
        }
    }
    (depth == 0).then(|| (text.trim(), ""))
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    fn check(srcset: &str, expected: Option<&str>) {
        let moved = |url: &str| url.strip_suffix(".png").map(|name| format!("B/{name}.png"));
        assert_eq!(rewrite(srcset, moved).as_deref(), expected, "{srcset:?}");
    }

    #[test]
    fn every_candidate_is_looked_at() {
        check("a.png", Some("B/a.png"));
        check("a.png 1x, b.png 2x", Some("B/a.png 1x, B/b.png 2x"));
        check(
            "  a.png   100w ,b.jpg 200w",
            Some("B/a.png 100w, b.jpg 200w"),
        );
        check("a.png, b.png", Some("B/a.png, B/b.png"));
        check("a,b.png 2x", Some("B/a,b.png 2x"));
        check(
            "\n a.png 1x,\n\t b.png 2x,\n",
            Some("B/a.png 1x, B/b.png 2x"),
        );
        check("a.png 100w 50h, b.gif", Some("B/a.png 100w 50h, b.gif"));
        check(
            "data:image/gif;base64,AA== 1x, a.png 2x",
            Some("data:image/gif;base64,AA== 1x, B/a.png 2x"),
        );
        check("a.png (x, y), b.png", Some("B/a.png (x, y), B/b.png"));
    }

    #[test]
    fn what_does_not_parse_or_move_is_left_alone() {
        for srcset in [
            "",
            " , ,",
            "a.gif 1x",
            "a.png (1x",
            "a.png 1x), b.png",
            "(a.png)",
        ] {
            check(srcset, None);
        }
    }
}
