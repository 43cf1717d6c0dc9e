//! One site as a bridge carries it: an edition of its manifest, its bundles, and whether it is in
//! need now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use swarm_proto::manifest::{FileEntry, SiteManifest, SiteName, SitePath};
use swarm_proto::tracker::register::HOME_MARKER;

use crate::body::{FileState, Source};
use crate::encoding::Coding;
use crate::join::Bundle;
use crate::stats::SiteStats;

/// Whether visitors are served or handed home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The operator named the site: it is served as long as the bridge runs.
    Named,
    /// The site's alarm stands until this Unix second.
    Alarmed {
        /// End of the alarm.
        until: u64,
    },
}

impl Standing {
    /// Whether visitors are served at `now`, in Unix seconds.
    pub fn serves(self, now: u64) -> bool {
        match self {
            Self::Named => true,
            Self::Alarmed { until } => now < until,
        }
    }
}

/// One manifest of a site, its bundles joined.
pub struct Edition {
    manifest: SiteManifest,
    /// As many as the manifest has, in its order.
    bundles: Vec<Bundle>,
    /// Every file and variant that the manifest names.
    states: HashMap<(u32, u32), Arc<FileState>>,
    /// Unix second at which manifest or freshness stamp ends.
    fresh_until: u64,
}

/// One representation of a file, ready to be read.
pub struct Representation {
    /// How it is coded.
    pub coding: Coding,
    /// Bytes.
    pub length: u64,
    /// SHA-256 of its bytes.
    pub digest: swarm_proto::id::Digest,
    /// Where its bytes come from.
    pub source: Arc<dyn Source>,
    /// What is known of its digest.
    pub state: Arc<FileState>,
}

impl Edition {
    /// Puts a manifest and its bundles together.
    ///
    /// `fresh_until` is when the record that vouches for the manifest ends, in Unix seconds.
    pub(crate) fn new(manifest: SiteManifest, bundles: Vec<Bundle>, fresh_until: u64) -> Self {
        let mut states = HashMap::new();
        for file in manifest.files.values() {
            states.entry((file.bundle, file.file)).or_default();
            for variant in &file.variants {
                states.entry((file.bundle, variant.file)).or_default();
            }
        }
        Self {
            fresh_until: fresh_until.min(manifest.expires),
            manifest,
            bundles,
            states,
        }
    }

    /// Whether the manifest is too old to be shown.
    pub fn is_stale(&self, now: u64) -> bool {
        now >= self.fresh_until
    }

    /// The manifest.
    pub fn manifest(&self) -> &SiteManifest {
        &self.manifest
    }

    /// The codings in which a file is stored, with their lengths.
    pub fn offers(&self, file: &FileEntry) -> Vec<(Coding, u64)> {
        let mut offers = vec![(Coding::Identity, file.length)];
        let variants = file.variants.iter();
        offers.extend(variants.map(|v| (Coding::of(v.encoding), v.length)));
        offers
    }

    /// The representation of `file` in `coding`; the plain one if there is none such. `None` if
    /// the manifest names a bundle that it does not list.
    pub fn representation(&self, file: &FileEntry, coding: Coding) -> Option<Representation> {
        let variant = match coding {
            Coding::Identity => None,
            coding => file
                .variants
                .iter()
                .find(|v| Coding::of(v.encoding) == coding),
        };
        let (coding, index, length, digest) = match variant {
            Some(variant) => (coding, variant.file, variant.length, variant.digest),
            None => (Coding::Identity, file.file, file.length, file.digest),
        };
        let bundle = self.bundles.get(usize::try_from(file.bundle).ok()?)?;
        Some(Representation {
            coding,
            length,
            digest,
            source: bundle.file(index),
            state: self.states.get(&(file.bundle, index))?.clone(),
        })
    }
}

/// A site that a bridge carries.
pub struct Site {
    name: SiteName,
    label: String,
    stats: Arc<SiteStats>,
    state: Mutex<State>,
}

struct State {
    edition: Arc<Edition>,
    standing: Standing,
    /// `https://example.org`, without a slash at the end; always of this site.
    home: Option<String>,
}

