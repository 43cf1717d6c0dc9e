//! What the swarm has of a URL, and what is told of the sites to whoever looks.

use std::net::IpAddr;
use std::sync::Arc;

use swarm_proto::manifest::{BundleEntry, FileEntry, Lookup, SiteManifest, SiteName, SitePath};
use swarm_proto::tracker::BridgeView;

use super::volunteer::Chosen;
use super::{Moment, Registry};

/// A page that the swarm has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The manifest that lists it.
    pub manifest: Arc<SiteManifest>,
    /// Its path; a folder's has its slash.
    pub path: SitePath,
    /// The file.
    pub file: FileEntry,
    /// The bundle that holds the file.
    pub bundle: BundleEntry,
    /// Whether the site's alarm stands.
    pub in_need: bool,
    /// Listed bridges that hold the bundle and that the asker can reach, in random order.
    pub bridges: Vec<BridgeView>,
}

/// Why the swarm does not have a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotHeld {
    /// The tracker knows nothing of the site.
    UnknownSite,
    /// The site has never registered a manifest.
    NoManifest,
    /// The manifest has expired.
    Expired,
    /// The manifest does not list the page.
    NotPublished,
}

/// A site as the status page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteOverview {
    /// The site.
    pub site: SiteName,
    /// End of the alarm that stands, seconds since 1970.
    pub in_need_until: Option<u64>,
    /// Sequence of its manifest; `None` where it has none.
    pub sequence: Option<u64>,
    /// Bundles of its manifest.
    pub bundles: usize,
    /// Files of its manifest.
    pub files: usize,
    /// Listed bridges that hold the bundle which most of them hold.
    pub bridges: usize,
    /// Visitors sent to bridges since the start.
    pub sent: u64,
}

impl Registry {
    /// Whether the site's root is pinned.
    pub fn knows(&self, site: &SiteName) -> bool {
        self.sites.contains_key(site)
    }

    /// Whether the manifest of a site has this page.
    pub fn has(&self, site: &SiteName, path: &SitePath) -> bool {
        let record = self.sites.get(site).and_then(|site| site.record.as_ref());
        record.is_some_and(|record| page(&record.manifest, path).is_some())
    }

    /// What the swarm has of a page, for whoever asks from `asker`; with `bridges_max` bridges at
    /// most. No visit is counted.
    ///
    /// # Errors
    /// [`NotHeld`].
    pub fn lookup(
        &mut self,
        now: Moment,
        site: &SiteName,
        path: &SitePath,
        asker: IpAddr,
        bridges_max: usize,
    ) -> Result<Found, NotHeld> {
        let site = self.sites.get(site).ok_or(NotHeld::UnknownSite)?;
        let record = site.record.as_ref().ok_or(NotHeld::NoManifest)?;
        let manifest = &record.manifest;
        if manifest.expires <= now.unix {
            return Err(NotHeld::Expired);
        }
        let (path, file) = page(manifest, path).ok_or(NotHeld::NotPublished)?;
        let bundle = manifest.bundle_of(file).ok_or(NotHeld::NotPublished)?;
        let swarm = bundle.v1.swarm_id();
        let asker = asker.to_canonical();
        let bridges = self
            .volunteers
            .sample(now, swarm, asker, bridges_max, &mut self.rng)
            .into_iter()
            .filter_map(|id| self.volunteers.chosen(id))
            .map(|chosen: Chosen| chosen.view())
            .collect();
        Ok(Found {
            manifest: Arc::clone(manifest),
            path,
            file: file.clone(),
            bundle: bundle.clone(),
            in_need: site.standing_alarm().is_some(),
            bridges,
        })
    }

    /// Sites for the status page, those in need first, then by name; and how many were left off.
    pub fn overview(&self, max: usize) -> (Vec<SiteOverview>, usize) {
        let in_need = |needed: bool| {
            let sites = self.sites.iter();
            sites.filter(move |(_, site)| site.standing_alarm().is_some() == needed)
        };
        let shown = in_need(true).chain(in_need(false)).take(max);
        let shown: Vec<SiteOverview> = shown
            .map(|(name, site)| {
                let record = site.record.as_ref();
                let pairs = record.map_or(&[][..], |record| &record.pairs);
                let holders = pairs.iter().map(|pair| self.volunteers.holders(pair.id));
                SiteOverview {
                    site: name.clone(),
                    in_need_until: site.in_need_until(),
                    sequence: record.map(|record| record.manifest.sequence),
                    bundles: pairs.len(),
                    files: record.map_or(0, |record| record.manifest.files.len()),
                    bridges: holders.max().unwrap_or(0),
                    sent: site.sent,
                }
            })
            .collect();
        let left_off = self.sites.len() - shown.len();
        (shown, left_off)
    }
}

/// The file that a path stands for, and its path: a folder without its slash is the folder.
pub(super) fn page<'m>(
    manifest: &'m SiteManifest,
    path: &SitePath,
) -> Option<(SitePath, &'m FileEntry)> {
    match manifest.lookup(path) {
        Lookup::File(_, file) => Some((path.clone(), file)),
        Lookup::Missing => None,
        Lookup::RedirectSlash => {
            let folder = SitePath::from_decoded(&format!("{}/", path.as_str())).ok()?;
            match manifest.lookup(&folder) {
                Lookup::File(_, file) => Some((folder, file)),
                _ => None,
            }
        }
    }
}

/// Whether a browser runs or applies such a file in the page that names it. Those are never
/// redirected: a stranger's bytes would act in the site's own origin.
pub(super) fn runs(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let (_, kind) = essence.split_once('/').unwrap_or_default();
    ["javascript", "ecmascript", "x-javascript", "css", "wasm"]
        .iter()
        .any(|code| kind.eq_ignore_ascii_case(code))
}

#[cfg(test)]
mod tests {
    use super::runs;

    #[test]
    fn scripts_and_styles_run_and_pages_and_images_do_not() {
        for code in [
            "text/javascript",
            "TEXT/JavaScript; charset=utf-8",
            "application/javascript",
            "application/ecmascript",
            "application/x-javascript",
            "text/css;charset=utf-8",
            "application/wasm",
        ] {
            assert!(runs(code), "{code}");
        }
        for other in [
            "",
            "text/html",
            "text/html; x=text/css",
            "image/png",
            "application/json",
            "video/mp4",
            "css",
        ] {
            assert!(!runs(other), "{other}");
        }
    }
}
