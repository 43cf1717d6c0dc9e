//! Where a page or a style sheet leads: to what it is made of, and to other pages.
//!
//! Only what may be asked of the same site comes out: a path, without query. Whatever is missed
//! here is asked for by visitors.

use std::cell::RefCell;
use std::rc::Rc;

use cssparser::{Parser, ParserInput, Token};
use lol_html::html_content::{Element, TextChunk};
use lol_html::{HtmlRewriter, MemorySettings, Settings, element, text};
use swarm_proto::manifest::{SiteName, SitePath};
use url::Url;

/// Links of one document that are looked at.
const LINKS_MAX: usize = 10_000;
/// Bytes that one tag, or the style sheet within a page, may have.
const TEXT_LEN_MAX: usize = 1 << 20;
/// How deep blocks of a style sheet are followed into one another.
const DEPTH_MAX: usize = 16;

/// `rel`s of links to what a page is made of.
const PARTS: [&str; 8] = [
    "apple-touch-icon",
    "icon",
    "manifest",
    "modulepreload",
    "prefetch",
    "preload",
    "shortcut",
    "stylesheet",
];

/// Where a document leads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Links {
    /// To what it is made of.
    pub(super) parts: Vec<SitePath>,
    /// To other pages.
    pub(super) pages: Vec<SitePath>,
}

/// Which URLs are the site's.
#[derive(Debug, Clone)]
pub(super) struct Within {
    /// Its public name, and where it is at home.
    pub(super) names: [SiteName; 2],
}

impl Within {
    /// The path that `link` in a document at `base` means, if that is the site's.
    pub(super) fn path(&self, base: &Url, link: &str) -> Option<SitePath> {
        let url = base.join(link.trim()).ok()?;
        let name = SiteName::of(&url).ok()?;
        if url.query().is_some() || !self.names.contains(&name) {
            return None;
        }
        SitePath::parse(url.path()).ok()
    }
}

/// What links are gathered in.
struct Gathered<'a> {
    within: &'a Within,
    base: Url,
    /// Of the first `<base>`: only that one counts.
    based: bool,
    links: Links,
    style: String,
}

impl Gathered<'_> {
    fn part(&mut self, link: &str) {
        if self.links.parts.len() < LINKS_MAX {
            self.links.parts.extend(self.within.path(&self.base, link));
        }
    }

    fn page(&mut self, link: &str) {
        if self.links.pages.len() < LINKS_MAX {
            self.links.pages.extend(self.within.path(&self.base, link));
        }
    }

    fn candidates(&mut self, srcset: &str) {
        for candidate in srcset.split(',') {
            if let Some(link) = candidate.split_whitespace().next() {
                self.part(link);
            }
        }
    }

    fn sheet(&mut self, css: &str) {
        let mut input = ParserInput::new(css);
        let mut urls = Vec::new();
        urls_of(&mut Parser::new(&mut input), 0, &mut urls);
        for url in urls {
            self.part(&url);
        }
    }

    fn element(&mut self, element: &Element<'_, '_>) {
        let get = |name: &str| element.get_attribute(name);
        let tag = element.tag_name();
        match tag.as_str() {
            "base" if !self.based => {
                let base = get("href").and_then(|href| self.base.join(&href).ok());
                if let Some(base) = base {
                    self.base = base;
                    self.based = true;
                }
            }
            "a" | "area" | "iframe" | "frame" => {
                for link in ["href", "src"].into_iter().filter_map(get) {
                    self.page(&link);
                }
            }
            "link" => {
                let rel = get("rel").unwrap_or_default().to_ascii_lowercase();
                let is_part = rel.split_whitespace().any(|rel| PARTS.contains(&rel));
                match get("href") {
                    Some(href) if is_part => self.part(&href),
                    Some(href) => self.page(&href),
                    None => {}
                }
                if let Some(srcset) = get("imagesrcset") {
                    self.candidates(&srcset);
                }
            }
            _ => {
                for link in ["src", "poster", "data", "background", "xlink:href"] {
                    if let Some(link) = get(link) {
                        self.part(&link);
                    }
                }
                if let Some(srcset) = get("srcset") {
                    self.candidates(&srcset);
                }
            }
        }
        if let Some(style) = get("style") {
            self.sheet(&style);
        }
    }

    fn style(&mut self, chunk: &TextChunk<'_>) {
        if self.style.len() + chunk.as_str().len() <= TEXT_LEN_MAX {
            self.style.push_str(chunk.as_str());
        }
        if chunk.last_in_text_node() {
            let css = std::mem::take(&mut self.style);
            self.sheet(&css);
        }
    }
}

