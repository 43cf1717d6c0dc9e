//! Which site a request is for: by the label before the bridge's domain, by the site's own name,
//! or by the first component of the path on a bare address.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use swarm_proto::manifest::SiteName;

use crate::error::{BridgeError, StartError};
use crate::limits::SITES_MAX;
use crate::request::Host;
use crate::site::Site;

/// How a request named its site; decides what isolates it from other sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// The host is the site's alone: its label under the bridge's domain, or its own name.
    Host,
    /// `/<host>/<path>` on an address that all sites share.
    Path,
}

/// What a host and a path lead to.
#[derive(Clone)]
pub enum Found {
    /// A page of a site.
    Page {
        /// The site.
        site: Arc<Site>,
        /// The path within the site, as sent.
        path: String,
        /// How the site was named.
        addressing: Addressing,
    },
    /// `/<host>` without the slash that makes relative links work.
    NeedsSlash,
    /// The bare address itself.
    Index,
    /// `/robots.txt` of the bare address.
    Robots,
}

/// The sites a bridge carries.
pub struct Sites {
    domain: String,
    /// One site only, and every host means it: a plain web server.
    any_host: bool,
    carried: RwLock<Carried>,
}

#[derive(Default)]
struct Carried {
    by_name: HashMap<SiteName, Arc<Site>>,
    by_label: HashMap<String, Arc<Site>>,
}

impl Sites {
    /// None yet. `domain` is what follows the label in hosts; `any_host`: the one site carried
    /// is meant whatever the host.
    pub fn new(domain: &str, any_host: bool) -> Self {
        Self {
            domain: domain.trim_matches('.').to_ascii_lowercase(),
            any_host,
            carried: RwLock::default(),
        }
    }

    /// Adds a site, or does nothing if it is carried.
    ///
    /// # Errors
    /// [`StartError::SitesFull`].
    pub(crate) fn insert(&self, site: Arc<Site>) -> Result<(), StartError> {
        let mut carried = self.carried.write().unwrap_or_else(PoisonError::into_inner);
        if carried.by_name.contains_key(site.name()) {
            return Ok(());
        }
        if carried.by_name.len() >= SITES_MAX || (self.any_host && !carried.by_name.is_empty()) {
            return Err(StartError::SitesFull);
        }
        carried
            .by_label
            .insert(site.label().to_owned(), site.clone());
        carried.by_name.insert(site.name().clone(), site);
        Ok(())
    }

    /// Whether one more site may be carried.
    pub(crate) fn has_room(&self) -> bool {
        let max = if self.any_host { 1 } else { SITES_MAX };
        self.read().by_name.len() < max
    }

    /// Forgets a site.
    pub(crate) fn remove(&self, name: &SiteName) -> Option<Arc<Site>> {
        let mut carried = self.carried.write().unwrap_or_else(PoisonError::into_inner);
        let site = carried.by_name.remove(name)?;
        carried.by_label.remove(site.label());
        Some(site)
    }

    /// The site of that name.
    pub fn get(&self, name: &SiteName) -> Option<Arc<Site>> {
        self.read().by_name.get(name).cloned()
    }

    /// All sites, by name.
    pub fn all(&self) -> Vec<Arc<Site>> {
        let mut sites: Vec<_> = self.read().by_name.values().cloned().collect();
        sites.sort_by(|a, b| a.name().cmp(b.name()));
        sites
    }

    /// Finds what `host` and `path` name. Hosts match exactly or not at all.
    ///
    /// # Errors
    /// [`BridgeError::UnknownHost`], [`BridgeError::UnknownSite`].
    pub fn find(&self, host: &Host, path: &str) -> Result<Found, BridgeError> {
        let carried = self.read();
        let page = |site: &Arc<Site>| Found::Page {
            site: site.clone(),
            path: path.to_owned(),
            addressing: Addressing::Host,
        };
        if self.any_host {
            let only = carried.by_name.values().next();
            return only.map(page).ok_or(BridgeError::UnknownSite);
        }
        if let Host::Name(name, _) = host
            && let Some(label) = self.label_of(name)
        {
            let site = carried.by_label.get(label);
            return site.map(page).ok_or(BridgeError::UnknownHost);
        }
        if let Some(name) = host.site_name()
            && let Ok(name) = SiteName::parse_canonical(&name)
            && let Some(site) = carried.by_name.get(&name)
        {
            return Ok(page(site));
        }
        match host {
            Host::Name(name, _) if *name != self.domain && name != "localhost" => {
                Err(BridgeError::UnknownHost)
            }
            _ => by_path(&carried, path),
        }
    }

