//! Tags that point to bridges, while a page streams through.
//!
//! Scripts and styles move only together with `integrity=` and `crossorigin=`; modules stay home,
//! since what they import would not be checked. Sound and film are left to the redirect: whether
//! they are played at all is only known when they are asked for, and the wave is judged by that.
//!
//! On any failure the rest of the page goes out as it came: lol_html flushes what it holds, and
//! what follows is passed on untouched.

pub mod banner;
pub mod body;
pub mod srcset;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use lol_html::html_content::{ContentType, Doctype, DocumentEnd, Element, EndTag};
use lol_html::send::{DocumentContentHandlers, SendHandlerTypes};
use lol_html::send::{HtmlRewriter, Settings};
use lol_html::{MemorySettings, element};
use url::Url;

use swarm_proto::manifest::SitePath;

use crate::assets::{Asset, Kind};
use crate::csp::Policy;
use crate::decide::View;
use crate::divert::Divert;

/// What one page may make the rewriter hold, in bytes. A longer tag ends the rewriting, not the
/// page.
pub const MEMORY_MAX: usize = 1 << 20;

/// Distinct files of one page that are moved.
const MOVES_MAX: usize = 4096;

/// What is known of a page before its first byte.
#[derive(Debug)]
pub struct Page {
    /// Its own address, as the visitor sees it.
    pub url: Url,
    /// The browser said it is a document; otherwise a doctype or `<html>` must say so.
    pub document: bool,
    /// Whether the request bore cookies.
    pub cookie: bool,
    /// Its policies.
    pub policy: Policy,
    /// Character encoding named by `Content-Type`.
    pub charset: Option<String>,
    /// The invitation's markup.
    pub banner: Option<String>,
    /// The page of the same site the visitor came from: what that one had is in the cache.
    pub referer: Option<String>,
}

/// Rewrites one page.
pub struct Rewriter {
    inner: Option<HtmlRewriter<'static, Sink>>,
    out: Arc<Mutex<BytesMut>>,
    state: Arc<Mutex<PageState>>,
}

/// Where lol_html writes to.
struct Sink(Arc<Mutex<BytesMut>>);