/// Links of a page at `base`. A page that cannot be read further leads nowhere from there on.
pub(super) fn of_page(html: &[u8], base: &Url, within: &Within) -> Links {
    let gathered = Rc::new(RefCell::new(Gathered {
        within,
        base: base.clone(),
        based: false,
        links: Links::default(),
        style: String::new(),
    }));
    let on_element = Rc::clone(&gathered);
    let on_style = Rc::clone(&gathered);
    let settings = Settings::new()
        .with_memory_settings(MemorySettings::new().with_max_allowed_memory_usage(TEXT_LEN_MAX))
        .append_element_content_handler(element!(
            "base, a, area, iframe, frame, link, img, script, source, video, audio, track, embed, \
             object, input, body, table, td, image, use, [style]",
            move |element| {
                on_element.borrow_mut().element(element);
                Ok(())
            }
        ))
        .append_element_content_handler(text!("style", move |chunk| {
            on_style.borrow_mut().style(chunk);
            Ok(())
        }));
    let mut reader = HtmlRewriter::new(settings, |_: &[u8]| {});
    let read = reader.write(html).and_then(|()| reader.end());
    if let Err(error) = read {
        tracing::debug!(%base, %error, "page not read to its end");
    }
    let mut gathered = gathered.borrow_mut();
    std::mem::take(&mut gathered.links)
}

/// Links of a style sheet at `base`.
pub(super) fn of_sheet(css: &str, base: &Url, within: &Within) -> Links {
    let mut gathered = Gathered {
        within,
        base: base.clone(),
        based: false,
        links: Links::default(),
        style: String::new(),
    };
    gathered.sheet(css);
    gathered.links
}