    /// `example-org` of `example-org.<domain>`: one label, neither more nor less.
    fn label_of<'a>(&self, host: &'a str) -> Option<&'a str> {
        let label = host.strip_suffix(&self.domain)?.strip_suffix('.')?;
        (!label.contains('.')).then_some(label)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Carried> {
        self.carried.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn by_path(carried: &Carried, path: &str) -> Result<Found, BridgeError> {
    let rest = path.strip_prefix('/').unwrap_or(path);
    match rest {
        "" => return Ok(Found::Index),
        "robots.txt" => return Ok(Found::Robots),
        _ => {}
    }
    let (first, within) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    // A port's colon and the brackets of IPv6 are all that a name may have encoded.
    let mut name = first.to_ascii_lowercase();
    for (encoded, plain) in [("%3a", ":"), ("%5b", "["), ("%5d", "]")] {
        name = name.replace(encoded, plain);
    }
    let site = SiteName::parse_canonical(&name)
        .ok()
        .and_then(|name| carried.by_name.get(&name))
        .ok_or(BridgeError::UnknownSite)?;
    if within.is_empty() {
        return Ok(Found::NeedsSlash);
    }
    Ok(Found::Page {
        site: site.clone(),
        path: within.to_owned(),
        addressing: Addressing::Path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::{Edition, Standing};
    use std::collections::BTreeMap;
    use swarm_proto::manifest::SiteManifest;

    fn site(name: &str) -> Arc<Site> {
        let manifest = SiteManifest {
            site: SiteName::parse(name).unwrap(),
            sequence: 1,
            created: 0,
            expires: 10,
            stamped: false,
            bundles: vec![],
            files: BTreeMap::new(),
        };
        Arc::new(Site::new(
            Edition::new(manifest, vec![], u64::MAX),
            Standing::Named,
            None,
        ))
    }

    fn sites(domain: &str) -> Sites {
        let sites = Sites::new(domain, false);
        for name in ["example.org", "my-site.example.org", "127.0.0.1:8000"] {
            sites.insert(site(name)).unwrap();
        }
        sites
    }

    /// `host path` to `site path how`, or to a status.
    fn check(sites: &Sites, host: &str, path: &str, expected: &str) {
        let found = match sites.find(&Host::parse(host).unwrap(), path) {
            Ok(Found::Page {
                site,
                path,
                addressing,
            }) => {
                format!("{} {path} {addressing:?}", site.name())
            }
            Ok(Found::NeedsSlash) => "slash".into(),
            Ok(Found::Index) => "index".into(),
            Ok(Found::Robots) => "robots".into(),
            Err(error) => error.status().as_str().into(),
        };
        assert_eq!(found, expected, "{host} {path}");
    }

    #[test]
    fn sites_are_found_by_label_name_and_path() {
        let sites = sites("bridge.example");
        for (host, path, expected) in [
            ("example-org.bridge.example", "/a", "example.org /a Host"),
            ("EXAMPLE-ORG.bridge.example.:81", "/", "example.org / Host"),
            (
                "my--site-example-org.bridge.example",
                "/",
                "my-site.example.org / Host",
            ),
            (
                "127-0-0-1---8000.bridge.example",
                "/",
                "127.0.0.1:8000 / Host",
            ),
            ("example.org", "/a", "example.org /a Host"),
            ("example.org:443", "/a", "example.org /a Host"),
            ("127.0.0.1:8000", "/a", "127.0.0.1:8000 /a Host"),
            ("127.0.0.1:8080", "/", "index"),
            ("127.0.0.1:8080", "/robots.txt", "robots"),
            (
                "127.0.0.1:8080",
                "/example.org/a/b",
                "example.org /a/b Path",
            ),
            ("127.0.0.1:8080", "/example.org//a", "example.org //a Path"),
            ("127.0.0.1:8080", "/Example.ORG/", "example.org / Path"),
            ("127.0.0.1:8080", "/example.org", "slash"),
            (
                "127.0.0.1:8080",
                "/127.0.0.1:8000/x",
                "127.0.0.1:8000 /x Path",
            ),
            (
                "127.0.0.1:8080",
                "/127.0.0.1%3A8000/x",
                "127.0.0.1:8000 /x Path",
            ),
            ("[::1]:8080", "/example.org/", "example.org / Path"),
            ("bridge.example", "/example.org/", "example.org / Path"),
            ("localhost:8080", "/example.org/", "example.org / Path"),
        ] {
            check(&sites, host, path, expected);
        }
    }

    #[test]
    fn near_misses_reach_no_site() {
        let sites = sites("bridge.example");
        for (host, path, expected) in [
            ("evil-example-org.bridge.example", "/", "421"),
            ("example-org.bridge.example.evil.example", "/", "421"),
            ("example-org.evilbridge.example", "/", "421"),
            ("x.example-org.bridge.example", "/", "421"),
            ("example-org", "/", "421"),
            ("other-example.org", "/", "421"),
            ("sub.example.org", "/", "421"),
            ("example.org.evil.example", "/", "421"),
            ("example.org:8080", "/", "421"),
            ("evil.example", "/example.org/", "421"),
            ("127.0.0.1:8080", "/evil.example/", "404"),
            ("127.0.0.1:8080", "/example.org:80/", "404"),
            ("127.0.0.1:8080", "/example.org@evil.example/", "404"),
            ("127.0.0.1:8080", "//example.org/", "404"),
            ("127.0.0.1:8080", "/http://example.org/", "404"),
            ("127.0.0.1:8080", "/example.org%2f..%2f/", "404"),
            ("127.0.0.1:8080", "/%65xample.org/", "404"),
            ("127.0.0.1:8080", "/favicon.ico", "404"),
        ] {
            check(&sites, host, path, expected);
        }
    }

    #[test]
    fn a_plain_server_answers_any_host() {
        let sites = Sites::new("localhost", true);
        check(&sites, "a.example", "/x", "404");
        sites.insert(site("example.org")).unwrap();
        check(&sites, "a.example", "/x", "example.org /x Host");
        check(&sites, "127.0.0.1:80", "/", "example.org / Host");
        assert!(sites.insert(site("example.net")).is_err());
    }

    #[test]
    fn a_site_removed_is_gone_and_room_is_bounded() {
        let sites = sites("bridge.example");
        sites
            .remove(&SiteName::parse("example.org").unwrap())
            .unwrap();
        check(&sites, "example-org.bridge.example", "/", "421");
        check(&sites, "127.0.0.1:1", "/example.org/", "404");
        for n in 0..SITES_MAX {
            let _ = sites.insert(site(&format!("s{n}.example")));
        }
        assert!(sites.insert(site("more.example")).is_err());
        assert_eq!(sites.all().len(), SITES_MAX);
    }
}
