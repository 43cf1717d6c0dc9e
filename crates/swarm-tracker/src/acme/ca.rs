//! The authority: an account there, and one order from its beginning to its end.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::challenges::{Challenges, Pending};
use super::error::AcmeError;
use super::held::Held;
use super::store::Store;
use super::web::{RetryAfter, Roots, Web, pause_asked_for};
use crate::config::{AcmeConfig, CertificateName, ChallengeKind};

/// Time for an order: an authority looks for us from several places, and may be busy.
const ORDER_TIME: Duration = Duration::from_secs(300);
/// How an authority is asked whether it has come to an end: after half a second, and then less and
/// less often.
const ASK_AGAIN: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// One authority.
#[derive(Debug)]
pub(super) struct Ca {
    directory: String,
    contact: Vec<String>,
    challenge: Option<ChallengeKind>,
    roots: Roots,
    provider: Arc<CryptoProvider>,
    store: Arc<Store>,
    /// As [`Kept`] is written. Held while an account is made, so that it is one.
    account: tokio::sync::Mutex<Option<Vec<u8>>>,
}

/// An account as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    credentials: AccountCredentials,
    contact: Vec<String>,
}

/// A certificate as it was given.
pub(super) struct Given {
    /// Key and chain.
    pub(super) pem: Vec<u8>,
    pub(super) held: Held,
}