impl lol_html::OutputSink for Sink {
    fn handle_chunk(&mut self, chunk: &[u8]) {
        lock(&self.0).extend_from_slice(chunk);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rewriter {
    /// Starts a page; `None` for a character encoding that cannot be rewritten.
    pub fn new(page: Page, divert: Arc<Divert>) -> Option<Self> {
        if !page.charset.as_deref().is_none_or(is_ascii_compatible) {
            return None;
        }
        let out = Arc::new(Mutex::new(BytesMut::new()));
        let state = Arc::new(Mutex::new(PageState {
            base: page.url.clone(),
            document: page.document,
            banner: page.banner.clone(),
            moved: HashMap::new(),
            files: HashSet::new(),
            counted: 0,
            page,
            divert,
        }));
        let inner = HtmlRewriter::new(settings(&state), Sink(out.clone()));
        Some(Self {
            inner: Some(inner),
            out,
            state,
        })
    }

    /// Takes the next bytes of the page, gives what can go out.
    pub fn write(&mut self, chunk: Bytes) -> Bytes {
        let Some(inner) = self.inner.as_mut() else {
            return chunk;
        };
        if let Err(error) = inner.write(&chunk) {
            self.give_up(&error);
        }
        lock(&self.out).split().freeze()
    }

    /// The end of the page: what is still to go out.
    pub fn end(&mut self) -> Bytes {
        let Some(inner) = self.inner.take() else {
            return Bytes::new();
        };
        if let Err(error) = inner.end() {
            self.give_up(&error);
        }
        lock(&self.state).close();
        lock(&self.out).split().freeze()
    }

    fn give_up(&mut self, error: &dyn std::error::Error) {
        self.inner = None;
        tracing::warn!(%error, "page left as it is from here on");
    }

    /// Files that were moved so far.
    pub fn moved(&self) -> usize {
        lock(&self.state).files.len()
    }
}

/// Whether tags look the same in this character encoding as in ASCII. All that is written is
/// ASCII and what is not written stays as it came, so more need not be known of it; names that
/// are no ASCII are not found in the manifest then, and stay home.
fn is_ascii_compatible(label: &str) -> bool {
    let label = label.trim_matches([' ', '"', '\'']).to_ascii_lowercase();
    let families = [
        "utf-8",
        "utf8",
        "us-ascii",
        "ascii",
        "iso-8859-",
        "iso8859-",
        "windows-125",
        "cp125",
        "latin",
        "koi8",
        "gb2312",
        "gbk",
        "gb18030",
        "big5",
        "shift_jis",
        "sjis",
        "euc-",
        "macintosh",
    ];
    families.iter().any(|family| label.starts_with(family))
}

/// What the handlers share.
struct PageState {
    page: Page,
    base: Url,
    document: bool,
    banner: Option<String>,
    /// Decided files of this page: the same file goes to one bridge, as far as the page's
    /// policies treat its uses alike.
    moved: HashMap<Use, Option<String>>,
    /// Paths of those that were moved.
    files: HashSet<String>,
    counted: u64,
    divert: Arc<Divert>,
}

/// A file's path, what it is used as, and whether the tag bears a nonce.
type Use = (String, Kind, bool);

impl PageState {
    /// The bridge's address for the file a tag names, and its `integrity`.
    fn place(&mut self, raw: &str, kinds: &[Kind], nonced: bool) -> Option<Place> {
        // A character reference is somebody's query string, or somebody's trick.
        if !self.document || raw.contains('&') || raw.len() > MOVED_URL_LEN_MAX {
            return None;
        }
        let url = self.base.join(raw.trim()).ok()?;
        let ours = self.divert.is_ours(&url) || url.origin() == self.page.url.origin();
        if !ours || url.query().is_some() {
            return None;
        }
        let path = SitePath::parse(url.path()).ok()?;
        let divert = self.divert.clone();
        let asset = divert
            .assets
            .get(path.as_str())
            .filter(|asset| kinds.contains(&asset.kind))?;
        let fragment = url
            .fragment()
            .map(|fragment| format!("#{fragment}"))
            .unwrap_or_default();
        let used_as = *kinds.first()?;
        let key = (asset.url_path.clone(), used_as, nonced);
        let place = match self.moved.get(&key) {
            Some(place) => place.clone()?,
            None if self.moved.len().max(self.files.len()) >= MOVES_MAX => return None,
            None => {
                let place = self.choose(asset, used_as, nonced);
                self.moved.insert(key, place.clone());
                place?
            }
        };
        Some(Place {
            url: format!("{place}{fragment}").replace('&', "&amp;"),
            integrity: asset.integrity(),
        })
    }

    fn choose(&mut self, asset: &Asset, used_as: Kind, nonced: bool) -> Option<String> {
        let cached = self.files.contains(&asset.url_path)
            || self
                .divert
                .was_on(self.page.referer.as_deref(), &asset.url_path);
        let view: View<'_> = self.divert.view();
        let candidates: Vec<_> = view
            .candidates(asset, self.page.cookie)
            .into_iter()
            .filter(|bridge| self.page.policy.allows(used_as, bridge, nonced))
            .collect();
        let bytes = if cached { 0 } else { asset.length };
        let bridge = self
            .divert
            .choose(Instant::now(), asset, bytes, &candidates)?;
        self.counted = self.counted.saturating_add(bytes);
        self.files.insert(asset.url_path.clone());
        Some(bridge.url_of(asset))
    }

    /// What the page asks for itself, and is redirected, is bound by the same policies.
    fn note_policy(&self) {
        self.divert
            .note_policy(self.page.url.path(), self.page.policy.clone());
    }

    fn close(&mut self) {
        self.note_policy();
        let files = std::mem::take(&mut self.files);
        self.divert
            .page_done(self.page.url.path(), files, self.counted);
    }
}

/// What a tag may show as a picture: one without a telling name is served as a download.
const PICTURE: &[Kind] = &[Kind::Image, Kind::Download];

/// Longer addresses are not looked up: data URLs, mostly.
const MOVED_URL_LEN_MAX: usize = 2048;

struct Place {
    url: String,
    integrity: String,
}

type Tag<'r, 't> = Element<'r, 't, SendHandlerTypes>;
type Handled = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn settings(state: &Arc<Mutex<PageState>>) -> Settings<'static, 'static> {
    let with = |handler: fn(&mut Tag<'_, '_>, &mut PageState) -> Handled| {
        let state = state.clone();
        move |tag: &mut Tag<'_, '_>| handler(tag, &mut lock(&state))
    };
    let body_state = state.clone();
    let end_state = state.clone();
    let doctype_state = state.clone();
    Settings::new_send()
        .with_strict(false)
        .with_memory_settings(
            MemorySettings::new()
                .with_max_allowed_memory_usage(MEMORY_MAX)
                .with_graceful_bail_out_on_memory_limit_exceeded(true),
        )
        .with_graceful_bail_out_on_content_handler_error(true)
        .append_document_content_handler(
            DocumentContentHandlers::default()
                .doctype(move |_: &mut Doctype<'_>| {
                    lock(&doctype_state).document = true;
                    Ok(())
                })
                .end(move |end: &mut DocumentEnd<'_>| {
                    let mut state = lock(&end_state);
                    if state.document
                        && let Some(banner) = state.banner.take()
                    {
                        end.append(&banner, ContentType::Html);
                    }
                    Ok(())
                }),
        )
        .append_element_content_handler(element!("html, head", with(document)))
        .append_element_content_handler(element!("base[href]", with(base)))
        .append_element_content_handler(element!("meta[http-equiv][content]", with(meta)))
        .append_element_content_handler(element!("img, input[type=image i]", with(img)))
        .append_element_content_handler(element!("source[srcset]", with(source)))
        .append_element_content_handler(element!("video[poster]", with(video)))
        .append_element_content_handler(element!("script[src]", with(script)))
        .append_element_content_handler(element!("link[href][rel]", with(link)))
        .append_element_content_handler(element!("frameset", with(frameset)))
        .append_element_content_handler(element!("body", move |tag: &mut Tag<'_, '_>| {
            let state = body_state.clone();
            lock(&state).document = true;
            if let Some(handlers) = tag.end_tag_handlers() {
                handlers.push(Box::new(move |end: &mut EndTag<'_>| {
                    if let Some(banner) = lock(&state).banner.take() {
                        end.before(&banner, ContentType::Html);
                    }
                    Ok(())
                }));
            }
            Ok(())
        }))
}

