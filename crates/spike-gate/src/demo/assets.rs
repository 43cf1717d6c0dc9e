//! What else a browser loads for a page: found in its HTML, and in the style sheets it names.

use url::Url;

use super::html::{Tag, Token, tokens, unescape};

/// What an asset is wanted for; `Sec-Fetch-Dest` says so to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Want {
    /// Pictures, icons, posters.
    Image,
    /// Style sheets.
    Style,
    /// Classic scripts.
    Script,
    /// Web fonts.
    Font,
    /// Film and sound that play by themselves.
    Media,
}

impl Want {
    /// The value of `Sec-Fetch-Dest`.
    pub(super) fn dest(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Style => "style",
            Self::Script => "script",
            Self::Font => "font",
            Self::Media => "video",
        }
    }
}

/// One thing to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asset {
    /// Where from, absolute, without fragment.
    pub url: Url,
    /// What for.
    pub want: Want,
    /// The page demands these digests (`integrity=`).
    pub integrity: Option<String>,
}

/// Assets of a page, in the order of the page, each address once.
pub(super) fn of_page(base: &Url, page: &str) -> Vec<Asset> {
    let mut found = Found {
        base: base.clone(),
        assets: Vec::new(),
    };
    let mut tokens = tokens(page).into_iter().peekable();
    let mut media_plays = false;
    while let Some(token) = tokens.next() {
        let Token::Open(tag) = token else { continue };
        match tag.name.as_str() {
            "base" => {
                if let Some(url) = tag.get("href").and_then(|href| base.join(href).ok()) {
                    found.base = url;
                }
            }
            "img" => match tag.get("srcset").and_then(first_candidate) {
                Some(first) => found.add(first, Want::Image, None),
                None => found.attribute(&tag, "src", Want::Image),
            },
            "input"
                if tag
                    .get("type")
                    .is_some_and(|t| t.eq_ignore_ascii_case("image")) =>
            {
                found.attribute(&tag, "src", Want::Image);
            }
            "video" | "audio" => {
                found.attribute(&tag, "poster", Want::Image);
                media_plays = tag.get("autoplay").is_some();
                if media_plays {
                    found.attribute(&tag, "src", Want::Media);
                }
            }
            "source" if media_plays && tag.get("src").is_some() => {
                found.attribute(&tag, "src", Want::Media);
                media_plays = false;
            }
            "script" if tag.get("type") != Some("module") => {
                found.attribute(&tag, "src", Want::Script);
            }
            "link" => found.link(&tag),
            "style" => {
                if let Some(Token::Text(text)) = tokens.peek() {
                    let base = found.base.clone();
                    found.assets.extend(of_sheet(&base, text));
                }
            }
            _ => {}
        }
        if let Some(style) = tag.get("style") {
            let base = found.base.clone();
            found.assets.extend(of_sheet(&base, &unescape(style)));
        }
    }
    let mut seen = std::collections::HashSet::new();
    found.assets.retain(|asset| seen.insert(asset.url.clone()));
    found.assets
}

struct Found {
    base: Url,
    assets: Vec<Asset>,
}

impl Found {
    fn attribute(&mut self, tag: &Tag<'_>, name: &str, want: Want) {
        if let Some(value) = tag.get(name) {
            self.add(value, want, tag.get("integrity"));
        }
    }

    fn add(&mut self, address: &str, want: Want, integrity: Option<&str>) {
        if let Some(url) = resolve(&self.base, &unescape(address)) {
            let integrity = integrity.map(unescape);
            self.assets.push(Asset {
                url,
                want,
                integrity,
            });
        }
    }

    fn link(&mut self, tag: &Tag<'_>) {
        let rel = tag.get("rel").unwrap_or_default().to_ascii_lowercase();
        let has = |name: &str| rel.split_ascii_whitespace().any(|part| part == name);
        let alternate = has("alternate");
        let want = match tag.get("as") {
            _ if has("stylesheet") && !alternate => Want::Style,
            _ if has("icon") || has("apple-touch-icon") => Want::Image,
            Some("font") if has("preload") => Want::Font,
            Some("image") if has("preload") => Want::Image,
            Some("style") if has("preload") => Want::Style,
            Some("script") if has("preload") => Want::Script,
            _ => return,
        };
        self.attribute(tag, "href", want);
    }
}

/// The first address of a `srcset`.
fn first_candidate(srcset: &str) -> Option<&str> {
    let first = srcset.split_ascii_whitespace().next()?;
    Some(first.trim_end_matches(',')).filter(|address| !address.is_empty())
}

fn resolve(base: &Url, address: &str) -> Option<Url> {
    let mut url = base.join(address.trim()).ok()?;
    url.set_fragment(None);
    matches!(url.scheme(), "http" | "https").then_some(url)
}

