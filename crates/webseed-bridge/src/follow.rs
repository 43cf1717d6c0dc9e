//! Sites that the operator named: their newest record is carried, alarm or no alarm.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use swarm_peer::http::chain;
use swarm_proto::manifest::SiteName;
use tokio_util::sync::CancellationToken;

use crate::bridge::{BridgeHandle, Carry};
use crate::site::Standing;
use crate::site_source::{Opened, SiteSource};

/// How often a newer record is looked for.
const REFRESH: Duration = Duration::from_secs(60);
/// First pause after a record was not to be had; it doubles up to [`REFRESH`].
const RETRY: Duration = Duration::from_secs(1);

/// A site that the operator named.
#[derive(Debug, Clone)]
pub struct Named {
    /// The site.
    pub site: SiteName,
    /// A file with its record; `None`: trackers are asked.
    pub record: Option<PathBuf>,
}

/// Carries the newest record of a site until `shutdown`; `first` is called once when the first is
/// carried.
pub async fn carry_named(
    bridge: &BridgeHandle,
    source: &SiteSource,
    named: &Named,
    shutdown: CancellationToken,
    first: impl FnOnce(),
) {
    let mut first = Some(first);
    let mut pause = RETRY;
    let mut last: Option<Arc<Opened>> = None;
    loop {
        match newest(source, named).await {
            Ok(opened) if last.as_ref().is_some_and(|last| same(last, &opened)) => pause = REFRESH,
            Ok(opened) => {
                let carry = Carry {
                    manifest: opened.manifest.clone(),
                    fresh_until: opened.fresh_until,
                    standing: Standing::Named,
                    home: None,
                };
                match bridge.add_site(carry).await {
                    Ok(()) => {
                        tracing::info!(site = %named.site, sequence = opened.manifest.sequence, "carrying");
                        last = Some(opened);
                        pause = REFRESH;
                        if let Some(first) = first.take() {
                            first();
                        }
                    }
                    Err(error) => {
                        tracing::warn!(site = %named.site, error = %chain(&error), "not carried");
                        pause = (pause * 2).min(REFRESH);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(site = %named.site, error = %chain(error.as_ref()), "no newer record");
                pause = (pause * 2).min(REFRESH);
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn newest(
    source: &SiteSource,
    named: &Named,
) -> Result<Arc<Opened>, Box<dyn std::error::Error + Send + Sync>> {
    match &named.record {
        Some(file) => Ok(source.accept(&named.site, &tokio::fs::read(file).await?)?),
        None => Ok(source.refresh(&named.site).await?),
    }
}

fn same(one: &Opened, other: &Opened) -> bool {
    one.manifest.sequence == other.manifest.sequence && one.fresh_until == other.fresh_until
}
