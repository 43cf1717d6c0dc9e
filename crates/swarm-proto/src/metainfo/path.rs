//! Names from strangers, made harmless.
//!
//! As a BitTorrent client we are lenient: a name that no disk should see is replaced, not refused,
//! much as libtorrent does. What comes out has no separator, is not `.` or `..`, has no NUL,
//! control or text-direction character, is no device name of Windows, and is at most
//! [`limits::PATH_COMPONENT_LEN_MAX`] bytes; no two files differ only in case, and none has the
//! name of a directory. Characters that only Windows forbids (`:` or `?`) stay: they occur in the
//! paths of web sites, and where they matter the operating system refuses them.

use crate::limits;

mod apart;

pub(super) use apart::tell_apart;

/// Names that open a device on Windows, whatever their extension.
const DEVICES: [&str; 8] = [
    "con", "prn", "aux", "nul", "clock$", "conin$", "conout$", "config$",
];

/// Longest file extension kept when a name is cut.
const EXTENSION_LEN_MAX: usize = 16;

/// Makes one path component harmless. Bytes that are no UTF-8 become `_`.
pub fn sanitise(component: &[u8]) -> String {
    let mut name = String::with_capacity(component.len());
    for part in component.utf8_chunks() {
        name.extend(
            part.valid()
                .chars()
                .map(|c| if is_harmful(c) { '_' } else { c }),
        );
        if !part.invalid().is_empty() {
            name.push('_');
        }
    }
    match name.as_str() {
        "" | "." => return "_".to_owned(),
        ".." => return "__".to_owned(),
        _ => {}
    }
    if is_device(&name) {
        name.insert(0, '_');
    }
    if name.len() > limits::PATH_COMPONENT_LEN_MAX {
        name = shorten(&name, "");
    }
    name
}

/// Whether [`sanitise`] would leave the name as it is.
pub fn is_sane(component: &str) -> bool {
    sanitise(component.as_bytes()) == component
}

/// Whether no name may have this character: separators, control, and what turns or hides text.
pub(crate) fn is_harmful(c: char) -> bool {
    matches!(
        c,
        '/' | '\\'
            // Line and paragraph separators, and marks that turn or hide text.
            | '\u{2028}' | '\u{2029}'
            | '\u{200e}' | '\u{200f}' | '\u{061c}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
    ) || c.is_control()
}

fn is_device(name: &str) -> bool {
    let stem = name
        .split(['.', ':'])
        .next()
        .unwrap_or_default()
        .trim_end_matches(' ');
    let stem = stem.to_lowercase();
    if DEVICES.contains(&stem.as_str()) {
        return true;
    }
    let port = stem
        .strip_prefix("com")
        .or_else(|| stem.strip_prefix("lpt"));
    port.is_some_and(|port| {
        let mut chars = port.chars();
        matches!(chars.next(), Some('0'..='9' | '¹' | '²' | '³')) && chars.next().is_none()
    })
}

/// Puts `mark` before the extension, and cuts the stem so that all of it fits.
fn shorten(name: &str, mark: &str) -> String {
    let (stem, extension) = match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= EXTENSION_LEN_MAX => name.split_at(dot),
        _ => (name, ""),
    };
    let room = limits::PATH_COMPONENT_LEN_MAX.saturating_sub(mark.len() + extension.len());
    let stem = &stem[..stem.floor_char_boundary(room)];
    format!("{stem}{mark}{extension}")
}

#[cfg(test)]
mod tests;
