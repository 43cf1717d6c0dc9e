//! [`SitePath`]: the only path of a site that may reach a manifest, a disk or a URL.

use std::borrow::Borrow;
use std::fmt;

use crate::limits;
use crate::metainfo::path::is_harmful;

/// The path of a page or file, decoded and checked: `/docs/a b.html`, or `/docs/` for a folder.
///
/// Begins with `/`. No component is empty, begins with a dot (so there is no `.`, `..` or
/// dotfile), or has a control character, a backslash or an encoded slash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SitePath(Box<str>);

/// Why a text is no [`SitePath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("path does not begin with a slash")]
    NotAbsolute,
    /// Longer than the limit, or a component is, or there are too many of them.
    #[error("path is too long")]
    TooLong,
    /// Two slashes in a row.
    #[error("path has an empty component")]
    EmptyComponent,
    /// A component begins with a dot.
    #[error("path has a component that begins with a dot")]
    Dot,
    /// A control character, one that turns or hides text, a backslash, or an encoded slash.
    #[error("path has a forbidden character")]
    Character,
    /// `?` or `#`: more than a path was given.
    #[error("path has a query or a fragment")]
    Query,
    /// A `%` without two hexadecimal digits.
    #[error("bad percent-encoding in the path")]
    Percent,
    /// The decoded bytes are no UTF-8.
    #[error("path is not UTF-8")]
    Utf8,
}

impl SitePath {
    /// Reads the path of a URL, percent-encoded as it travels. It is decoded once.
    ///
    /// # Errors
    /// [`PathError`]: nothing that a manifest could name.
    pub fn parse(url_path: &str) -> Result<Self, PathError> {
        // Every byte may be encoded as three.
        if url_path.len() > limits::SITE_PATH_LEN_MAX * 3 {
            return Err(PathError::TooLong);
        }
        let mut decoded = Vec::with_capacity(url_path.len());
        let mut bytes = url_path.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'?' | b'#' => return Err(PathError::Query),
                b'%' => {
                    let high = bytes.next().and_then(hex).ok_or(PathError::Percent)?;
                    let low = bytes.next().and_then(hex).ok_or(PathError::Percent)?;
                    let byte = high << 4 | low;
                    // An encoded slash would be read as a separator by whoever decodes first.
                    if byte == b'/' {
                        return Err(PathError::Character);
                    }
                    decoded.push(byte);
                }
                _ => decoded.push(byte),
            }
        }
        let text = std::str::from_utf8(&decoded).map_err(|_| PathError::Utf8)?;
        Self::from_decoded(text)
    }

    /// Checks a path that is not percent-encoded, as manifests hold it.
    ///
    /// # Errors
    /// [`PathError`], as [`SitePath::parse`].
    pub fn from_decoded(text: &str) -> Result<Self, PathError> {
        let relative = text.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        if text.len() > limits::SITE_PATH_LEN_MAX {
            return Err(PathError::TooLong);
        }
        if relative.chars().any(|c| c != '/' && is_harmful(c)) {
            return Err(PathError::Character);
        }
        let relative = relative.strip_suffix('/').unwrap_or(relative);
        if !relative.is_empty() {
            let mut count = 0_usize;
            for component in relative.split('/') {
                count += 1;
                if component.is_empty() {
                    return Err(PathError::EmptyComponent);
                }
                if component.starts_with('.') {
                    return Err(PathError::Dot);
                }
                if component.len() > limits::SITE_PATH_COMPONENT_LEN_MAX
                    || count > limits::SITE_PATH_DEPTH_MAX
                {
                    return Err(PathError::TooLong);
                }
            }
        } else if text.len() > 1 {
            return Err(PathError::EmptyComponent);
        }
        Ok(Self(text.into()))
    }

    /// Joins components, none of them encoded, to the path of a file.
    ///
    /// # Errors
    /// [`PathError`], as [`SitePath::parse`]; a `/` inside a component is refused too.
    pub fn from_components<S: AsRef<str>>(
        components: impl IntoIterator<Item = S>,
    ) -> Result<Self, PathError> {
        let mut text = String::new();
        for component in components {
            let component = component.as_ref();
            if component.contains('/') {
                return Err(PathError::Character);
            }
            if component.is_empty() {
                return Err(PathError::EmptyComponent);
            }
            text.push('/');
            text.push_str(component);
        }
        Self::from_decoded(&text)
    }

    /// The decoded path, `/` first.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components from the top; none for `/`.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|component| !component.is_empty())
    }

    /// Whether it ends with a slash, and so names a folder.
    pub fn is_folder(&self) -> bool {
        self.0.ends_with('/')
    }

    /// The path as it stands in a URL: everything but unreserved characters and a few safe ones
    /// is percent-encoded, so that it can go into a header or an HTML attribute as it is.
    pub fn to_url(&self) -> String {
        let mut url = String::with_capacity(self.0.len() + 8);
        for byte in self.0.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => url.push(char::from(byte)),
                b'/' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'(' | b')' | b'*' | b'+'
                | b',' | b';' | b'=' | b':' | b'@' => url.push(char::from(byte)),
                _ => {
                    const DIGITS: [char; 16] = [
                        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E',
                        'F',
                    ];
                    url.push('%');
                    url.push(DIGITS[usize::from(byte >> 4)]);
                    url.push(DIGITS[usize::from(byte & 15)]);
                }
            }
        }
        url
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