/// What a style sheet's `url()` and `@import` name.
pub(super) fn of_sheet(base: &Url, sheet: &str) -> Vec<Asset> {
    let sheet = without_comments(sheet);
    let mut found: Vec<Asset> = Vec::new();
    let mut rest = sheet.as_str();
    while let Some(at) = rest.find("url(") {
        let (before, after) = rest.split_at(at + 4);
        let end = after.find(')').unwrap_or(after.len());
        let (inner, next) = after.split_at(end);
        let want = if before
            .trim_end_matches("url(")
            .trim_end()
            .ends_with("@import")
        {
            Want::Style
        } else if block_is_font_face(before) {
            Want::Font
        } else {
            Want::Image
        };
        push_sheet_url(&mut found, base, inner, want);
        rest = next;
    }
    for part in sheet.split("@import").skip(1) {
        let part = part.trim_start();
        let quoted = ['"', '\'']
            .into_iter()
            .find_map(|q| part.strip_prefix(q)?.split_once(q));
        if let Some((inner, _)) = quoted {
            push_sheet_url(&mut found, base, inner, Want::Style);
        }
    }
    found
}

fn push_sheet_url(found: &mut Vec<Asset>, base: &Url, inner: &str, want: Want) {
    let address = inner.trim().trim_matches(['"', '\'']);
    if address.is_empty() || address.starts_with('#') || address.starts_with("data:") {
        return;
    }
    if let Some(url) = resolve(base, address)
        && found.iter().all(|asset| asset.url != url)
    {
        found.push(Asset {
            url,
            want,
            integrity: None,
        });
    }
}

/// Whether the block that is open at the end of `before` is an `@font-face`.
fn block_is_font_face(before: &str) -> bool {
    let Some((head, _)) = before.rsplit_once('{') else {
        return false;
    };
    let selector = head.rsplit(['}', ';', '{']).next().unwrap_or_default();
    selector.trim().eq_ignore_ascii_case("@font-face")
}

fn without_comments(sheet: &str) -> String {
    let mut out = String::with_capacity(sheet.len());
    let mut rest = sheet;
    while let Some((before, after)) = rest.split_once("/*") {
        out.push_str(before);
        rest = after.split_once("*/").map_or("", |(_, next)| next);
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Url {
        Url::parse("http://h.test/a/page.html").unwrap()
    }

    fn listed(assets: &[Asset]) -> Vec<String> {
        assets
            .iter()
            .map(|asset| format!("{} {}", asset.want.dest(), asset.url.path()))
            .collect()
    }

    #[test]
    fn a_page_names_what_a_browser_loads() {
        let page = r##"<!doctype html><head>
            <link rel="icon" href="/i.svg"><link rel="stylesheet" href="s.css" integrity="sha256-x">
            <link rel="preload" as="font" href="/f.woff2" crossorigin><link rel="next" href="/n.html">
            <link rel="alternate stylesheet" href="/other.css"><link rel="manifest" href="/m">
            <script src="/j.js" defer></script><script type="module" src="/m.js"></script>
            <style>p { background: url(p.png) }</style></head>
            <img src="small.jpg" srcset="/big.jpg 1600w, small.jpg 800w"><img src="one.webp#x">
            <img src="data:image/gif;base64,AAAA"><a href="/no.zip">x</a>
            <video poster="/v.jpg" src="/v.mp4"></video>
            <video autoplay><source src="/w.mp4"><source src="/w.webm"></video>
            <div style="background:url(&quot;/d.png&quot;)"></div><img src="/i.svg">"##;
        assert_eq!(
            listed(&of_page(&base(), page)),
            [
                "image /i.svg",
                "style /a/s.css",
                "font /f.woff2",
                "script /j.js",
                "image /a/p.png",
                "image /big.jpg",
                "image /a/one.webp",
                "image /v.jpg",
                "video /w.mp4",
                "image /d.png",
            ]
        );
        let sheet = &of_page(&base(), page)[1];
        assert_eq!(sheet.integrity.as_deref(), Some("sha256-x"));
    }

    #[test]
    fn addresses_follow_the_base_element() {
        let found = of_page(&base(), "<base href='http://b.test/c/'><img src='d.png'>");
        assert_eq!(found[0].url.as_str(), "http://b.test/c/d.png");
    }

    #[test]
    fn a_sheet_names_fonts_pictures_and_imports() {
        let sheet = "@import 'one.css'; @import url(two.css);
            /* url(gone.png) */ @font-face{font-family:a;src:url( \"../f.woff2\" ) format('woff2')}
            .a{background:url(x.png),url('x.png')} .b{mask:url(#m)} @media print{.c{background:url(y.svg)}}
            .d{background:url(data:image/png;base64,AA)}";
        let mut found = listed(&of_sheet(&base(), sheet));
        found.sort();
        assert_eq!(
            found,
            [
                "font /f.woff2",
                "image /a/x.png",
                "image /a/y.svg",
                "style /a/one.css",
                "style /a/two.css"
            ]
        );
    }

    #[test]
    fn unfinished_sheets_are_read_to_their_end() {
        for sheet in [
            "url(",
            "a{b:url(x",
            "/*",
            "@import",
            "@import \"",
            "}{url()",
        ] {
            let _ = of_sheet(&base(), sheet);
        }
    }
}
