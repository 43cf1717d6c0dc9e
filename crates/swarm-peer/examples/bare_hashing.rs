//! What hashing costs by itself: SHA-1 and SHA-256 of so many MiB that are in memory, one after the
//! other as their crates make them, on all cores. `bench/run` holds `publish` against it.

use std::hint::black_box;
use std::thread;

use sha1::{Digest as _, Sha1};
use sha2::Sha256;

/// Bytes hashed at once, as many as `publish` reads at once.
const PART_LEN: usize = 256 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arg = std::env::args().nth(1).ok_or("usage: bare_hashing MIB")?;
    let parts = arg.parse::<usize>()?.saturating_mul((1 << 20) / PART_LEN);
    let cores = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        for core in 0..cores {
            scope.spawn(move || {
                let bytes = vec![0x5a; PART_LEN];
                let (mut sha1, mut sha256) = (Sha1::new(), Sha256::new());
                for _ in (core..parts).step_by(cores) {
                    sha1.update(black_box(&bytes));
                    sha256.update(black_box(&bytes));
                }
                black_box((sha1.finalize(), sha256.finalize()));
            });
        }
    });
    Ok(())
}
