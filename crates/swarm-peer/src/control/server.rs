//! The peer's side: a socket that only its owner may open, and callers served within bounds.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::add::add;
use super::{REQUEST_LEN_MAX, Request, RequestError, find, limit, named, status};
use crate::Node;

/// Time given to one caller, for all of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Callers at a time; more wait.
const CALLERS_MAX: usize = 8;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another peer answers at that path.
    #[error("another peer answers at {}", .0.display())]
    Taken(PathBuf),
    /// Something that is no socket lies there, and is left alone.
    #[error("{} is there, and no socket", .0.display())]
    NoSocket(PathBuf),
    /// The system said no.
    #[error("cannot make the control socket {}: {source}", path.display())]
    Io {
        /// The path wanted.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The control socket of this process; its file goes when this is dropped.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
}

impl Control {
    /// Opens the socket at `path` and answers there until `shutdown` is cancelled, which a caller
    /// may ask for. Needs a runtime.
    ///
    /// A socket that is there already makes way only if nobody answers at it.
    ///
    /// # Errors
    /// [`OpenError`]: the peer works as well without.
    pub fn open(path: &Path, node: Node, shutdown: CancellationToken) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        make_way(path)?;
        // Bound under another name and renamed once only its owner may open it.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
        let _ = std::fs::remove_file(&new);
        let opened = UnixListener::bind(&new).and_then(|listener| {
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
            let owner = std::fs::metadata(&new)?.uid();
            std::fs::rename(&new, path)?;
            Ok((listener, owner))
        });
        let (listener, owner) = opened.map_err(|source| {
            let _ = std::fs::remove_file(&new);
            failed(source)
        })?;
        tokio::spawn(serve(listener, owner, node, shutdown));
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Takes away a socket that a peer left behind when it was killed.
fn make_way(path: &Path) -> Result<(), OpenError> {
    let Ok(found) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(OpenError::NoSocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|source| OpenError::Io {
                path: path.to_owned(),
                source,
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Answered, or not ours to judge.
        _ => Err(OpenError::Taken(path.to_owned())),
    }
}

async fn serve(listener: UnixListener, owner: u32, node: Node, shutdown: CancellationToken) {
    let callers = Arc::new(Semaphore::new(CALLERS_MAX));
    loop {
        // Never closed, so never an error.
        let permit = Arc::clone(&callers).acquire_owned().await;
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (node, shutdown) = (node.clone(), shutdown.clone());
                tokio::spawn(async move {
                    let _permit = permit;
                    let answered = answer(stream, owner, &node, &shutdown);
                    let _ = tokio::time::timeout(PATIENCE, answered).await;
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

async fn answer(
    mut stream: UnixStream,
    owner: u32,
    node: &Node,
    shutdown: &CancellationToken,
) -> io::Result<()> {
    // The file's mode says so already; a file system that knows no modes does not.
    let caller = stream.peer_cred()?.uid();
    if caller != owner && caller != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let line = read_line(&mut stream).await?;
    let request = Request::parse(&line);
    let stop = matches!(request, Ok(Request::Stop));
    let answer = match request {
        Ok(request) => perform(node, request).await,
        Err(error) => Err(error),
    };
    let answer = answer.unwrap_or_else(|error| json!({ "error": error.to_string() }));
    let mut text = answer.to_string();
    text.push('\n');
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    if stop {
        tracing::info!("stopping, as asked by the control socket");
        shutdown.cancel();
    }
    Ok(())
}

/// Bytes up to the end of the line, or of what came, or one more than there may be.
async fn read_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut part = [0; 1024];
    loop {
        let len = stream.read(&mut part).await?;
        let read = part.get(..len).unwrap_or_default();
        let end = read.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(read.get(..end.unwrap_or(len)).unwrap_or_default());
        if len == 0 || end.is_some() || line.len() > REQUEST_LEN_MAX {
            return Ok(line);
        }
    }
}

fn pause(node: &Node, bundle: Option<&str>, paused: bool) -> Result<(), RequestError> {
    for handle in named(node, bundle)? {
        handle.set_paused(paused);
    }
    Ok(())
}

async fn perform(node: &Node, request: Request) -> Result<Value, RequestError> {
    match request {
        Request::Status { peers } => return Ok(status(node, peers).await),
        Request::Limit {
            bundle,
            upload,
            download,
        } => limit(
            node,
            bundle.as_deref(),
            upload.as_deref(),
            download.as_deref(),
        )?,
        Request::Pause { bundle } => pause(node, bundle.as_deref(), true)?,
        Request::Resume { bundle } => pause(node, bundle.as_deref(), false)?,
        Request::Add(added) => return add(node, added).await,
        Request::Remove { bundle } => {
            if let Some(id) = find(node, &bundle)?.swarm_ids().first() {
                node.remove(id);
            }
        }
        Request::Announce => node.bundles().iter().for_each(|one| one.announce_now()),
        Request::Stop => {}
    }
    Ok(json!({ "done": true }))
}