/// The addresses in a style sheet: `url(…)`, and the names of imported sheets.
fn urls_of(parser: &mut Parser<'_, '_>, depth: usize, urls: &mut Vec<String>) {
    let mut imports = false;
    while urls.len() < LINKS_MAX {
        let Ok(token) = parser.next().cloned() else {
            return;
        };
        let inner = match &token {
            Token::UnquotedUrl(url) => {
                urls.push(url.to_string());
                false
            }
            Token::QuotedString(url) if imports => {
                urls.push(url.to_string());
                false
            }
            Token::AtKeyword(name) => {
                imports = name.eq_ignore_ascii_case("import");
                continue;
            }
            Token::Function(name) if name.eq_ignore_ascii_case("url") => {
                let quoted = parser.parse_nested_block(|inner| {
                    Ok::<_, cssparser::ParseError<'_, ()>>(inner.expect_string()?.to_string())
                });
                urls.extend(quoted);
                false
            }
            Token::Function(_)
            | Token::ParenthesisBlock
            | Token::SquareBracketBlock
            | Token::CurlyBracketBlock => true,
            _ => false,
        };
        imports = false;
        if inner && depth < DEPTH_MAX {
            // What does not parse is left out, as a browser does.
            let _ = parser.parse_nested_block(|inner| {
                urls_of(inner, depth + 1, urls);
                Ok::<_, cssparser::ParseError<'_, ()>>(())
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within() -> Within {
        let names = ["site.example", "origin.site.example:8080"];
        Within {
            names: names.map(|name| SiteName::parse(name).unwrap()),
        }
    }

    fn base() -> Url {
        Url::parse("http://site.example/docs/page.html").unwrap()
    }

    fn shown(paths: &[SitePath]) -> Vec<&str> {
        paths.iter().map(SitePath::as_str).collect()
    }

    #[test]
    fn parts_and_pages_of_the_site_are_found() {
        let html = br#"<!doctype html><html><head><base href="/docs/deep/">
            <base href="/never/">
            <link rel="StyleSheet" href="s.css"><link rel=icon href=/i.ico><link rel=next href=n.html>
            <link rel=preload as=image imagesrcset="p1.png 1x, p2.png 2x" href=p0.png>
            <style>@import "imp.css"; @media print { a { background: url( 'st.png' ) } }</style>
            <script src=/app.js></script></head><body background=bg.gif>
            <img src="a.png#x" srcset="b.png 2x,c.png 3x"><video poster=v.jpg><source src=v.mp4></video>
            <p style="background-image:url(inline.png)"><a href="../other.html">o</a>
            <a href="http://origin.site.example:8080/abs.html">x</a><a href="?q">q</a><a href="s?q=1">q</a>
            <a href="https://elsewhere.example/z.html">z</a><img src="//cdn.example/c.png">
            <img src="data:image/png;base64,AA"><a href="mailto:x@site.example">m</a>
            <a href="/.hidden/x">h</a><a href="http://site.example:81/x">p</a></body>"#;
        let links = of_page(html, &base(), &within());
        assert_eq!(
            shown(&links.parts),
            [
                "/docs/deep/s.css",
                "/i.ico",
                "/docs/deep/p0.png",
                "/docs/deep/p1.png",
                "/docs/deep/p2.png",
                "/docs/deep/imp.css",
                "/docs/deep/st.png",
                "/app.js",
                "/docs/deep/bg.gif",
                "/docs/deep/a.png",
                "/docs/deep/b.png",
                "/docs/deep/c.png",
                "/docs/deep/v.jpg",
                "/docs/deep/v.mp4",
                "/docs/deep/inline.png",
            ]
        );
        assert_eq!(
            shown(&links.pages),
            ["/docs/deep/n.html", "/docs/other.html", "/abs.html"]
        );
    }

    #[test]
    fn sheets_lead_to_their_pictures_fonts_and_sheets() {
        let css = r#"@import url("a.css") screen; @import 'b.css'; @charset "utf-8";
            @font-face { src: url(f.woff2) format("woff2"), url('f.woff?#iefix') }
            .x::after { content: "url(no.png)"; background: image-set(url(x1.png) 1x, url(x2.png) 2x) }
            /* url(comment.png) */ .y { background: url(data:image/gif;base64,R0) }"#;
        let links = of_sheet(css, &base(), &within());
        assert_eq!(
            shown(&links.parts),
            [
                "/docs/a.css",
                "/docs/b.css",
                "/docs/f.woff2",
                "/docs/x1.png",
                "/docs/x2.png",
            ]
        );
    }

    #[test]
    fn rubbish_leads_nowhere_and_ends() {
        for rubbish in [
            &b"\xff\xfe<a href=\"\xff\">"[..],
            b"<a href='",
            b"",
            &b"<style>{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{".repeat(1000),
            &b"<div style='url(".repeat(10_000),
        ] {
            let links = of_page(rubbish, &base(), &within());
            assert!(links.pages.len() <= 1, "{links:?}");
        }
        let deep = "a{".repeat(100_000) + "b{c:url(x.png)}";
        assert_eq!(of_sheet(&deep, &base(), &within()), Links::default());
        let many: String = (0..20_000)
            .map(|n| format!("a{{b:url({n}.png)}}"))
            .collect();
        assert_eq!(of_sheet(&many, &base(), &within()).parts.len(), LINKS_MAX);
    }
}
