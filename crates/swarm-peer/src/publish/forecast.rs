//! Which piece length a file's bundle will have: known for certain only when every file was read,
//! and wanted before, so that one reading gives all hashes.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use swarm_proto::geometry::BLOCK_LEN;
use swarm_proto::manifest::{SiteManifest, SitePath};
use swarm_proto::metainfo::piece_length_for;
use swarm_proto::split::{SplitItem, split};

use super::PublishConfig;
use super::compress::is_worth_trying;
use super::media::{is_compressible, media_type};
use super::walk::SourceFile;

/// For each file the piece length to hash it for; `None` for one that only needs its digest, as
/// its bundle seems to be there from the last time.
///
/// A wrong forecast costs one more reading of the file and nothing else: equal files and variants
/// may make a bundle shorter or longer than it looks.
pub(super) fn forecast(
    files: &[SourceFile],
    config: &PublishConfig,
    before: Option<&SiteManifest>,
) -> Vec<Option<u32>> {
    let quiet = before
        .map(|before| quiet(files, before))
        .unwrap_or_default();
    let lengths: Vec<u64> = files.iter().map(|file| expected(file, config)).collect();
    let block = u64::from(BLOCK_LEN);
    let items: Vec<SplitItem<'_>> = files
        .iter()
        .zip(&lengths)
        .map(|(file, length)| SplitItem {
            path: file.path.as_str(),
            weight: length.div_ceil(block).saturating_mul(block),
        })
        .collect();
    let mut forecast = vec![None; files.len()];
    for group in split(&items, &config.split) {
        let bytes = group.iter().filter_map(|at| lengths.get(*at));
        let piece_length = piece_length_for(bytes.fold(0, |sum, len| sum.saturating_add(*len)));
        for at in group {
            let hashed = files.get(at).filter(|file| !quiet.contains(&file.path));
            if let (Some(place), Some(_)) = (forecast.get_mut(at), hashed) {
                *place = Some(piece_length);
            }
        }
    }
    forecast
}

/// Bytes of a file with its variants, each of which is a quarter of it for most text.
fn expected(file: &SourceFile, config: &PublishConfig) -> u64 {
    let path = Path::new(file.path.as_str());
    let shrinks = config.variants
        && is_worth_trying(file.length)
        && is_compressible(media_type(path).as_ref());
    match shrinks {
        true => file.length.saturating_add(file.length / 2),
        false => file.length,
    }
}

/// Files that look as they did the last time, and so do all others of their bundles.
fn quiet<'b>(files: &[SourceFile], before: &'b SiteManifest) -> BTreeSet<&'b SitePath> {
    let now: HashMap<&SitePath, &SourceFile> =
        files.iter().map(|file| (&file.path, file)).collect();
    let is_same = |path: &SitePath, length: u64, modified: u64| {
        now.get(path)
            .is_some_and(|file| file.length == length && file.modified == modified)
    };
    let mut restless = BTreeSet::new();
    for (path, entry) in &before.files {
        if !is_same(path, entry.length, entry.modified) {
            restless.insert(entry.bundle);
        }
    }
    let quiet = before
        .files
        .iter()
        .filter(|(_, entry)| !restless.contains(&entry.bundle));
    quiet.map(|(path, _)| path).collect()
}
