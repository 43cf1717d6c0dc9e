//! Web seeds of one swarm: made known, asked, heard.

use std::collections::BTreeSet;
use std::time::Instant;

use swarm_proto::download::{Action, Download};

use super::SwarmTask;
use crate::connector::Trust;
use crate::webseed::{WebEvent, WebNews, is_harmless};

impl SwarmTask {
    /// Tells the download of the web seeds: the operator's own, then those that the source names.
    pub(super) fn join_web_seeds(&mut self, download: &mut Download) {
        let own = self.bundle.web_seeds.iter();
        let own = own.map(|url| (url.clone(), Trust::CommandLine));
        let named = self.bundle.source.web_seeds().iter();
        let named = named.map(|url| (url.clone(), self.bundle.web_seed_trust));
        let mut seen = BTreeSet::new();
        let all: Vec<_> = own
            .chain(named)
            .filter(|(url, _)| seen.insert(url.clone()))
            .collect();
        for (url, trust) in all {
            if !is_harmless(&url, trust) {
                tracing::warn!(
                    bundle = %self.name(),
                    "web seed skipped: a torrent may not send queries into a private network"
                );
                continue;
            }
            let conn = self.node.next_connection();
            self.web.add(conn, self.node.http(), trust);
            download.web_seed_joined(Instant::now(), conn, url);
        }
    }

    /// What the download wants of web seeds; other actions are not for here.
    pub(super) fn act_web(&mut self, action: Action) {
        match action {
            Action::FetchRange(fetch) => self.web.fetch(self.node.tasks(), fetch),
            Action::StopFetch(seed, request) => self.web.stop(seed, request),
            Action::BanWebSeed { url, reason, .. } => {
                tracing::warn!(bundle = %self.name(), url, "web seed banned: {reason}");
            }
            _ => {}
        }
    }

    pub(super) fn hear_web(&mut self, download: &mut Download, event: WebEvent) {
        let now = Instant::now();
        let WebEvent {
            seed,
            request,
            what,
        } = event;
        match what {
            WebNews::Bytes(bytes) => download.web_bytes(now, seed, request, bytes),
            WebNews::Ended(result) => {
                self.web.stop(seed, request);
                download.web_ended(now, seed, request, result);
            }
        }
    }
}