impl Borrow<str> for SitePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SitePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SitePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SitePath({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_path_is_decoded_once_and_encoded_back() {
        for (url, decoded, back) in [
            ("/", "/", "/"),
            ("/docs/", "/docs/", "/docs/"),
            ("/a%20b.html", "/a b.html", "/a%20b.html"),
            ("/b%C3%BCcher", "/bücher", "/b%C3%BCcher"),
            ("/%2561", "/%61", "/%2561"),
            ("/%3Fa", "/?a", "/%3Fa"),
            ("/a'\"<>&b", "/a'\"<>&b", "/a%27%22%3C%3E%26b"),
            ("/a:b@c;d=e,f", "/a:b@c;d=e,f", "/a:b@c;d=e,f"),
        ] {
            let path = SitePath::parse(url).unwrap();
            assert_eq!(path.as_str(), decoded);
            assert_eq!(path.to_url(), back);
            assert_eq!(SitePath::parse(&path.to_url()).unwrap(), path);
        }
    }

    #[test]
    fn paths_that_could_leave_or_hide_are_refused() {
        use PathError::*;
        let long = format!("/{}", "a".repeat(256));
        let longer = "/a".repeat(600);
        let deep = "/a".repeat(65);
        for (url, error) in [
            ("", NotAbsolute),
            ("a", NotAbsolute),
            ("//", EmptyComponent),
            ("/a//b", EmptyComponent),
            ("/a//", EmptyComponent),
            ("/.", Dot),
            ("/..", Dot),
            ("/a/../b", Dot),
            ("/a/%2e%2E/b", Dot),
            ("/.git/config", Dot),
            ("/.well-known/swarm/keys", Dot),
            ("/a/.", Dot),
            ("/a\\b", Character),
            ("/a%5cb", Character),
            ("/a%2fb", Character),
            ("/a%2Fb", Character),
            ("/a%00b", Character),
            ("/a%0d%0ab", Character),
            ("/a\x7fb", Character),
            ("/a%c2%85b", Character),
            ("/a%e2%80%aeb", Character),
            ("/a?b", Query),
            ("/a#b", Query),
            ("/a%", Percent),
            ("/a%2", Percent),
            ("/a%zz", Percent),
            ("/a%+1", Percent),
            ("/%ff", Utf8),
            ("/%c0%ae%c0%ae/", Utf8),
            (&long, TooLong),
            (&longer, TooLong),
            (&deep, TooLong),
        ] {
            assert_eq!(SitePath::parse(url), Err(error), "{url:?}");
        }
    }

    #[test]
    fn components_never_smuggle_a_slash() {
        assert_eq!(
            SitePath::from_components(["a", "b c"]).unwrap().as_str(),
            "/a/b c"
        );
        assert_eq!(
            SitePath::from_components(["a/b"]),
            Err(PathError::Character)
        );
        assert_eq!(
            SitePath::from_components(["a", ""]),
            Err(PathError::EmptyComponent)
        );
        assert_eq!(
            SitePath::from_components(Vec::<String>::new()),
            Err(PathError::NotAbsolute)
        );
        let path = SitePath::parse("/a/b/").unwrap();
        assert_eq!(path.components().collect::<Vec<_>>(), ["a", "b"]);
    }
}
