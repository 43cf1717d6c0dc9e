//! Where the bytes of a script or style sheet may come from.
//!
//! `integrity=` vouches for one file, not for what that file fetches by itself. A script that
//! imports another relative to itself, or a sheet with `@import`, would run or apply a stranger's
//! bytes unchecked, so such files stay home. A sheet's `url(…)` draws pictures and fonts from
//! where the sheet came from: each must be published, and the same bridge must hold it.
//!
//! The scan is a search for words, not a parser: it errs towards home, which costs bytes only.

/// How far from home a file may be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// From any bridge.
    Anywhere,
    /// From a bridge that gives the site a host of its own: the file has root-relative links.
    OwnHost,
    /// Only from the site.
    Home,
}

/// Words by which a script finds out where it came from, or loads more from there.
const SCRIPT_WORDS: [&str; 12] = [
    "currentScript",
    "importScripts",
    "import.meta",
    "document.scripts",
    "getElementsByTagName(\"script",
    "getElementsByTagName('script",
    "getElementsByTagName(`script",
    "script[src",
    "querySelector(\"script",
    "querySelector('script",
    "querySelectorAll(\"script",
    "querySelectorAll('script",
];

/// Where a script may come from.
pub fn of_script(text: &str) -> Reach {
    if SCRIPT_WORDS.iter().any(|word| text.contains(word)) || imports(text) {
        Reach::Home
    } else {
        Reach::Anywhere
    }
}

/// `import(…)`, `import x from`, `import "…"` or `export … from`, wherever it stands.
fn imports(text: &str) -> bool {
    text.match_indices("import").any(|(at, word)| {
        let before = text.get(..at).and_then(|t| t.chars().next_back());
        let after = text.get(at + word.len()..).unwrap_or("").trim_start();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '.' | '-'))
            && after.starts_with(['(', '"', '\'', '{', '*', '/'])
            || after.split_whitespace().nth(1) == Some("from")
    })
}

/// What a style sheet draws in, or why it stays home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    /// Where it may come from.
    pub reach: Reach,
    /// Decoded paths of the site's own files it names.
    pub draws: Vec<String>,
}

/// Where the style sheet at `url` (absolute) may come from. `decode` turns a URL path into the
/// key of a published file, `None` if there is no such file.
pub fn of_sheet(text: &str, url: &url::Url, decode: impl Fn(&str) -> Option<String>) -> Sheet {
    let home = Sheet {
        reach: Reach::Home,
        draws: Vec::new(),
    };
    let lower = text.to_ascii_lowercase();
    // An escape can spell any of the words we look for.
    let escaped = lower.contains("@\\") || lower.contains("u\\72") || lower.contains("\\75");
    if escaped
        || lower.contains("@import")
        || lower.contains("image-set(")
        || lower.contains("src(")
    {
        return home;
    }
    let mut sheet = Sheet {
        reach: Reach::Anywhere,
        draws: Vec::new(),
    };
    for (at, word) in lower.match_indices("url(") {
        let Some(rest) = text.get(at + word.len()..) else {
            return home;
        };
        let Some(reference) = reference(rest) else {
            return home;
        };
        if reference.is_empty() || reference.starts_with('#') || is_data(reference) {
            continue;
        }
        let Ok(target) = url.join(reference) else {
            return home;
        };
        if target.origin() != url.origin() {
            continue;
        }
        let absolute = reference.contains("://") || reference.starts_with("//");
        if absolute {
            // Names the site itself: fetched from home wherever the sheet came from.
            continue;
        }
        if target.query().is_some() {
            // `font.eot?#iefix` is fetched by no living browser beside its plain sibling, and a
            // bridge answers it as well as the plain one.
            let plain = target.query() == Some("");
            if !plain {
                return home;
            }
        }
        let Some(path) = decode(target.path()) else {
            return home;
        };
        if reference.starts_with('/') {
            sheet.reach = Reach::OwnHost;
        }
        if !sheet.draws.contains(&path) {
            sheet.draws.push(path);
        }
    }
    sheet
}

