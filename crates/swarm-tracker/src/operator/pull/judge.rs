//! What of a site may be copied for everybody: what a shared cache may store (RFC 9111, section 3)
//! and hand out for a while without asking again, and a little less than that (T47).

use std::collections::HashMap;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_cache_semantics::{CacheOptions, CachePolicy};
use swarm_peer::publish::media_type;
use swarm_proto::manifest::{SitePath, is_media_type};

/// The longest time for which a browser may keep a page of a copy, seconds.
const CACHE_SECS_MAX: u64 = 86_400;

/// What is known of an answer that may be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fit {
    pub(super) media_type: String,
    /// Seconds for which it need not be asked for again.
    pub(super) fresh_secs: u64,
    /// Seconds for which a browser may keep it.
    pub(super) cache_secs: u32,
    /// Seconds since 1970; 0: not said.
    pub(super) modified: u64,
}

/// Why an answer may not be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Not 200.
    Status(StatusCode),
    /// For one person: it sets a cookie, or asks who he is.
    Personal,
    /// The site keeps it out of shared caches.
    Withheld,
    /// It says nothing of how long it holds, or that it does not hold.
    Fleeting,
    /// Others are answered otherwise.
    Varies,
    /// It sends elsewhere.
    Refreshes,
    /// Coded, though that was not asked for.
    Coded,
}

/// Judges the head of an answer to a GET without cookies or credentials. `now` is when it came.
pub(super) fn judge(
    path: &SitePath,
    status: StatusCode,
    headers: &HeaderMap,
    now: SystemTime,
) -> Result<Fit, Unfit> {
    if status != StatusCode::OK {
        return Err(Unfit::Status(status));
    }
    if headers.contains_key(header::SET_COOKIE) || headers.contains_key(header::WWW_AUTHENTICATE) {
        return Err(Unfit::Personal);
    }
    if headers.contains_key(header::REFRESH) {
        return Err(Unfit::Refreshes);
    }
    let coded = headers.get_all(header::CONTENT_ENCODING).iter();
    if coded
        .into_iter()
        .any(|coding| coding.as_bytes() != b"identity")
    {
        return Err(Unfit::Coded);
    }
    // A bridge answers everybody alike but for the coding of the bytes, which it chooses itself.
    let vary = headers.get_all(header::VARY).iter();
    let varies = vary
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|name| !name.trim_ascii().eq_ignore_ascii_case(b"accept-encoding"));
    if varies {
        return Err(Unfit::Varies);
    }
    let noarchive = headers.get_all("x-robots-tag").iter();
    if noarchive
        .into_iter()
        .any(|tag| says(tag.as_bytes(), b"noarchive"))
    {
        return Err(Unfit::Withheld);
    }
    if !is_plain(headers) {
        return Err(Unfit::Withheld);
    }
    let request = Request::get(path.to_url()).body(());
    let request = request.map_err(|_| Unfit::Withheld)?;
    let mut response = http::Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = in_lower_case(headers);
    let options = CacheOptions {
        shared: true,
        ..CacheOptions::default()
    };
    let policy = CachePolicy::new_options(&request, &response, now, options);
    if !policy.is_storable() {
        return Err(Unfit::Withheld);
    }
    let fresh_secs = policy.time_to_live(now).as_secs();
    if fresh_secs == 0 {
        return Err(Unfit::Fleeting);
    }
    Ok(Fit {
        media_type: said_type(headers).unwrap_or_else(|| media_type(path.as_str().as_ref())),
        fresh_secs,
        cache_secs: u32::try_from(fresh_secs.min(CACHE_SECS_MAX)).unwrap_or(u32::MAX),
        modified: modified(headers).unwrap_or(0),
    })
}

/// Whether what is said of keeping it can be read, and is said once. The library leaves out what it
/// cannot read, and takes the first of two; what might forbid it does (RFC 9111, 4.2.1).
fn is_plain(headers: &HeaderMap) -> bool {
    let mut said = HashMap::new();
    for name in [header::CACHE_CONTROL, header::PRAGMA, header::EXPIRES] {
        for value in headers.get_all(&name) {
            let Ok(value) = value.to_str() else {
                return false;
            };
            if name == header::EXPIRES {
                continue;
            }
            for directive in value.split(',').map(str::trim) {
                let (key, value) = directive.split_once('=').unwrap_or((directive, ""));
                let value = value.trim().to_owned();
                let key = key.trim().to_ascii_lowercase();
                if said
                    .insert(key, value.clone())
                    .is_some_and(|old| old != value)
                {
                    return false;
                }
            }
        }
    }
    true
}

/// What the library compares letter by letter is the same in any case (RFC 9111, 5.2): it would
/// store what is `Private`.
fn in_lower_case(headers: &HeaderMap) -> HeaderMap {
    let mut lower = headers.clone();
    for (name, value) in &mut lower {
        if *name == header::CACHE_CONTROL || *name == header::PRAGMA {
            let said = value.as_bytes().to_ascii_lowercase();
            if let Ok(said) = HeaderValue::from_bytes(&said) {
                *value = said;
            }
        }
    }
    lower
}

