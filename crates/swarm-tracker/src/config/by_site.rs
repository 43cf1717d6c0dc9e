//! Maps by site, written as strings.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer, Serializer};
use swarm_proto::manifest::SiteName;

pub(crate) fn serialize<V: Display, S: Serializer>(
    map: &BTreeMap<SiteName, V>,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_map(
        map.iter()
            .map(|(site, value)| (site.to_string(), value.to_string())),
    )
}

/// `what` names the values in errors.
fn deserialize<'de, V, D>(from: D, what: &str) -> Result<BTreeMap<SiteName, V>, D::Error>
where
    V: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    BTreeMap::<String, String>::deserialize(from)?
        .into_iter()
        .map(|(site, value)| {
            let site = SiteName::parse(&site)
                .map_err(|error| D::Error::custom(format!("site {site:?}: {error}")))?;
            let value = value
                .parse()
                .map_err(|error| D::Error::custom(format!("{what} of {site}: {error}")))?;
            Ok((site, value))
        })
        .collect()
}

pub(super) mod site_keys {
    use std::collections::BTreeMap;

    use serde::Deserializer;
    use swarm_proto::manifest::{PublicKey, SiteName};

    pub(crate) use super::serialize;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<SiteName, PublicKey>, D::Error> {
        super::deserialize(from, "key")
    }
}

pub(super) mod homes {
    use std::collections::BTreeMap;

    use serde::Deserializer;
    use swarm_proto::manifest::SiteName;

    pub(crate) use super::serialize;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<SiteName, crate::config::HomeUrl>, D::Error> {
        super::deserialize(from, "home")
    }
}