fn is_data(reference: &str) -> bool {
    reference
        .get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

/// The content of `url(` up to its end, without quotes. `None` for what we would rather not read.
fn reference(rest: &str) -> Option<&str> {
    let rest = rest.trim_start();
    let (inner, quoted) = match rest.chars().next()? {
        quote @ ('"' | '\'') => {
            let inner = rest.get(1..)?;
            (inner.get(..inner.find(quote)?)?, true)
        }
        _ => (rest.get(..rest.find(')')?)?.trim_end(), false),
    };
    let odd = |c: char| c == '\\' || c.is_control() || (!quoted && c.is_whitespace());
    // Data URLs may hold anything, and are passed over.
    (is_data(inner) || !inner.contains(odd)).then_some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_that_load_more_stay_home() {
        for text in [
            "import('./more.js')",
            "const a = await import (\"./b.js\")",
            "import x from './x.js'",
            "import {a, b} from './x.js'",
            "import*as z from './z.js'",
            "import './x.js'",
            "importScripts('a.js')",
            "var here = document.currentScript.src",
            "new URL('a.wasm', import.meta.url)",
            "var s = document.getElementsByTagName('script')",
            "import/**/('x')",
        ] {
            assert_eq!(of_script(text), Reach::Home, "{text}");
        }
        for text in [
            "",
            "console.log('important')",
            "var imported = 1; imported(2)",
            "// an import of goods",
            "x.import('y')",
            "document.createElement('script')",
        ] {
            assert_eq!(of_script(text), Reach::Anywhere, "{text}");
        }
    }

    fn sheet(text: &str) -> Sheet {
        let url = url::Url::parse("http://site.example/css/a.css").unwrap();
        of_sheet(text, &url, |path| {
            ["/css/a.png", "/img/b.png", "/fonts/f.woff2"]
                .contains(&path)
                .then(|| path.to_owned())
        })
    }

    #[test]
    fn sheets_go_where_everything_they_draw_goes() {
        for (text, reach, draws) in [
            ("a{color:red}", Reach::Anywhere, &[][..]),
            (
                "a{background:url(a.png)}",
                Reach::Anywhere,
                &["/css/a.png"][..],
            ),
            (
                "a{background:url( '../img/b.png' )}",
                Reach::Anywhere,
                &["/img/b.png"],
            ),
            (
                "a{background:URL(\"/img/b.png\")}",
                Reach::OwnHost,
                &["/img/b.png"],
            ),
            (
                "@font-face{src:url(../fonts/f.woff2?#iefix)}",
                Reach::Anywhere,
                &["/fonts/f.woff2"],
            ),
            (
                "a{background:url(data:image/png;base64,AAAA)}",
                Reach::Anywhere,
                &[],
            ),
            (
                "a{background:url(https://cdn.example/x.png)}",
                Reach::Anywhere,
                &[],
            ),
            (
                "a{background:url(//site.example/img/none.png)}",
                Reach::Anywhere,
                &[],
            ),
            ("a{filter:url(#blur)}", Reach::Anywhere, &[]),
            ("a{background:url(missing.png)}", Reach::Home, &[]),
            ("a{background:url(a.png?v=2)}", Reach::Home, &[]),
            ("@import 'b.css';", Reach::Home, &[]),
            ("@IMPORT url(b.css);", Reach::Home, &[]),
            ("@\\69mport 'b.css';", Reach::Home, &[]),
            ("a{background:image-set('a.png' 1x)}", Reach::Home, &[]),
            ("a{background:url(a.png", Reach::Home, &[]),
            ("a{background:url(a\\.png)}", Reach::Home, &[]),
            ("a{background:u\\72l(x.png)}", Reach::Home, &[]),
        ] {
            let found = sheet(text);
            assert_eq!(found.reach, reach, "{text}");
            assert_eq!(found.draws, draws, "{text}");
        }
    }
}