fn document(_tag: &mut Tag<'_, '_>, state: &mut PageState) -> Handled {
    state.document = true;
    Ok(())
}

fn frameset(_tag: &mut Tag<'_, '_>, state: &mut PageState) -> Handled {
    state.banner = None;
    Ok(())
}

fn base(tag: &mut Tag<'_, '_>, state: &mut PageState) -> Handled {
    // Only the first counts, and it is resolved against the page.
    if state.base == state.page.url
        && let Some(href) = tag.get_attribute("href")
    {
        match state.page.url.join(href.trim()) {
            Ok(url) if !href.contains('&') => state.base = url,
            _ => state.document = false,
        }
    }
    Ok(())
}

fn meta(tag: &mut Tag<'_, '_>, state: &mut PageState) -> Handled {
    let named = tag.get_attribute("http-equiv").unwrap_or_default();
    if named.trim().eq_ignore_ascii_case("content-security-policy") {
        let content = tag.get_attribute("content").unwrap_or_default();
        state
            .page
            .policy
            .add(&content.replace("&#39;", "'").replace("&apos;", "'"));
        // What was decided before may not hold any more.
        state.moved.clear();
        state.note_policy();
        if !state.page.policy.allows_inline_style() {
            state.banner = None;
        }
    }
    Ok(())
}

fn img(tag: &mut Tag<'_, '_>, state: &mut PageState) -> Handled {
    let mut moved = false;
    if let Some(src) = tag.get_attribute("src")
        && let Some(place) = state.place(&src, PICTURE, false)
    {
        tag.set_attribute("src", &place.url)?;
        moved = true;
    }
    moved |= set_srcset(tag, "srcset", state)?;
    if moved {
        no_referrer(tag)?;
    }
    Ok(())
}

