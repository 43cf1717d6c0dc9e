//! What can go wrong between us, the authority and the disk.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use instant_acme::Problem;

use crate::config::ChallengeKind;

/// Characters of what an authority says that are kept.
const SAID_MAX: usize = 300;

/// Why there is no certificate, or no way to get any.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcmeError {
    /// A file or directory cannot be used. This machine's fault, or the operator's.
    #[error("{path}: {what}: {source}")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What was being done.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A file of roots holds none that can be used. The operator's fault.
    #[error("{path}: no certificate to believe in: {why}")]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// TLS is not to be had on this machine.
    #[error("TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// The authority cannot be reached, does not prove itself, or answers what is no ACME. The
    /// network's fault, or the authority's.
    #[error("the authority cannot be talked to: {0}")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// The authority says no: to the account, the name, or so many orders.
    #[error("the authority refuses: {}", said(.problem))]
    Refused {
        /// What it says.
        problem: Box<Problem>,
        /// The time it asks for before it is asked again.
        retry_after: Option<Duration>,
    },
    /// The authority has looked for us at the name and not found us. The fault of the name's DNS, of
    /// a firewall, or of the ports that we listen on.
    #[error("the name does not lead here, says the authority ({}): {}", .challenge.as_str(), said(.problem))]
    NotHere {
        /// How it looked.
        challenge: ChallengeKind,
        /// What it found instead.
        problem: Box<Problem>,
    },
    /// The authority wants to be shown in a way that we cannot, or are told not to.
    #[error("the authority offers no challenge that can be answered here, but {0}")]
    NoChallenge(String),
    /// The authority does not come to an end.
    #[error("the authority takes too long")]
    TimedOut,
    /// What it gave is of no use. The authority's fault.
    #[error("the authority gave no certificate that can be used: {0}")]
    BadCertificate(String),
    /// A task of ours ended without a result. A fault of this program.
    #[error("the order ended without a result")]
    Lost,
}

impl AcmeError {
    /// In few words without names or addresses, for whoever may see the status.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::File { .. } | Self::Roots { .. } | Self::Tls(_) | Self::Lost => {
                "this tracker cannot keep it".to_owned()
            }
            Self::Unreachable(_) => "the authority cannot be talked to".to_owned(),
            Self::Refused { problem, .. } => {
                format!("refused by the authority: {}", type_of(problem))
            }
            Self::NotHere { challenge, problem } => format!(
                "the name does not lead here ({}): {}",
                challenge.as_str(),
                type_of(problem)
            ),
            Self::NoChallenge(_) => "no challenge that can be answered".to_owned(),
            Self::TimedOut => "the authority takes too long".to_owned(),
            Self::BadCertificate(_) => "what the authority gave is of no use".to_owned(),
        }
    }

    /// The time that the authority asks for.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the authority has no such account (any more).
    pub(super) fn is_unknown_account(&self) -> bool {
        self.is_refusal("accountDoesNotExist")
    }

    /// Whether the authority took none of the numbers that it gave to be used once: it asks for
    /// nothing but another try.
    pub(super) fn is_bad_nonce(&self) -> bool {
        self.is_refusal("badNonce")
    }

    fn is_refusal(&self, word: &str) -> bool {
        matches!(self, Self::Refused { problem, .. } if type_of(problem) == word)
    }
}

/// The last word of a problem's type, if it is one of ACME's.
fn type_of(problem: &Problem) -> &str {
    let known = problem.r#type.as_deref().and_then(|name| {
        let word = name.strip_prefix("urn:ietf:params:acme:error:")?;
        word.bytes()
            .all(|byte| byte.is_ascii_alphabetic())
            .then_some(word)
    });
    known.unwrap_or("unknown")
}

/// What an authority says, cut and in one line: it is a stranger's, and may repeat another's.
fn said(problem: &Problem) -> String {
    one_line(&problem.to_string())
}

/// Any text so.
pub(super) fn one_line(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(SAID_MAX).collect()
}