impl Site {
    pub(crate) fn new(edition: Edition, standing: Standing, home: Option<&str>) -> Self {
        let name = edition.manifest.site.clone();
        let home = home.and_then(|url| home_base(&name, url));
        Self {
            label: name.label(),
            name,
            stats: Arc::default(),
            state: Mutex::new(State {
                edition: Arc::new(edition),
                standing,
                home,
            }),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The site's name.
    pub fn name(&self) -> &SiteName {
        &self.name
    }

    /// The DNS label under which bridges serve it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its counters.
    pub fn stats(&self) -> &Arc<SiteStats> {
        &self.stats
    }

    /// The edition served now.
    pub fn edition(&self) -> Arc<Edition> {
        self.state().edition.clone()
    }

    /// Whether visitors are served or handed home.
    pub fn standing(&self) -> Standing {
        self.state().standing
    }

    /// Serves another edition from now on; answers under way keep theirs. Returns the old one.
    pub(crate) fn replace_edition(&self, edition: Edition) -> Arc<Edition> {
        std::mem::replace(&mut self.state().edition, Arc::new(edition))
    }

    /// Takes note of a new alarm, or of its end. A home that is not this site's is not taken.
    pub(crate) fn set_standing(&self, standing: Standing, home: Option<&str>) {
        let home = home.and_then(|url| home_base(&self.name, url));
        let mut state = self.state();
        state.standing = standing;
        state.home = home.or_else(|| state.home.take());
    }

    /// Where the visitor of `path` finds the site itself: the same page with the marker that
    /// keeps its gate from sending him away again. `None` if no home is known.
    ///
    /// The path is encoded afresh and the host is the site's own, so that no visitor is led
    /// elsewhere whatever the request said.
    pub fn home_url(&self, path: &SitePath, query: Option<&str>) -> Option<String> {
        let home = self.state().home.clone()?;
        let mut url = format!("{home}{}?", path.to_url());
        let kept = query
            .unwrap_or("")
            .split('&')
            .filter(|pair| !pair.is_empty() && *pair != HOME_MARKER);
        for pair in kept {
            url.push_str(pair);
            url.push('&');
        }
        url.push_str(HOME_MARKER);
        Some(url)
    }

    /// The page at the site itself, for `rel=canonical`.
    pub fn canonical_url(&self, path: &SitePath) -> Option<String> {
        Some(format!("{}{}", self.state().home.as_ref()?, path.to_url()))
    }
}

/// Scheme and authority of `url`, if it is a URL of `site`.
fn home_base(site: &SiteName, url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    let of_site = SiteName::of(&url).is_ok_and(|name| name == *site);
    of_site.then(|| format!("{}://{site}", url.scheme()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn site(home: Option<&str>) -> Site {
        let manifest = SiteManifest {
            site: SiteName::parse("example.org").unwrap(),
            sequence: 1,
            created: 0,
            expires: 10,
            stamped: false,
            bundles: vec![],
            files: BTreeMap::new(),
        };
        Site::new(
            Edition::new(manifest, vec![], u64::MAX),
            Standing::Alarmed { until: 5 },
            home,
        )
    }

    #[test]
    fn home_keeps_page_and_query_and_is_marked() {
        let site = site(Some("https://example.org/any/page?x#y"));
        let home = |path, query| {
            site.home_url(&SitePath::parse(path).unwrap(), query)
                .unwrap()
        };
        assert_eq!(
            home("/a%20b/", None),
            "https://example.org/a%20b/?spikeswarm=home"
        );
        assert_eq!(
            home("/", Some("q=1&r")),
            "https://example.org/?q=1&r&spikeswarm=home"
        );
        assert_eq!(
            home("/", Some("spikeswarm=home&q")),
            "https://example.org/?q&spikeswarm=home"
        );
    }

    #[test]
    fn home_is_never_elsewhere() {
        for url in [
            "https://evil.example/",
            "https://example.org.evil.example/",
            "https://example.org:8443/",
            "https://example.org@evil.example/",
            "https://user@example.org/",
            "javascript:alert(1)//example.org",
            "//example.org/",
            "example.org",
            "",
        ] {
            let site = site(Some(url));
            assert_eq!(
                site.home_url(&SitePath::parse("/").unwrap(), None),
                None,
                "{url}"
            );
        }
        let site = site(Some("http://EXAMPLE.org:80"));
        site.set_standing(
            Standing::Alarmed { until: 9 },
            Some("https://evil.example/"),
        );
        let url = site.home_url(&SitePath::parse("/").unwrap(), None);
        assert_eq!(url.as_deref(), Some("http://example.org/?spikeswarm=home"));
    }

    #[test]
    fn an_alarm_ends_by_the_clock() {
        let alarmed = Standing::Alarmed { until: 5 };
        assert!(alarmed.serves(4));
        assert!(!alarmed.serves(5));
        assert!(Standing::Named.serves(u64::MAX));
    }
}
