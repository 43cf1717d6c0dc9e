//! The asking side.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::Request;

/// Bytes taken of one answer: some 50,000 peers.
const ANSWER_LEN_MAX: u64 = 16 * 1024 * 1024;

/// Time for each step of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nobody listens there (any more).
    #[error("no peer answers")]
    Nobody,
    /// The exchange failed.
    #[error("control socket: {0}")]
    Io(#[from] io::Error),
    /// What came is no answer.
    #[error("control socket answered rubbish: {0}")]
    Rubbish(#[from] serde_json::Error),
    /// It was not done.
    #[error("{0}")]
    Refused(String),
}

/// Asks the peer behind the control socket at `path`. Blocks.
///
/// # Errors
/// [`AskError`].
pub fn ask(path: &Path, request: &Request) -> Result<Value, AskError> {
    let mut stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => AskError::Nobody,
        _ => AskError::Io(error),
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut text = String::new();
    stream.take(ANSWER_LEN_MAX).read_to_string(&mut text)?;
    let answer: Value = serde_json::from_str(&text)?;
    match answer.get("error").and_then(Value::as_str) {
        Some(error) => Err(AskError::Refused(error.to_owned())),
        None => Ok(answer),
    }
}
