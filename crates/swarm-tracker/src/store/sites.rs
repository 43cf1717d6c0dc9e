//! Records and alarms of sites: they prove themselves, so that what is in the store is checked as if
//! the site had sent it, and whatever is newer stays.

use swarm_proto::manifest::{SignedAlarm, SiteName, SiteRecord};

use super::Lost;
use super::codec::Writer;
use super::link::Link;
use crate::app::App;
use crate::registry::shared::{Change, Changes, SitePapers};

/// Takes up what the store has of a site, and puts there what is newer here. Returns whether
/// anything was.
async fn agree(app: &std::sync::Arc<App>, link: &Link, site: &SiteName) -> Result<bool, Lost> {
    let Some(ours) = papers(app, site) else {
        return Ok(false);
    };
    let (record, alarm) = link.site(site).await?;
    if let Some(record) = &record
        && ours.record.is_none_or(|(ours, _)| ours != record[..])
        && let Err(error) = app.register_here(record.clone().into()).await
    {
        tracing::debug!(%site, %error, "record in the store not taken");
    }
    if let Some(alarm) = &alarm
        && ours.alarm.is_none_or(|ours| ours != alarm[..])
        && let Err(error) = app.alarm_here(alarm.clone().into())
    {
        tracing::debug!(%site, %error, "alarm in the store not taken");
    }
    let ours = papers(app, site).unwrap_or_default();
    let newer_record = ours.record.filter(|(_, sequence)| {
        let theirs = record.as_ref().and_then(|record| sequence_of(record, site));
        theirs.is_none_or(|theirs| theirs < *sequence)
    });
    let newer_alarm = ours.alarm.filter(|ours| {
        let theirs = alarm.as_ref().and_then(|alarm| age_of(alarm, site));
        theirs.is_none_or(|theirs| age_of(ours, site).is_some_and(|ours| theirs < ours))
    });
    let any = newer_record.is_some() || newer_alarm.is_some();
    let newer_record = newer_record.as_ref().map(|(bytes, _)| &bytes[..]);
    link.put_site(site, newer_record, newer_alarm.as_deref())
        .await?;
    Ok(any)
}

/// The same, and others are told if there is anything new.
pub(super) async fn tell(
    app: &std::sync::Arc<App>,
    writer: &Writer,
    link: &Link,
    site: &SiteName,
) -> Result<(), Lost> {
    if agree(app, link, site).await? {
        let changes = Changes {
            others: vec![Change::Site(site.clone())],
            ..Changes::default()
        };
        link.write(writer, changes, &[]).await?;
    }
    Ok(())
}

fn papers(app: &App, site: &SiteName) -> Option<SitePapers> {
    app.registry().papers(site)
}

/// The sequence that a record claims, if it claims to be this site's.
fn sequence_of(record: &[u8], site: &SiteName) -> Option<u64> {
    let record = SiteRecord::parse(record).ok()?;
    let claimed = record.manifest.claimed();
    (claimed.site == *site).then_some(claimed.sequence)
}

/// How new an alarm claims to be, if it claims to be this site's: the greater, the newer.
fn age_of(alarm: &[u8], site: &SiteName) -> Option<(u64, std::cmp::Reverse<u64>)> {
    let alarm = SignedAlarm::parse(alarm).ok()?;
    let claimed = alarm.claimed();
    let age = (claimed.issued, std::cmp::Reverse(claimed.until));
    (claimed.site == *site).then_some(age)
}
