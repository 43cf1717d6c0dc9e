//! Bodies of the fuzz targets, compiled with every build. Each asserts a property.

use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use swarm_proto::manifest::SitePath;

use crate::range::{RANGES_MAX, RangeAnswer, resolve};
use crate::request::{Host, Target};
use crate::sites::Sites;

/// A `Range` field, after eight bytes of length: what is answered lies within the file, no byte
/// of it twice.
pub fn range(data: &[u8]) {
    let Some((length, field)) = data.split_first_chunk::<8>() else {
        return;
    };
    let length = u64::from_be_bytes(*length);
    let mut ranges = match resolve(field, length) {
        RangeAnswer::Whole | RangeAnswer::Unsatisfiable => return,
        RangeAnswer::Single(range) => vec![range],
        RangeAnswer::Several(ranges) => {
            assert!((2..=RANGES_MAX).contains(&ranges.len()));
            ranges
        }
    };
    ranges.sort();
    let mut end = 0;
    for range in ranges {
        assert!(range.start >= end && range.start < range.end && range.end <= length);
        end = range.end;
    }
}

/// A host, a line feed, and a request target: what is understood can be said again, and no path
/// leads out of its site.
pub fn target(data: &[u8]) {
    let Some(at) = data.iter().position(|&byte| byte == b'\n') else {
        return;
    };
    let (host, target) = data.split_at(at);
    let Ok(uri) = Uri::try_from(target.get(1..).unwrap_or_default()) else {
        return;
    };
    let mut headers = HeaderMap::new();
    if let Ok(host) = HeaderValue::from_bytes(host) {
        headers.insert(http::header::HOST, host);
    }
    let parsed = Target::parse(&Method::GET, &uri, Version::HTTP_11, &headers);
    let Ok(Target::Page { host, path, .. }) = parsed else {
        return;
    };
    if let Some(name) = host.site_name() {
        assert_eq!(
            Host::parse(&name).ok().and_then(|host| host.site_name()),
            Some(name)
        );
    }
    let sites = Sites::new("bridge.example", false);
    let _ = sites.find(&host, &path);
    if let Ok(path) = SitePath::parse(&path) {
        let url = path.to_url();
        assert!(url.starts_with('/') && !url.starts_with("//"));
        assert!(HeaderValue::from_str(&url).is_ok());
        assert_eq!(SitePath::parse(&url), Ok(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn range_holds_for_any_field(length: u64, small in 0u64..300, field in "(bytes=)?[0-9,\\- ]{0,60}") {
            for length in [length, small] {
                let mut data = length.to_be_bytes().to_vec();
                data.extend_from_slice(field.as_bytes());
                range(&data);
            }
        }

        #[test]
        fn target_holds_for_any_bytes(
            host in "[a-z0-9.:\\[\\]%@-]{0,30}",
            path in "(/[a-z0-9.%/:\\\\~ -]{0,40})?",
            noise in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            target(format!("{host}\n{path}").as_bytes());
            target(format!("{host}\nhttp://{host}{path}").as_bytes());
            target(&noise);
        }
    }
}
