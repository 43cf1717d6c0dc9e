//! The demo from start to verdict: publish, the crowd at the origin, the crowd at the gate.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::DemoArgs;
use super::crowd::{self, Hosts, Run};
use super::curve::{Arrival, Curve};
use super::expect::{Expected, Unpublished};
use super::panel::{Panel, Scene};
use super::plot;
use super::report::{Details, Pages, Report, Verdict, WithGate};
use super::site::{self, Page, SiteError};
use super::stage::{ORIGIN_UPLINK, Stage, StageError, VOLUNTEER_UPLINK, VOLUNTEERS};
use super::visitor::{Street, Tally};

/// When visitors come.
const CURVE: Curve = Curve {
    calm_rate: 1.5,
    calm: Duration::from_secs(3),
    climb: Duration::from_secs(14),
    plateau_rate: 45.0,
    plateau: Duration::from_secs(6),
};

/// How long a visitor waits for a page with all its files.
const PATIENCE: Duration = Duration::from_secs(10);

/// Share of visitors who want the front page.
const FRONT_SHARE: f64 = 0.25;

/// Chooses pages; the same in both runs.
const SEED: u64 = 1986;

/// Why the demo came to no verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The folder.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// Publishing, or one of the parts.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The folder changed while the demo ran.
    #[error(transparent)]
    Changed(#[from] Unpublished),
    /// No place for the files that the demo needs.
    #[error("no temporary directory")]
    Temp(#[source] std::io::Error),
    /// The picture could not be written.
    #[error("cannot write {}", .0.display())]
    Plot(PathBuf, #[source] std::io::Error),
    /// A signal came.
    #[error("interrupted")]
    Interrupted,
}

/// Runs the demo; whether the verdict is pass.
///
/// # Errors
/// [`DemoError`]: there is no verdict.
pub async fn run(args: DemoArgs) -> Result<bool, DemoError> {
    let shutdown = CancellationToken::new();
    let _stop = shutdown.clone().drop_guard();
    let verdict = OnceLock::new();
    tokio::select! {
        passed = play(args, shutdown.clone(), &verdict) => passed,
        // With `--keep` a signal is the ordinary end.
        _ = tokio::signal::ctrl_c() => verdict.get().copied().ok_or(DemoError::Interrupted),
    }
}

async fn play(
    args: DemoArgs,
    shutdown: CancellationToken,
    verdict: &OnceLock<bool>,
) -> Result<bool, DemoError> {
    let temp = TempDir::with_prefix("spike-gate-demo-").map_err(DemoError::Temp)?;
    let mut panel = Panel::new();
    let played = acts(&args, temp.path(), &mut panel, &shutdown).await;
    panel.close();
    let (report, details, runs, stage) = played?;
    if let Some(file) = &args.plot {
        let svg = picture(&report, &runs);
        std::fs::write(file, svg).map_err(|error| DemoError::Plot(file.clone(), error))?;
    }
    let passed = report.verdict == Verdict::Pass;
    let _ = verdict.set(passed);
    let text = match args.json {
        true => serde_json::to_string(&report).unwrap_or_default(),
        false => format!("\n{}", report.table(&details)),
    };
    // Nobody may be reading; the exit code speaks too.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    if args.keep {
        for line in stage.addresses() {
            eprintln!("  {line}");
        }
        eprintln!("\n  all of it runs on until Ctrl-C");
        std::future::pending::<()>().await;
    }
    stage.close().await;
    Ok(passed)
}

type Played = (Report, Details, [Run; 2], Stage);

async fn acts(
    args: &DemoArgs,
    temp: &Path,
    panel: &mut Panel,
    shutdown: &CancellationToken,
) -> Result<Played, DemoError> {
    let root = match &args.root {
        Some(root) => root.clone(),
        None => {
            let root = temp.join("site");
            site::unpack(&root)?;
            root
        }
    };
    let pages: Arc<[Page]> = site::pages(&root)?.into();
    let arrivals = CURVE.arrivals(pages.len(), FRONT_SHARE, SEED);
    introduce(panel, &root, args.root.is_none(), &pages, &arrivals);

    panel.doing("publishing the site; gate, tracker, seed and volunteers come up");
    let host = match args.root {
        Some(_) => "site.localhost",
        None => "larkmoor.localhost",
    };
    let stage = Stage::open(&root, host, temp, shutdown.clone()).await?;
    panel.say(&format!("  published: {}", stage.summary()));
    let bare = stage.bare().await?;
    let expected = Expected::new(stage.manifest().clone(), &root)?.also_at(&bare.home);
    let expected = Arc::new(expected);
    let street = |home: &Url| {
        Arc::new(Street {
            home: home.clone(),
            expected: expected.clone(),
            patience: PATIENCE,
            tally: Tally::default(),
        })
    };
    let scene = |title| Scene {
        title,
        length: CURVE.length() + PATIENCE,
        origin_uplink: ORIGIN_UPLINK as f64,
        volunteer_uplink: VOLUNTEER_UPLINK as f64,
    };

    let hosts = Hosts {
        origin: bare.uplink.clone(),
        volunteers: Vec::new(),
        state: Box::new(|| ""),
    };
    let first = scene("1/2 origin alone ");
    let (visitors, crowd) = (street(&bare.home), arrivals.clone());
    let alone = crowd::run(visitors, pages.clone(), crowd, &hosts, panel, &first).await;
    bare.close();

    let hosts = stage.hosts();
    let second = scene("2/2 with the gate");
    let visitors = street(stage.home());
    let gate = crowd::run(visitors, pages, arrivals, &hosts, panel, &second).await;
    let (report, details) = judge(&alone, &gate, &stage);
    Ok((report, details, [alone, gate], stage))
}

fn introduce(panel: &Panel, root: &Path, shipped: bool, pages: &[Page], arrivals: &[Arrival]) {
    let weights = arrivals
        .iter()
        .filter_map(|arrival| Some(pages.get(arrival.page)?.weight));
    let mean = weights.sum::<u64>() / (arrivals.len() as u64).max(1);
    let name = match shipped {
        true => "the site that comes with the program".to_owned(),
        false => root.display().to_string(),
    };
    panel.say(&format!(
        "  the site: {name}, {} pages; {:.0} kB a page with all its files, as the crowd chooses",
        pages.len(),
        mean as f64 / 1e3
    ));
    panel.say(&format!(
        "  the lines: {:.0} Mbit/s for the site's own host, {VOLUNTEERS} × {:.0} Mbit/s for volunteers who hold nothing",
        ORIGIN_UPLINK as f64 / 1e6,
        VOLUNTEER_UPLINK as f64 / 1e6
    ));
    panel.say(&format!(
        "  the crowd: {} visitors; {} a second for {} s, climbing to {} a second within {} s, so for {} s; \
         each waits {} s for a whole page",
        arrivals.len(),
        CURVE.calm_rate,
        CURVE.calm.as_secs(),
        CURVE.plateau_rate,
        CURVE.climb.as_secs(),
        CURVE.plateau.as_secs(),
        PATIENCE.as_secs(),
    ));
}

fn judge(alone: &Run, gate: &Run, stage: &Stage) -> (Report, Details) {
    let sent = gate.timeline.last().cloned().unwrap_or_default();
    let rates = gate
        .timeline
        .rates(CURVE.calm + CURVE.climb, CURVE.length());
    let rate = rates.origin + rates.volunteers.iter().sum::<f64>();
    let uplinks = (ORIGIN_UPLINK + VOLUNTEER_UPLINK * VOLUNTEERS as u64) as f64;
    let with_gate = WithGate {
        pages: Pages::of(&gate.counts),
        origin_bytes: sent.origin,
        volunteer_bytes: sent.volunteers.iter().sum(),
        relief_ms: relief(stage),
        wrong_bytes: alone.counts.wrong_bytes + gate.counts.wrong_bytes,
    };
    let reasons = |run: &Run| {
        let mut reasons: Vec<_> = run.counts.reasons.clone().into_iter().collect();
        reasons.sort_by_key(|(reason, times)| (std::cmp::Reverse(*times), reason.clone()));
        reasons.truncate(5);
        reasons
    };
    let details = Details {
        seeded_bytes: stage.seeded_bytes(),
        alone_bytes: alone.timeline.last().map_or(0, |sample| sample.origin),
        volunteers: sent.volunteers,
        plateau_rate: rate,
        uplinks,
        reasons: [reasons(alone), reasons(gate)],
    };
    let report = Report::new(Pages::of(&alone.counts), with_gate, rate / uplinks);
    (report, details)
}

/// From the gate's first measured overload to its first answer that sends somebody elsewhere.
fn relief(stage: &Stage) -> Option<u64> {
    let stats = stage.gate().stats();
    let first = [stats.first_redirect, stats.first_rewrite];
    let first = first.into_iter().flatten().min()?;
    let overload = stats.first_overload.unwrap_or(first);
    let relief = first.saturating_duration_since(overload);
    Some(u64::try_from(relief.as_millis()).unwrap_or(u64::MAX))
}

fn picture(report: &Report, runs: &[Run; 2]) -> String {
    let text = |pages: &Pages| {
        let all = pages.pages_completed + pages.pages_failed;
        format!("{} of {all} pages complete", pages.pages_completed)
    };
    let (a, b) = (text(&report.origin_alone), text(&report.with_gate.pages));
    let length = CURVE.length() + PATIENCE;
    plot::svg(&runs[0].timeline, &runs[1].timeline, length, [&a, &b])
}
