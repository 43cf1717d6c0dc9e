//! Which files of a site are wanted.

use swarm_peer::pick::{Pick, PickError};

use super::{EXIT_NOT_FOUND, EXIT_USAGE, Failure};

/// A pick that names nothing, as an exit.
pub(super) fn none(error: &PickError) -> Failure {
    Failure::text(EXIT_NOT_FOUND, format!("--file {error}"))
}

/// Whether a path of a site is wanted.
pub(super) fn takes_path(picks: &[Pick], path: &str) -> bool {
    let path = path.trim_start_matches('/');
    picks.is_empty() || picks.iter().any(|pick| pick.takes_path(path))
}

/// Checks picks against the paths of a site.
///
/// # Errors
/// A pick by number, for files of a site have none; one that names no file.
pub(super) fn check_paths<'a>(
    picks: &[Pick],
    paths: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), Failure> {
    for pick in picks {
        if pick.is_number() {
            let text = format!("--file {pick}: files of a site are named by path");
            return Err(Failure::text(EXIT_USAGE, text));
        }
        let one = std::slice::from_ref(pick);
        if !paths.clone().any(|path| takes_path(one, path)) {
            return Err(none(&PickError::NoFile(pick.to_string())));
        }
    }
    Ok(())
}
