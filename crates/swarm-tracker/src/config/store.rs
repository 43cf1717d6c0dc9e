//! Where a fleet of trackers keeps what it shares.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

/// What a password is shown as.
const HIDDEN: &str = "***";

/// What is shared with other trackers, and by which way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StoreConfig {
    /// Nothing: all is in this tracker's own memory.
    #[default]
    Memory,
    /// Swarms, sites and volunteers, by a Redis or Valkey server, over TLS where the URL begins with
    /// `rediss:`.
    Redis(RedisUrl),
}

/// Where a Redis server answers, and as whom to go there. Never shown with its password (T59).
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(Url);

impl RedisUrl {
    /// As it was given, password and all: not to be shown.
    pub(crate) fn secret(&self) -> &str {
        self.0.as_str()
    }

    /// Host and port, for logs.
    pub(crate) fn place(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        format!("{host}:{}", self.0.port().unwrap_or(6379))
    }
}

impl FromStr for StoreConfig {
    type Err = String;

    /// Reads `memory` or `redis://[[user]:password@]host[:port][/number]`, or the same with
    /// `rediss://`. The error does not repeat what it was given.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "memory" {
            return Ok(Self::Memory);
        }
        let url = Url::parse(text)
            .map_err(|error| format!("store is neither `memory` nor a URL: {error}"))?;
        match url.scheme() {
            "redis" | "rediss" => {}
            _ => return Err("store: expected `memory` or redis://HOST[:PORT][/DB]".into()),
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("store: the URL needs a host".into());
        }
        let number = url.path().strip_prefix('/').unwrap_or(url.path());
        let digits = number.bytes().all(|b| b.is_ascii_digit());
        if !digits || !number.is_empty() && number.parse::<u16>().is_err() {
            return Err("store: what follows HOST/ is the number of a database".into());
        }
        if url.query().is_some() || url.fragment().is_some() {
            // The library would take `#insecure` for "believe any certificate".
            return Err("store: the URL may have no query and no fragment".into());
        }
        if url.password() == Some(HIDDEN) {
            return Err("store: the password is missing: it is not shown".into());
        }
        // Such as a wildcard address, which leads nowhere, or a name that is no text.
        redis::Client::open(url.as_str())
            .map_err(|error| format!("store: {}", error.detail().unwrap_or("no good URL")))?;
        Ok(Self::Redis(RedisUrl(url)))
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        if shown.password().is_some() {
            // Fails only where there is no host.
            let _ = shown.set_password(Some(HIDDEN));
        }
        f.write_str(shown.as_str())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

impl fmt::Display for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Redis(url) => url.fmt(f),
        }
    }
}

impl Serialize for StoreConfig {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StoreConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_memory_or_a_redis_url() {
        assert_eq!("memory".parse(), Ok(StoreConfig::Memory));
        for text in [
            "redis://127.0.0.1",
            "redis://localhost:6380/3",
            "redis://[::1]:6379/",
            "redis://user:s3cr3t@redis.example:1",
            "redis://:s3cr3t@redis.example/15",
            "rediss://:s3cr3t@redis.example/15",
        ] {
            let read: Result<StoreConfig, _> = text.parse();
            assert!(matches!(read, Ok(StoreConfig::Redis(_))), "{text}");
        }
        for text in [
            "",
            "Memory",
            "redis",
            "redis:",
            "redis://",
            "redis://0.0.0.0",
            "redis://:s3cr3t@host:port",
            "redis://:s3cr3t@host/x",
            "redis://:s3cr3t@host/99999",
            "redis://:s3cr3t@host/1/2",
            "redis://:s3cr3t@host?db=1",
            "redis://:s3cr3t@host#insecure",
            "rediss://:s3cr3t@host#insecure",
            "rediss:",
            "redis+unix:///run/redis.sock",
            "unix:///s3cr3t",
            "http://:s3cr3t@host",
            "redis://:***@host",
        ] {
            let refused = text.parse::<StoreConfig>().expect_err(text);
            assert!(!refused.contains("s3cr3t"), "{refused}");
        }
    }

    #[test]
    fn t59_no_way_of_showing_a_store_shows_its_password() {
        let store: StoreConfig = "redis://u:s3cr3t@h:1/2".parse().expect("good");
        let config = crate::config::TrackerConfig {
            store: store.clone(),
            ..Default::default()
        };
        let shown = toml::to_string(&config).expect("it can be shown");
        assert!(shown.contains("redis://u:***@h:1/2"), "{shown}");
        for shown in [shown, format!("{config:?}"), format!("{store:?} {store}")] {
            assert!(!shown.contains("s3cr3t"), "{shown}");
        }
        let StoreConfig::Redis(url) = store else {
            panic!("it is Redis");
        };
        assert_eq!(
            (url.secret(), &*url.place()),
            ("redis://u:s3cr3t@h:1/2", "h:1")
        );
        // A name alone is no secret.
        let plain: StoreConfig = "redis://h/2".parse().expect("good");
        assert_eq!(plain.to_string(), "redis://h/2");
    }
}
