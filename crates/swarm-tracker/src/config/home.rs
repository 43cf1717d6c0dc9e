//! Where a site is at home whose public name leads here.

use std::fmt;
use std::str::FromStr;

use swarm_proto::manifest::SiteName;
use url::Url;

/// Where a site itself answers: scheme, host and port, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeUrl {
    /// Without a slash at the end.
    base: String,
    site: SiteName,
}

impl HomeUrl {
    /// `http://host[:port]` or `https://host[:port]`; a path of the visitor's can follow at once.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The name it has as a site.
    pub const fn site(&self) -> &SiteName {
        &self.site
    }
}

impl FromStr for HomeUrl {
    type Err = String;

    /// Reads `http://host[:port]` or `https://host[:port]`, with or without a slash at the end.
    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("{text:?} is no URL: {error}"))?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !bare || !url.username().is_empty() || url.password().is_some() {
            return Err(format!("{text:?} is more than scheme, host and port"));
        }
        // Other schemes than http and https are refused here.
        let site = SiteName::of(&url).map_err(|error| format!("{text:?}: {error}"))?;
        Ok(Self {
            base: format!("{}://{site}", url.scheme()),
            site,
        })
    }
}

impl fmt::Display for HomeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}
