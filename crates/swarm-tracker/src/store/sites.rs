//! Records and alarms of sites: they prove themselves, so that what is in the store is checked as if
//! the site had sent it, and whatever is newer stays.

use std::cmp::Reverse;
use std::sync::Arc;

use swarm_proto::manifest::{SignedAlarm, SiteName, SiteRecord};

use super::Lost;
use super::codec::Writer;
use super::link::Link;
use crate::app::App;
use crate::registry::shared::{Changes, Paper, SitePapers};

/// Who has something new of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The site has sent it here. What is in its place in the store and not good gives way, however
    /// new it claims to be: forged, or of a root key that was given up.
    Here,
    /// Others have. If trackers of different root keys did as above, they would go on for ever.
    There,
}

/// Takes up what the store has of a site, puts there what is newer here, and has others look if there
/// is any.
pub(super) async fn agree(
    app: &Arc<App>,
    writer: &Writer,
    link: &Link,
    site: &SiteName,
    paper: Paper,
    source: Source,
) -> Result<(), Lost> {
    if papers(app, site).is_none() {
        // Not pinned here.
        return Ok(());
    }
    let mut new = None;
    // First the record: it has the keys of alarms.
    if paper == Paper::Record && agree_record(app, link, site, source).await? {
        new = Some(Paper::Record);
    }
    if agree_alarm(app, link, site, source).await? {
        new = new.max(Some(Paper::Alarm));
    }
    if let Some(paper) = new {
        let changes = Changes {
            others: vec![paper.change(site.clone())],
            ..Changes::default()
        };
        link.write(writer, changes, &[]).await?;
    }
    Ok(())
}

/// Returns whether the store has a newer record now.
async fn agree_record(
    app: &Arc<App>,
    link: &Link,
    site: &SiteName,
    source: Source,
) -> Result<bool, Lost> {
    let mut good = true;
    let theirs = link.record(site).await?;
    let ours = papers(app, site).and_then(|papers| papers.record);
    if let Some(theirs) = &theirs
        && ours.is_none_or(|(ours, _)| ours != theirs[..])
        && let Err(error) = app.register_here(theirs.clone().into()).await
    {
        good = false;
        tracing::debug!(%site, %error, "record in the store not taken");
    }
    let Some((ours, sequence)) = papers(app, site).and_then(|papers| papers.record) else {
        return Ok(false);
    };
    let theirs = theirs.and_then(|theirs| sequence_of(&theirs, site));
    let newer = theirs.is_none_or(|theirs| theirs < sequence) || source == Source::Here && !good;
    if newer {
        link.put_site(site, Some(&ours), None).await?;
    }
    Ok(newer)
}

/// Returns whether the store has a newer alarm now.
async fn agree_alarm(
    app: &Arc<App>,
    link: &Link,
    site: &SiteName,
    source: Source,
) -> Result<bool, Lost> {
    let mut good = true;
    let theirs = link.alarm(site).await?;
    let ours = papers(app, site).and_then(|papers| papers.alarm);
    if let Some(theirs) = &theirs
        && ours.is_none_or(|ours| ours != theirs[..])
        && let Err(error) = app.alarm_here(theirs.clone().into())
    {
        good = false;
        tracing::debug!(%site, %error, "alarm in the store not taken");
    }
    let Some(ours) = papers(app, site).and_then(|papers| papers.alarm) else {
        return Ok(false);
    };
    let theirs = theirs.and_then(|theirs| newness(&theirs, site));
    let older = theirs.is_none_or(|theirs| newness(&ours, site).is_some_and(|ours| theirs < ours));
    let newer = older || source == Source::Here && !good;
    if newer {
        link.put_site(site, None, Some(&ours)).await?;
    }
    Ok(newer)
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

/// How new an alarm claims to be, if it claims to be this site's: the greater, the newer (2.2).
fn newness(alarm: &[u8], site: &SiteName) -> Option<(u64, Reverse<u64>)> {
    let alarm = SignedAlarm::parse(alarm).ok()?;
    let claimed = alarm.claimed();
    (claimed.site == *site).then_some((claimed.issued, Reverse(claimed.until)))
}
