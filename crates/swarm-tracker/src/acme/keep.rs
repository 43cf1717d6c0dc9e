//! Looks after the certificates: asks the authority when the schedule says so, and keeps what it
//! gives.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::{Id, JoinError, JoinSet};

use super::error::AcmeError;
use super::held::Held;
use super::schedule::Step;
use super::{Certificates, ca::Given};
use crate::app::App;
use crate::config::CertificateName;
use crate::registry::Moment;

/// What a task of ours came to.
enum Done {
    Ordered(Result<Held, AcmeError>),
    Asked(Result<Option<(u64, u64)>, AcmeError>),
}

/// What it is about.
struct Task {
    name: CertificateName,
    is_order: bool,
}

/// Until the shutdown.
pub(crate) async fn keep(app: Arc<App>, certificates: Arc<Certificates>) {
    let mut tasks = JoinSet::new();
    let mut about: HashMap<Id, Task> = HashMap::new();
    loop {
        let step = certificates.schedule().next(app.now());
        let wait = match step {
            Step::Look(name) => {
                let looking = Arc::clone(&certificates);
                let looked = tokio::task::spawn_blocking(move || looking.look(&name));
                if let Err(error) = looked.await {
                    tracing::error!(%error, "certificate not read");
                }
                continue;
            }
            Step::Order { name, .. } if certificates.is_in_files(&name) => {
                certificates.schedule().spared(&name, app.now());
                continue;
            }
            Step::Order { name, replaces } => {
                tracing::info!(%name, replaces, "asking for a certificate");
                app.metrics.certificate_orders.add();
                // Before it is made: who is started again and again counts it nevertheless.
                save_past(&certificates).await;
                let order = order(Arc::clone(&certificates), name.clone(), replaces, app.now());
                let id = tasks.spawn(order).id();
                let is_order = true;
                about.insert(id, Task { name, is_order });
                continue;
            }
            Step::Ask(name) => {
                let ask = ask(Arc::clone(&certificates), name.clone(), app.now());
                let id = tasks.spawn(ask).id();
                let is_order = false;
                about.insert(id, Task { name, is_order });
                continue;
            }
            Step::Wait(wait) => wait,
        };
        tokio::select! {
            Some(ended) = tasks.join_next_with_id() => {
                finish(&app, &certificates, &mut about, ended);
                save_past(&certificates).await;
            }
            () = tokio::time::sleep(wait) => {}
            () = certificates.changed.notified() => {}
            // What is under way ends with the set.
            () = app.shutdown.cancelled() => return,
        }
    }
}

impl Certificates {
    fn is_in_files(&self, name: &CertificateName) -> bool {
        self.files.as_ref().is_some_and(|files| files.bears(name))
    }
}

async fn order(
    certificates: Arc<Certificates>,
    name: CertificateName,
    replaces: bool,
    now: Moment,
) -> Done {
    let old = match replaces {
        true => certificates.of(&name),
        false => None,
    };
    let old = old.as_ref().and_then(|old| old.cert.first());
    let challenges = &certificates.challenges;
    let given = certificates
        .ca
        .obtain(&name, old, challenges, now.unix)
        .await;
    Done::Ordered(match given {
        Ok(Given { pem, held }) => {
            let store = Arc::clone(&certificates.store);
            let saved = tokio::task::spawn_blocking(move || store.save(&name, &pem)).await;
            // One that cannot be kept is shown nevertheless, or we would ask for ever.
            match saved {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "certificate cannot be kept"),
                Err(error) => tracing::error!(%error, "certificate cannot be kept"),
            }
            Ok(held)
        }
        Err(error) => Err(error),
    })
}

async fn ask(certificates: Arc<Certificates>, name: CertificateName, now: Moment) -> Done {
    let held = certificates.of(&name);
    let Some(own) = held.as_ref().and_then(|held| held.cert.first()) else {
        return Done::Asked(Err(AcmeError::Lost));
    };
    Done::Asked(certificates.ca.window(own, now.unix).await)
}

fn finish(
    app: &App,
    certificates: &Certificates,
    about: &mut HashMap<Id, Task>,
    ended: Result<(Id, Done), JoinError>,
) {
    let id = match &ended {
        Ok((id, _)) => *id,
        Err(error) => error.id(),
    };
    let Some(Task { name, is_order }) = about.remove(&id) else {
        return;
    };
    let done = match ended {
        Ok((_, done)) => done,
        Err(error) => {
            tracing::error!(%name, %error, "an order ended without a result");
            match is_order {
                true => Done::Ordered(Err(AcmeError::Lost)),
                false => Done::Asked(Err(AcmeError::Lost)),
            }
        }
    };
    let (now, chance) = (app.now(), rand::random());
    let mut schedule = certificates.schedule();
    match done {
        Done::Ordered(Ok(held)) => {
            let until = held.validity.not_after;
            schedule.issued(&name, held.validity, now, chance);
            certificates.install(&schedule, &name, held);
            tracing::info!(%name, until, "certificate in force");
        }
        Done::Ordered(Err(error)) => {
            app.metrics.certificate_failures.add();
            let pause = error.retry_after();
            let again = schedule.failed(&name, error.kind(), pause, now, chance);
            let again_in_secs = again.as_secs();
            tracing::warn!(%name, %error, again_in_secs, "no certificate");
        }
        Done::Asked(Ok(window)) => schedule.news(&name, window, now, chance),
        Done::Asked(Err(error)) => {
            schedule.no_news(&name, now);
            tracing::debug!(%name, %error, "not told when to renew");
        }
    }
}

async fn save_past(certificates: &Certificates) {
    let past = certificates.schedule().past().clone();
    let store = Arc::clone(&certificates.store);
    let saved = tokio::task::spawn_blocking(move || store.save_past(&past)).await;
    if let Ok(Err(error)) = saved {
        tracing::error!(%error, "what was asked for cannot be kept");
    }
}