/// Whether one of the words of a header is this one.
fn says(value: &[u8], word: &[u8]) -> bool {
    let mut words = value.split(|byte| matches!(byte, b',' | b':' | b' '));
    words.any(|said| said.eq_ignore_ascii_case(word))
}

/// The media type as the site says it, where a manifest can hold that.
fn said_type(headers: &HeaderMap) -> Option<String> {
    let said = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.trim();
    is_media_type(said).then(|| said.to_owned())
}

fn modified(headers: &HeaderMap) -> Option<u64> {
    let said = headers.get(header::LAST_MODIFIED)?.to_str().ok()?;
    let time = httpdate::parse_http_date(said).ok()?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderName;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn date(unix: u64) -> String {
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(unix))
    }

    fn judged(status: u16, fields: &[(&str, String)]) -> Result<Fit, Unfit> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let path = SitePath::parse("/a/page.html").unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        judge(&path, StatusCode::from_u16(status).unwrap(), &headers, now)
    }

    /// Every answer there is of these parts, and what RFC 9111 and we say of it, said anew.
    #[test]
    fn t47_nothing_that_is_not_for_everybody_is_copied() {
        let controls = [
            ("", None),
            ("max-age=60", Some(60)),
            ("public, max-age=60", Some(60)),
            ("max-age=60, s-maxage=7", Some(7)),
            ("MAX-AGE=60", Some(60)),
            ("max-age=0", Some(0)),
            ("s-maxage=0, max-age=60", Some(0)),
            ("private", Some(0)),
            ("Private", Some(0)),
            ("NO-STORE, max-age=60", Some(0)),
            ("No-Cache, max-age=60", Some(0)),
            ("private, max-age=60", Some(0)),
            ("no-store", Some(0)),
            ("no-store, max-age=60", Some(0)),
            ("no-cache", Some(0)),
            ("no-cache, max-age=60", Some(0)),
            ("public", None),
            ("private, x=\"\u{e9}\"", Some(0)),
            ("max-age=60, max-age=0", Some(0)),
            ("max-age=60, max-age=60", Some(60)),
        ];
        let statuses = [
            200, 203, 204, 206, 301, 302, 304, 401, 403, 404, 410, 500, 503,
        ];
        let others: [(&str, &str, bool); 8] = [
            ("x-nothing", "1", true),
            ("set-cookie", "a=b", false),
            ("vary", "Cookie", false),
            ("vary", "*", false),
            ("vary", "Accept-Encoding, accept-encoding", true),
            ("www-authenticate", "Basic", false),
            ("refresh", "0; url=/", false),
            ("content-encoding", "gzip", false),
        ];
        let mut rows = 0;
        for (control, explicit) in controls {
            for status in statuses {
                for (name, value, shared) in others {
                    for modified in [None, Some(NOW - 1000)] {
                        let mut fields = vec![("date", date(NOW)), (name, value.to_owned())];
                        if !control.is_empty() {
                            fields.push(("cache-control", control.to_owned()));
                        }
                        if let Some(modified) = modified {
                            fields.push(("last-modified", date(modified)));
                        }
                        let secs = explicit.or(modified.map(|_| 100)).unwrap_or(0);
                        let expected = (status == 200 && shared && secs > 0).then_some(secs);
                        let got = judged(status, &fields).ok().map(|fit| fit.fresh_secs);
                        assert_eq!(got, expected, "{status} {fields:?}");
                        rows += 1;
                    }
                }
            }
        }
        assert!(rows >= 400, "{rows}");
    }

    #[test]
    fn what_it_is_and_how_long_it_holds_is_as_the_site_says() {
        let fit = |fields: &[(&str, String)]| judged(200, fields).unwrap();
        let aged = fit(&[
            ("cache-control", "max-age=100".into()),
            ("age", "40".into()),
            ("content-type", "text/html; charset=iso-8859-1".into()),
            ("last-modified", date(NOW - 9)),
        ]);
        assert_eq!(
            (aged.fresh_secs, aged.cache_secs, aged.modified),
            (60, 60, NOW - 9)
        );
        assert_eq!(aged.media_type, "text/html; charset=iso-8859-1");
        let year = fit(&[("expires", date(NOW + 31_536_000)), ("date", date(NOW))]);
        assert_eq!((year.cache_secs, year.modified), (86_400, 0));
        assert_eq!(year.media_type, "text/html;charset=utf-8");
        let odd = fit(&[
            ("cache-control", "max-age=5".into()),
            ("content-type", "nonsense".into()),
        ]);
        assert_eq!(odd.media_type, "text/html;charset=utf-8");
        assert_eq!(
            judged(200, &[("expires", date(NOW - 1)), ("date", date(NOW))]),
            Err(Unfit::Fleeting)
        );
        assert_eq!(
            judged(
                200,
                &[
                    ("cache-control", "max-age=5".into()),
                    ("x-robots-tag", "bot: noarchive".into())
                ]
            ),
            Err(Unfit::Withheld)
        );
    }
}
