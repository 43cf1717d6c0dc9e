//! Makes the compressed forms that are missing, and checks all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use swarm_proto::id::Digest;
use swarm_proto::manifest::Encoding;

use super::bundle::{Content, MadeVariant, read_once};
use super::compress::{compress, decompresses_to, is_worth_trying, variant_path};
use super::error::PublishError;
use super::files::in_parallel;
use super::layout::Tried;
use super::media::is_compressible;
use super::{Phase, Progress};

/// One form of one content.
struct Task<'c> {
    content: &'c Content,
    encoding: Encoding,
    /// The length it had the last time; 0: not worth it.
    known: Option<u64>,
}

/// Gives each content its variants. `tried` is what earlier publishing found, and becomes what
/// this one found.
///
/// Every variant is decompressed and compared with the content's digest, old ones too: a browser
/// shows what is decoded, and nobody checks that again.
pub(super) fn add_variants(
    contents: &mut [Content],
    folder: &Path,
    tried: &mut BTreeMap<Digest, Tried>,
    threads: usize,
    progress: &dyn Progress,
) -> Result<(), PublishError> {
    let mut seen = BTreeSet::new();
    let mut tasks = Vec::new();
    for content in contents.iter() {
        let worth = is_worth_trying(content.length) && is_compressible(&content.media_type);
        if !worth || !seen.insert(content.digest) {
            continue;
        }
        for encoding in Encoding::ALL {
            tasks.push(Task {
                content,
                encoding,
                known: tried
                    .get(&content.digest)
                    .and_then(|lengths| lengths.get(&encoding))
                    .copied(),
            });
        }
    }
    // The longest first, or the last thread would be left alone with it.
    tasks.sort_by_key(|task| std::cmp::Reverse(task.content.length));
    let bytes = tasks.iter().map(|task| task.content.length).sum();
    progress.begin(Phase::Compressing, bytes);
    let made = in_parallel(threads, &tasks, |task| {
        let made = make(task, folder)?;
        progress.advance(task.content.length);
        Ok((task.content.digest, task.encoding, made))
    })?;

    tried.clear();
    let mut variants: BTreeMap<Digest, Vec<MadeVariant>> = BTreeMap::new();
    for (content, encoding, made) in made {
        let length = made.as_ref().map_or(0, |made| made.length);
        tried.entry(content).or_default().insert(encoding, length);
        variants.entry(content).or_default().extend(made);
    }
    for content in contents {
        if let Some(variants) = variants.get(&content.digest)
            && is_compressible(&content.media_type)
        {
            content.variants.clone_from(variants);
            content.variants.sort_by_key(|variant| variant.encoding);
        }
    }
    Ok(())
}

fn make(task: &Task<'_>, folder: &Path) -> Result<Option<MadeVariant>, PublishError> {
    let content = task.content;
    let disk = variant_path(folder, &content.digest, task.encoding);
    let is_right =
        || decompresses_to(&disk, task.encoding, content.length, &content.digest).unwrap_or(false);
    match task.known {
        Some(0) => return Ok(None),
        Some(length) if fs::metadata(&disk).is_ok_and(|m| m.len() == length) && is_right() => {}
        _ => {
            let source = &content.file.disk;
            let made = compress(source, content.length, task.encoding, &disk)?;
            if made.is_none() {
                return Ok(None);
            }
            if !is_right() {
                return Err(PublishError::Changed(source.clone()));
            }
        }
    }
    let forecast = content.hashes.as_ref().map(|hashes| hashes.piece_length);
    let read = read_once(&disk, forecast, |_| {})?;
    Ok(Some(MadeVariant {
        encoding: task.encoding,
        disk,
        length: read.length,
        digest: read.digest,
        hashes: read.hashes,
    }))
}

/// Removes variants of content that is no longer published.
pub(super) fn remove_stale(
    folder: &Path,
    tried: &BTreeMap<Digest, Tried>,
) -> Result<(), PublishError> {
    for entry in fs::read_dir(folder).map_err(PublishError::read(folder))? {
        let path = entry.map_err(PublishError::read(folder))?.path();
        let kept = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| {
                let Some((digest, extension)) = name.split_once('.') else {
                    return false;
                };
                let Ok(digest) = digest.parse::<Digest>() else {
                    return false;
                };
                tried.get(&digest).is_some_and(|lengths| {
                    lengths
                        .iter()
                        .any(|(encoding, length)| *length > 0 && encoding.folder() == extension)
                })
            });
        if !kept && path.is_file() {
            fs::remove_file(&path).map_err(PublishError::write(&path))?;
        }
    }
    Ok(())
}
