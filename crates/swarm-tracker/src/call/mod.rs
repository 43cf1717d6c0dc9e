//! Calls of our own: bridges are asked for proof, and audited (spec 0006, 3.2 and 3.3).
//!
//! The registry says whom to call and judges what comes. An address is dialled only where an
//! announce came from that very host: never by name, never by redirect.

mod fetch;
mod judge;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderValue};
use rand::seq::IndexedRandom as _;
use swarm_proto::tracker::proof::{PROOF_LEN, ProofRequest};
use tokio::task::JoinSet;

use crate::app::App;
use crate::registry::{Audit, Finding, NoAnswer, Verdict};
use fetch::{Failed, Fetch};

/// How often we look for calls that are due: a bridge is listed that much later than it could be.
const TICK: Duration = Duration::from_millis(100);

/// What browsers said of themselves over plain HTTP at the time of writing.
const BROWSERS: [&str; 4] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15",
];
const LANGUAGES: [&str; 4] = [
    "en-US,en;q=0.9",
    "de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7",
    "fr-FR,fr;q=0.9",
    "en-GB,en;q=0.9",
];

/// Makes the calls that are due until the shutdown.
pub(crate) async fn keep_calling(app: Arc<App>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Ended with us: whoever is called then hears no more.
    let mut calls = JoinSet::new();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = app.shutdown.cancelled() => return,
        }
        while calls.try_join_next().is_some() {}
        while let Some(request) = app.next_call() {
            calls.spawn(prove(Arc::clone(&app), request));
        }
        while let Some(audit) = app.next_audit() {
            calls.spawn(look(Arc::clone(&app), audit));
        }
    }
}

impl App {
    fn next_call(&self) -> Option<ProofRequest> {
        self.registry().next_call(self.now(), rand::random())
    }

    fn next_audit(&self) -> Option<Audit> {
        self.registry().next_audit(self.now())
    }
}

/// Asks a bridge for proof.
async fn prove(app: Arc<App>, request: ProofRequest) {
    app.metrics.calls.add();
    let fetch = Fetch {
        addr: request.bridge,
        from: None,
        host: request.bridge.to_string(),
        target: request.target(),
        headers: HeaderMap::new(),
        len_max: PROOF_LEN as u64,
    };
    let answer = fetch.run(app.volunteers.call_timeout, true).await;
    let answer = match answer.result {
        Ok(got) if got.status == StatusCode::OK && got.is_whole => {
            <[u8; PROOF_LEN]>::try_from(got.kept).map_err(|_| NoAnswer::Refused)
        }
        Err(Failed::TimedOut) => Err(NoAnswer::TimedOut),
        _ => Err(NoAnswer::Refused),
    };
    let proven = app.registry().finish_call(app.now(), &request, answer);
    if !proven {
        app.metrics.calls_unproven.add();
    }
    tracing::debug!(bridge = %request.bridge, proven, "bridge called");
}

/// Looks at what a bridge shows to visitors.
async fn look(app: Arc<App>, audit: Audit) {
    let config = &app.volunteers;
    let picked = audit.pick(config.audit_len_max, &mut rand::rng());
    let Some((path, file)) = picked else {
        let (now, finding) = (app.now(), Finding::Unasked);
        app.registry().finish_audit(now, &audit, finding, 0);
        return;
    };
    let url = audit.url_for(&path);
    let (host, target) = split(&url);
    let fetch = Fetch {
        addr: audit.address(),
        from: source(&config.audit_from, audit.address()),
        host: host.to_owned(),
        target: target.to_owned(),
        headers: visitors_headers(&file.media_type),
        len_max: config.audit_len_max,
    };
    let answer = fetch.run(config.audit_timeout, false).await;
    let finding = judge::judge(&audit.site, host, &path, file, &answer.result);
    app.metrics.audits.add();
    let lie = match &finding {
        Finding::Wrong(_, shown) => Some(format!("{} {}", shown.media_type, shown.digest)),
        Finding::Forged(what) => Some((*what).to_owned()),
        _ => None,
    };
    let verdict = app
        .registry()
        .finish_audit(app.now(), &audit, finding, answer.read);
    match verdict {
        Verdict::Passed => {}
        Verdict::Missed | Verdict::Unlisted => app.metrics.audits_missed.add(),
        Verdict::Evicted => {
            app.metrics.evictions.add();
            let shown = lie.unwrap_or_default();
            tracing::warn!(site = %audit.site, %path, shown, "bridge evicted: wrong bytes");
        }
    }
    tracing::debug!(bridge = %audit.address(), ?verdict, "bridge audited");
}

/// Host and target of `http://host/target`.
fn split(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    rest.find('/').map_or((rest, "/"), |at| rest.split_at(at))
}

/// One of our addresses that can reach the bridge, at random; `None`: the system's choice.
fn source(from: &[IpAddr], bridge: SocketAddr) -> Option<IpAddr> {
    let fitting: Vec<IpAddr> = from
        .iter()
        .copied()
        .filter(|ip| ip.is_ipv4() == bridge.is_ipv4())
        .collect();
    fitting.choose(&mut rand::rng()).copied()
}

/// What a browser says that follows a link or loads an image over plain HTTP.
fn visitors_headers(media_type: &str) -> HeaderMap {
    let mut rng = rand::rng();
    let accept = match media_type.split('/').next() {
        Some("image") => "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
        _ if media_type.starts_with("text/html") => {
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
        }
        _ if media_type.starts_with("text/css") => "text/css,*/*;q=0.1",
        _ => "*/*",
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
    if media_type.starts_with("text/html") {
        let name = header::UPGRADE_INSECURE_REQUESTS;
        headers.insert(name, HeaderValue::from_static("1"));
    }
    for (name, value) in [
        (header::USER_AGENT, BROWSERS.choose(&mut rng).copied()),
        (header::ACCEPT, Some(accept)),
        // No browser takes Brotli over plain HTTP.
        (header::ACCEPT_ENCODING, Some("gzip, deflate")),
        (header::ACCEPT_LANGUAGE, LANGUAGES.choose(&mut rng).copied()),
    ] {
        if let Some(value) = value {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    headers
}