fn source(tag: &mut Tag<'_, '_>, state: &mut PageState) -> Handled {
    set_srcset(tag, "srcset", state)?;
    Ok(())
}

fn set_srcset(
    tag: &mut Tag<'_, '_>,
    name: &str,
    state: &mut PageState,
) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let Some(srcset) = tag.get_attribute(name) else {
        return Ok(false);
    };
    let moved = srcset::rewrite(&srcset, |url| Some(state.place(url, PICTURE, false)?.url));
    if let Some(moved) = &moved {
        tag.set_attribute(name, moved)?;
    }
    Ok(moved.is_some())
}

fn video(tag: &mut Tag<'_, '_>, state: &mut PageState) -> Handled {
    if let Some(poster) = tag.get_attribute("poster")
        && let Some(place) = state.place(&poster, PICTURE, false)
    {
        tag.set_attribute("poster", &place.url)?;
    }
    Ok(())
}

fn script(tag: &mut Tag<'_, '_>, state: &mut PageState) -> Handled {
    let kind = tag
        .get_attribute("type")
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let classic = matches!(
        kind.as_str(),
        "" | "text/javascript"
            | "application/javascript"
            | "text/ecmascript"
            | "application/ecmascript"
            | "application/x-javascript"
    );
    let Some(src) = tag.get_attribute("src").filter(|_| classic) else {
        return Ok(());
    };
    vouched(tag, "src", &src, &[Kind::Script], state)
}

fn link(tag: &mut Tag<'_, '_>, state: &mut PageState) -> Handled {
    let rel = tag
        .get_attribute("rel")
        .unwrap_or_default()
        .to_ascii_lowercase();
    let rels: Vec<&str> = rel.split_ascii_whitespace().collect();
    let Some(href) = tag.get_attribute("href") else {
        return Ok(());
    };
    if rels.contains(&"stylesheet") {
        return vouched(tag, "href", &href, &[Kind::Style], state);
    }
    let icon = [
        "icon",
        "apple-touch-icon",
        "apple-touch-icon-precomposed",
        "mask-icon",
    ];
    if rels.iter().any(|rel| icon.contains(rel)) {
        if let Some(place) = state.place(&href, PICTURE, false) {
            tag.set_attribute("href", &place.url)?;
            no_referrer(tag)?;
        }
        return Ok(());
    }
    if !rels.contains(&"preload") {
        return Ok(());
    }
    match tag
        .get_attribute("as")
        .unwrap_or_default()
        .to_ascii_lowercase()
        .as_str()
    {
        // As the tag it is for will be, or the file is fetched twice.
        "script" => vouched(tag, "href", &href, &[Kind::Script], state),
        "style" => vouched(tag, "href", &href, &[Kind::Style], state),
        "image" => {
            let mut moved = set_srcset(tag, "imagesrcset", state)?;
            if let Some(place) = state.place(&href, PICTURE, false) {
                tag.set_attribute("href", &place.url)?;
                moved = true;
            }
            if moved { no_referrer(tag) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

/// Moves a script or sheet, with what lets the browser check it. A tag that already says how it
/// is to be fetched or checked is left alone.
fn vouched(
    tag: &mut Tag<'_, '_>,
    attribute: &str,
    value: &str,
    kinds: &[Kind],
    state: &mut PageState,
) -> Handled {
    if tag.has_attribute("integrity") || tag.has_attribute("crossorigin") {
        return Ok(());
    }
    let nonced = tag.has_attribute("nonce");
    if let Some(place) = state.place(value, kinds, nonced) {
        tag.set_attribute("integrity", &place.integrity)?;
        tag.set_attribute("crossorigin", "anonymous")?;
        tag.set_attribute(attribute, &place.url)?;
        no_referrer(tag)?;
    }
    Ok(())
}

/// A volunteer need not learn which page is being read.
fn no_referrer(tag: &mut Tag<'_, '_>) -> Handled {
    if !tag.has_attribute("referrerpolicy") {
        tag.set_attribute("referrerpolicy", "no-referrer")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
