//! Waiting for bundles, with progress and patience.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use swarm_peer::SwarmState;

use super::progress::{Job, Progress, Sum};
use super::{EXIT_NOT_FOUND, EXIT_TIMEOUT, Failure, Output, Running};

/// Waiting for jobs, with progress and patience.
pub(super) struct Waiting<'a> {
    output: &'a Output,
    progress: Progress<'a>,
    patience: Patience,
    resumed: bool,
    peers_seen: bool,
}

/// How long nothing has come of what is to come.
struct Patience {
    /// Zero: for ever.
    timeout: Duration,
    /// What had come, and since when nothing more has.
    come: (u64, u64),
    since: Instant,
}

impl Patience {
    fn new(timeout: Duration, now: Instant) -> Self {
        Self {
            timeout,
            come: (0, 0),
            since: now,
        }
    }

    /// Whether it is at its end. Time in which nothing could come does not count, and behind it
    /// all of the time is given again: who goes on after a rest has peers to meet first.
    fn is_over(&mut self, now: Instant, come: (u64, u64), may_come: bool) -> bool {
        if come != self.come || !may_come {
            self.come = come;
            self.since = now;
        }
        !self.timeout.is_zero() && now.saturating_duration_since(self.since) >= self.timeout
    }
}

impl<'a> Waiting<'a> {
    pub(super) fn new(output: &'a Output, timeout: Duration, what: &str) -> Self {
        Self {
            output,
            progress: Progress::new(output, what),
            patience: Patience::new(timeout, Instant::now()),
            resumed: false,
            peers_seen: false,
        }
    }

    /// Waits a moment. False if a signal ended it.
    ///
    /// # Errors
    /// A swarm failed, or patience is at its end.
    pub(super) async fn step(&mut self, running: &Running, jobs: &[Job]) -> Result<bool, Failure> {
        let changed = jobs.iter().map(|job| {
            let seen = job.handle.state();
            async move { job.handle.state_after(&seen).await }
        });
        let changed: Vec<_> = changed.map(Box::pin).collect();
        // Made even where nothing is to be waited for, and then it must not be asked for a first.
        let any = async { futures_util::future::select_all(changed).await };
        tokio::select! {
            () = running.shutdown.cancelled() => return Ok(false),
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
            _ = any, if !jobs.is_empty() => {}
        }
        for job in jobs {
            if let SwarmState::Failed(error) = job.handle.state() {
                return Err(anyhow::Error::from(error).into());
            }
        }
        let sum = self.progress.show(jobs);
        if !sum.checking && !std::mem::replace(&mut self.resumed, true) && sum.have > 0 {
            let fields = json!({ "have": sum.have, "pieces": sum.pieces });
            self.output.event("resumed", fields);
            self.output.say(&format!(
                "{} of {} pieces are here already",
                sum.have, sum.pieces
            ));
        }
        self.peers_seen |= sum.peers > 0;
        let come = (sum.down_bytes + sum.checked, sum.have);
        let may_come = !sum.checking && !rest(jobs);
        if self.patience.is_over(Instant::now(), come, may_come) {
            let waited = self.patience.timeout;
            return Err(match self.peers_seen {
                false => Failure::text(EXIT_NOT_FOUND, format!("no peers within {waited:?}")),
                true => Failure::text(EXIT_TIMEOUT, format!("nothing has come for {waited:?}")),
            });
        }
        Ok(true)
    }

    /// Shows the last state and takes the bars away.
    pub(super) fn finish(mut self, jobs: &[Job]) {
        self.progress.show(jobs);
        self.progress.finish();
    }
}

/// Says that every byte is in its file.
pub(super) fn complete(output: &Output, jobs: &[Job], name: &str, path: &Path) {
    let sum = Sum::of(jobs);
    let seconds = output.seconds();
    output.event(
        "complete",
        json!({
            "name": name,
            "path": path.display().to_string(),
            "total_bytes": sum.total_bytes,
            "down_bytes": sum.down_bytes,
            "seconds": (seconds * 1000.0).round() / 1000.0,
        }),
    );
    output.say(&format!("complete: {} in {seconds:.1} s", path.display()));
}

/// Whether somebody had all of them rest that are not done yet.
fn rest(jobs: &[Job]) -> bool {
    let rests = |job: &Job| job.handle.state() == SwarmState::Paused;
    jobs.iter().any(rests) && jobs.iter().all(|job| rests(job) || job.is_done())
}

/// Whether something must come from others: the wanted ranges, or everything.
pub(super) fn lacks(job: &Job) -> bool {
    let handle = &job.handle;
    match (handle.state(), handle.try_metainfo()) {
        (SwarmState::Metadata, _) => true,
        (SwarmState::Fetching, Some(meta)) => match &job.wanted {
            Some(wanted) => !wanted.iter().all(|range| handle.holds(range)),
            None => !meta.files().iter().all(|file| handle.holds(&file.range())),
        },
        _ => false,
    }
}

pub(super) fn nobody() -> Failure {
    Failure::text(
        EXIT_NOT_FOUND,
        "nobody to ask: give --tracker, --peer or --web-seed, --dht or --lsd (or a torrent or link that names \
         somebody), or --listen to wait for callers",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_when_nothing_comes_and_never_during_a_rest() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut patience = Patience::new(Duration::from_secs(10), start);
        assert!(!patience.is_over(at(9), (0, 0), true));
        assert!(patience.is_over(at(10), (0, 0), true));
        // Something comes.
        assert!(!patience.is_over(at(11), (5, 0), true));
        assert!(!patience.is_over(at(20), (5, 0), true));
        // It rests for an hour, and has all of the time again when it goes on.
        assert!(!patience.is_over(at(20), (5, 0), false));
        assert!(!patience.is_over(at(3600), (5, 0), false));
        assert!(!patience.is_over(at(3609), (5, 0), true));
        assert!(patience.is_over(at(3610), (5, 0), true));
        let mut endless = Patience::new(Duration::ZERO, start);
        assert!(!endless.is_over(at(1_000_000), (0, 0), true));
    }
}