impl Ca {
    /// Blocks on the disk.
    pub(super) fn open(
        config: &AcmeConfig,
        store: Arc<Store>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, AcmeError> {
        Ok(Self {
            directory: config.directory.clone(),
            contact: config.contact.clone(),
            challenge: config.challenge,
            roots: Roots::read(config.ca_file.as_deref(), &provider)?,
            account: tokio::sync::Mutex::new(store.load_account()),
            provider,
            store,
        })
    }

    /// Gets a certificate. `replaces`: the one before; `now`: seconds since 1970.
    pub(super) async fn obtain(
        &self,
        name: &CertificateName,
        replaces: Option<&CertificateDer<'_>>,
        challenges: &Arc<Challenges>,
        now: u64,
    ) -> Result<Given, AcmeError> {
        let all = async {
            match self.order(name, replaces, challenges, now).await {
                Err(error) if error.is_unknown_account() => {
                    // It has forgotten us, or was set up anew.
                    tracing::warn!(%error, "making another account");
                    *self.account.lock().await = None;
                    self.order(name, replaces, challenges, now).await
                }
                Err(error) if error.is_bad_nonce() => {
                    self.order(name, replaces, challenges, now).await
                }
                other => other,
            }
        };
        let timed = tokio::time::timeout(ORDER_TIME, all).await;
        timed.unwrap_or(Err(AcmeError::TimedOut))
    }

    async fn order(
        &self,
        name: &CertificateName,
        replaces: Option<&CertificateDer<'_>>,
        challenges: &Arc<Challenges>,
        now: u64,
    ) -> Result<Given, AcmeError> {
        let web = Web::new(&self.roots, &self.provider)?;
        let retry_after = web.retry_after();
        let told = |error| failed(error, &retry_after, now);
        let account = self.account(web).await.map_err(|error| match error {
            NoAccount::Acme(error) => told(error),
            NoAccount::Other(error) => error,
        })?;
        let identifiers = [Identifier::Dns(name.as_str().to_owned())];
        let mut asked = NewOrder::new(&identifiers);
        if let Some(id) = replaces.and_then(|old| CertificateIdentifier::try_from(old).ok()) {
            asked = asked.replaces(id);
        }
        let mut order = match account.new_order(&asked).await {
            // It does not know what that is.
            Err(Error::Unsupported(_)) => account.new_order(&NewOrder::new(&identifiers)).await,
            other => other,
        }
        .map_err(told)?;
        // There for as long as the authority may look.
        if let Some(shown) = self.answer(&mut order, name, challenges, &told).await? {
            let ready = order.poll_ready(&ASK_AGAIN).await;
            if !matches!(ready, Ok(OrderStatus::Ready)) {
                return Err(why_not(&mut order, ready, shown.kind, &told).await);
            }
        }
        let key = order.finalize().await.map_err(told)?;
        let chain = order.poll_certificate(&ASK_AGAIN).await.map_err(told)?;
        let pem = format!("{key}{chain}").into_bytes();
        let bad = AcmeError::BadCertificate;
        let held = Held::read(&pem, name, &self.provider).map_err(bad)?;
        if held.validity.not_after <= now {
            return Err(bad("it has ended already".to_owned()));
        }
        Ok(Given { pem, held })
    }

    /// Shows that the name leads here; `None`: the authority knows that already.
    async fn answer(
        &self,
        order: &mut Order,
        name: &CertificateName,
        challenges: &Arc<Challenges>,
        told: &impl Fn(Error) -> AcmeError,
    ) -> Result<Option<Shown>, AcmeError> {
        let mut shown = None;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(told)?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let offers = |kind: ChallengeKind| {
                let mut all = authorization.challenges.iter();
                all.any(|challenge| challenge.r#type == type_of(kind))
            };
            let kinds = match self.challenge {
                Some(kind) => vec![kind],
                None => vec![ChallengeKind::Http01, ChallengeKind::TlsAlpn01],
            };
            let kind = kinds.into_iter().find(|kind| offers(*kind));
            let offered = format!(
                "{:?}",
                authorization
                    .challenges
                    .iter()
                    .map(|c| &c.r#type)
                    .collect::<Vec<_>>()
            );
            let none = || AcmeError::NoChallenge(super::error::one_line(&offered));
            let kind = kind.ok_or_else(none)?;
            let mut challenge = authorization.challenge(type_of(kind)).ok_or_else(none)?;
            let says = challenge.key_authorization();
            let pending = match kind {
                ChallengeKind::Http01 => challenges.put_file(&challenge.token, says.as_str()),
                ChallengeKind::TlsAlpn01 => {
                    let bad = |why| AcmeError::BadCertificate(why);
                    let digest = says.digest();
                    let digest = digest.as_ref().try_into();
                    let digest =
                        digest.map_err(|_| bad("a digest of another length".to_owned()))?;
                    challenges
                        .put_certificate(name, digest, &self.provider)
                        .map_err(bad)?
                }
            };
            challenge.set_ready().await.map_err(told)?;
            shown = Some(Shown {
                kind,
                _pending: pending,
            });
        }
        Ok(shown)
    }

    /// When the authority would like a certificate to be renewed, in seconds since 1970; `None`: it
    /// does not say such things.
    pub(super) async fn window(
        &self,
        certificate: &CertificateDer<'_>,
        now: u64,
    ) -> Result<Option<(u64, u64)>, AcmeError> {
        let Ok(id) = CertificateIdentifier::try_from(certificate) else {
            return Ok(None);
        };
        let web = Web::new(&self.roots, &self.provider)?;
        let retry_after = web.retry_after();
        let account = self.account(web).await.map_err(|error| match error {
            NoAccount::Acme(error) => failed(error, &retry_after, now),
            NoAccount::Other(error) => error,
        })?;
        match account.renewal_info(&id).await {
            Ok((info, _)) => {
                let seconds = |at: i64| u64::try_from(at).unwrap_or(0);
                let window = info.suggested_window;
                Ok(Some((
                    seconds(window.start.unix_timestamp()),
                    seconds(window.end.unix_timestamp()),
                )))
            }
            Err(Error::Unsupported(_)) => Ok(None),
            Err(error) => Err(failed(error, &retry_after, now)),
        }
    }

    /// Our account, made where there is none yet.
    async fn account(&self, web: Web) -> Result<Account, NoAccount> {
        let mut known = self.account.lock().await;
        let kept = known.as_deref().and_then(|bytes| {
            let read = serde_json::from_slice::<Kept>(bytes);
            read.inspect_err(|error| {
                let path = self.store.account_path();
                tracing::warn!(path = %path.display(), %error, "damaged, making another account");
            })
            .ok()
        });
        let contact: Vec<&str> = self.contact.iter().map(String::as_str).collect();
        let web = Account::builder_with_http(Box::new(web));
        let (account, credentials) = match kept {
            Some(kept) => {
                let is_same = kept.contact == self.contact;
                let again = serde_json::to_value(&kept.credentials).map_err(Error::Json)?;
                let account = web.from_credentials(kept.credentials).await?;
                if is_same {
                    return Ok(account);
                }
                account.update_contacts(&contact).await?;
                let credentials = serde_json::from_value(again).map_err(Error::Json)?;
                (account, credentials)
            }
            None => {
                let asked = NewAccount {
                    contact: &contact,
                    terms_of_service_agreed: true,
                    only_return_existing: false,
                };
                let made = web.create(&asked, self.directory.clone(), None).await?;
                tracing::info!(directory = %self.directory, "account made");
                made
            }
        };
        let kept = Kept {
            credentials,
            contact: self.contact.clone(),
        };
        let bytes = serde_json::to_vec(&kept).map_err(Error::Json)?;
        let (store, saved) = (Arc::clone(&self.store), bytes.clone());
        tokio::task::spawn_blocking(move || store.save_account(&saved))
            .await
            .map_err(|_| NoAccount::Other(AcmeError::Lost))?
            .map_err(NoAccount::Other)?;
        *known = Some(bytes);
        Ok(account)
    }
}

/// What an authority is shown.
struct Shown {
    kind: ChallengeKind,
    _pending: Pending,
}

enum NoAccount {
    Acme(Error),
    Other(AcmeError),
}

impl From<Error> for NoAccount {
    fn from(error: Error) -> Self {
        Self::Acme(error)
    }
}

/// What the authority found in our place.
async fn why_not(
    order: &mut Order,
    ready: Result<OrderStatus, Error>,
    shown: ChallengeKind,
    told: &impl Fn(Error) -> AcmeError,
) -> AcmeError {
    if let Err(error @ (Error::Other(_) | Error::Timeout(_))) = ready {
        return told(error);
    }
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_err() {
            continue;
        }
        for challenge in &authorization.challenges {
            if let Some(problem) = &challenge.error
                && challenge.r#type == type_of(shown)
            {
                return AcmeError::NotHere {
                    challenge: shown,
                    problem: Box::new(problem.clone()),
                };
            }
        }
    }
    match ready {
        Err(error) => told(error),
        Ok(status) => told(Error::Other(format!("the order is {status:?}").into())),
    }
}

const fn type_of(kind: ChallengeKind) -> ChallengeType {
    match kind {
        ChallengeKind::Http01 => ChallengeType::Http01,
        ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

fn failed(error: Error, retry_after: &RetryAfter, now: u64) -> AcmeError {
    match error {
        Error::Api(problem) => AcmeError::Refused {
            problem: Box::new(problem),
            retry_after: pause_asked_for(retry_after, now),
        },
        Error::Timeout(_) => AcmeError::TimedOut,
        error => AcmeError::Unreachable(Box::new(error)),
    }
}

#[cfg(test)]
mod tests;
