//! Brotli and zstd forms of text, made once and kept by the digest of the content.
//!
//! Variants lie at `variants/<sha256 of the content>.<br|zst>`. The same content gives the same
//! file whatever it is called, and what lies there already is not made again.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use swarm_proto::id::Digest;
use swarm_proto::manifest::Encoding;

use super::error::PublishError;
use super::files::temporary;

/// Below this, headers outweigh what compression saves.
const LENGTH_MIN: u64 = 256;

/// Up to this, the slow settings are worth their time; a larger file gets the quick ones.
const THOROUGH_LENGTH_MAX: u64 = 1024 * 1024;

/// Up to this, brotli 8 makes of pages what brotli 9 does to one in two thousand bytes, without
/// filling 32 MiB of hash table for each.
const SMALL_LENGTH_MAX: u64 = 64 * 1024;

/// A variant must be smaller than this share of the file, in percent, to be kept: a bridge, a
/// peer and every visitor carry each variant's padding and hashes.
const KEPT_PERCENT_MAX: u64 = 95;

/// Whether a file of that length may get variants at all.
pub(super) fn is_worth_trying(length: u64) -> bool {
    length >= LENGTH_MIN
}

/// Where a variant of some content lies.
pub(super) fn variant_path(folder: &Path, content: &Digest, encoding: Encoding) -> PathBuf {
    folder.join(format!("{content}.{}", encoding.folder()))
}

/// Makes a variant of `source` at `target`; `None` when it is not enough smaller, and then there
/// is no file. Otherwise its length.
pub(super) fn compress(
    source: &Path,
    length: u64,
    encoding: Encoding,
    target: &Path,
) -> Result<Option<u64>, PublishError> {
    let temporary = temporary(target);
    let made = (|| {
        let input = BufReader::with_capacity(1 << 16, File::open(source)?);
        let output = BufWriter::with_capacity(1 << 16, File::create_new(&temporary)?);
        encode(input, length, encoding, output)?;
        let compressed = fs::metadata(&temporary)?.len();
        if compressed.saturating_mul(100) > length.saturating_mul(KEPT_PERCENT_MAX) {
            fs::remove_file(&temporary)?;
            return Ok(None);
        }
        fs::rename(&temporary, target)?;
        Ok(Some(compressed))
    })();
    made.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        PublishError::write(target)(error)
    })
}

fn encode(
    mut input: impl io::BufRead,
    length: u64,
    encoding: Encoding,
    mut output: impl io::Write,
) -> io::Result<()> {
    match encoding {
        Encoding::Brotli => {
            let quality = match length {
                length if length <= SMALL_LENGTH_MAX => 8,
                length if length <= THOROUGH_LENGTH_MAX => 9,
                _ => 6,
            };
            let params = brotli::enc::BrotliEncoderParams {
                quality,
                lgwin: 22,
                size_hint: usize::try_from(length).unwrap_or(0),
                ..Default::default()
            };
            brotli::BrotliCompress(&mut input, &mut output, &params)?;
        }
        Encoding::Zstd => {
            let level = if length <= THOROUGH_LENGTH_MAX {
                19
            } else {
                11
            };
            let mut encoder = zstd::Encoder::new(&mut output, level)?;
            encoder.set_pledged_src_size(Some(length))?;
            // RFC 9659: browsers take windows up to 8 MiB.
            encoder.window_log(23)?;
            io::copy(&mut input, &mut encoder)?;
            encoder.finish()?;
        }
    }
    output.flush()
}

/// Decompresses a variant again and says whether that is the content with this digest; of one that
/// is too long, no more is read than shows it.
pub(super) fn decompresses_to(
    variant: &Path,
    encoding: Encoding,
    length: u64,
    digest: &Digest,
) -> io::Result<bool> {
    let input = BufReader::with_capacity(1 << 16, File::open(variant)?);
    let limit = length.saturating_add(1);
    let mut hash = Sha256::new();
    let read = match encoding {
        Encoding::Brotli => {
            let mut decoder = brotli::Decompressor::new(input, 1 << 16).take(limit);
            io::copy(&mut decoder, &mut HashWriter(&mut hash))?
        }
        Encoding::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(input)?.take(limit);
            io::copy(&mut decoder, &mut HashWriter(&mut hash))?
        }
    };
    Ok(read == length && hash.finalize().as_slice() == digest.as_bytes())
}

struct HashWriter<'h>(&'h mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_decompress_to_what_they_were_made_of() {
        let folder = tempfile::tempdir().unwrap();
        let text = "A page of a site, and again. ".repeat(2000);
        let source = folder.path().join("page.html");
        fs::write(&source, &text).unwrap();
        let digest = Digest::of(text.as_bytes());
        let length = text.len() as u64;
        for encoding in Encoding::ALL {
            let target = variant_path(folder.path(), &digest, encoding);
            let made = compress(&source, length, encoding, &target).unwrap();
            assert_eq!(made, Some(fs::metadata(&target).unwrap().len()));
            assert!(decompresses_to(&target, encoding, length, &digest).unwrap());
            assert!(!decompresses_to(&target, encoding, length - 1, &digest).unwrap());
            let other = Digest::of(b"another");
            assert!(!decompresses_to(&target, encoding, length, &other).unwrap());
            let again = folder.path().join("again");
            compress(&source, length, encoding, &again).unwrap();
            assert_eq!(fs::read(&again).unwrap(), fs::read(&target).unwrap());
        }
    }

    #[test]
    fn what_does_not_get_smaller_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("noise.txt");
        let noise: Vec<u8> = (0..200_u32)
            .flat_map(|n| *Digest::of(&n.to_be_bytes()).as_bytes())
            .collect();
        fs::write(&source, &noise).unwrap();
        for encoding in Encoding::ALL {
            let target = folder.path().join("variant");
            let made = compress(&source, noise.len() as u64, encoding, &target).unwrap();
            assert_eq!(made, None);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
