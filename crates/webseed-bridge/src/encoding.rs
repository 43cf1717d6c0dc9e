//! `Accept-Encoding` (RFC 9110, section 12.5.3): which of the stored variants to send.
//!
//! Nothing is compressed here; variants were made at publish time (spec 0003).

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;
use swarm_proto::manifest::Encoding;

/// Longest part of `Accept-Encoding` looked at, over all its lines.
const FIELD_LEN_MAX: usize = 1024;

/// A content coding that bundles carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// The file as it is.
    Identity,
    /// Brotli (RFC 7932).
    Br,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Coding {
    /// The coding's registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Br => "br",
            Coding::Zstd => "zstd",
        }
    }

    /// The coding of a variant.
    pub const fn of(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Brotli => Coding::Br,
            Encoding::Zstd => Coding::Zstd,
        }
    }

    /// The coding of that name, as requests spell it; case does not matter.
    pub fn from_name(name: &str) -> Option<Self> {
        [Coding::Identity, Coding::Br, Coding::Zstd]
            .into_iter()
            .find(|c| name.eq_ignore_ascii_case(c.name()))
    }
}

/// Chooses among `offers`, given as coding and length in bytes.
///
/// The greatest weight wins, then the shortest. A request without the field gets
/// [`Coding::Identity`], and so does one that refuses everything on offer: sending the plain file
/// is better than a 406 that no browser shows.
pub fn negotiate(headers: &HeaderMap, offers: &[(Coding, u64)]) -> Coding {
    let accepted = Accepted::of_headers(headers);
    offers
        .iter()
        .filter_map(|&(coding, length)| Some((accepted.weight(coding)?, length, coding)))
        .max_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)))
        .map_or(Coding::Identity, |(_, _, coding)| coding)
}

/// Weights in thousandths, as the request gives them.
#[derive(Debug, Default)]
struct Accepted {
    identity: Option<u16>,
    br: Option<u16>,
    zstd: Option<u16>,
    any: Option<u16>,
}

impl Accepted {
    fn of_headers(headers: &HeaderMap) -> Self {
        let mut accepted = Self::default();
        let mut budget = FIELD_LEN_MAX;
        for line in headers.get_all(ACCEPT_ENCODING) {
            let Ok(line) = line.to_str() else { continue };
            let Some(left) = budget.checked_sub(line.len()) else {
                break;
            };
            budget = left;
            for item in line.split(',') {
                accepted.note(item);
            }
        }
        accepted
    }

    fn note(&mut self, item: &str) {
        let mut parts = item.split(';').map(|p| p.trim_matches([' ', '\t']));
        let Some(name) = parts.next() else { return };
        let weight = match (parts.next(), parts.next()) {
            (None, _) => Some(1000),
            (Some(parameter), None) => weight(parameter),
            _ => None,
        };
        // A weight that cannot be read means nothing was asked for: the coding is not used.
        let weight = weight.unwrap_or(0);
        let slot = match Coding::from_name(name) {
            Some(Coding::Identity) => &mut self.identity,
            Some(Coding::Br) => &mut self.br,
            Some(Coding::Zstd) => &mut self.zstd,
            None if name == "*" => &mut self.any,
            None => return,
        };
        *slot = Some(slot.map_or(weight, |old| old.max(weight)));
    }

    /// `None`: not acceptable.
    fn weight(&self, coding: Coding) -> Option<u16> {
        let named = match coding {
            Coding::Identity => self.identity,
            Coding::Br => self.br,
            Coding::Zstd => self.zstd,
        };
        match (named.or(self.any), coding) {
            (Some(0), _) => None,
            (Some(weight), _) => Some(weight),
            // Identity is acceptable unless refused, but less than anything named.
            (None, Coding::Identity) => Some(0),
            (None, _) => None,
        }
    }
}

/// `q=0.5` in thousandths (RFC 9110, 12.4.2: at most three digits after the point, at most 1).
fn weight(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{fraction:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", thousandths) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const ALL: [(Coding, u64); 3] = [
        (Coding::Identity, 100),
        (Coding::Br, 40),
        (Coding::Zstd, 50),
    ];

    fn check(field: &str, expected: Coding) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_str(field).unwrap());
        assert_eq!(negotiate(&headers, &ALL), expected, "{field}");
    }

    #[test]
    fn weights_choose_then_length() {
        use Coding::{Br, Identity, Zstd};
        for (field, expected) in [
            ("br", Br),
            ("zstd", Zstd),
            ("gzip, deflate, br, zstd", Br),
            ("gzip, deflate", Identity),
            ("", Identity),
            ("*", Br),
            ("br;q=0.5, zstd", Zstd),
            ("br;q=0.5, zstd;q=0.501", Zstd),
            ("br;q=0.5;x=1, zstd;q=0.1", Zstd),
            ("br;q=0, zstd;q=0", Identity),
            ("br;q=0, *", Zstd),
            ("*;q=0", Identity),
            ("*;q=0, br;q=0.001", Br),
            ("identity", Identity),
            ("identity, br;q=0.9", Identity),
            ("identity;q=0.5, br;q=0.9", Br),
            ("identity;q=0, zstd;q=0.1", Zstd),
            ("BR", Br),
            ("br ; Q=1.000 ,", Br),
            ("br;q=1.001", Identity),
            ("br;q=2", Identity),
            ("br;q=-1", Identity),
            ("br;q=0.1234", Identity),
            ("br;q=", Identity),
            ("br;q=.5", Identity),
            ("br;q=1.", Br),
            ("br;level=11", Identity),
            ("xbr", Identity),
            ("br\tzstd", Identity),
        ] {
            check(field, expected);
        }
    }

    #[test]
    fn only_what_is_stored_is_offered() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("br, zstd"));
        assert_eq!(
            negotiate(&headers, &[(Coding::Identity, 9)]),
            Coding::Identity
        );
        let offers = [(Coding::Identity, 9), (Coding::Zstd, 5)];
        assert_eq!(negotiate(&headers, &offers), Coding::Zstd);
        assert_eq!(negotiate(&HeaderMap::new(), &ALL), Coding::Identity);
    }

    #[test]
    fn lines_add_up_and_long_ones_are_cut() {
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        headers.append(ACCEPT_ENCODING, HeaderValue::from_static("zstd"));
        assert_eq!(negotiate(&headers, &ALL), Coding::Zstd);
        let long = format!("{}br", "x,".repeat(1000));
        check(&long, Coding::Identity);
    }
}
