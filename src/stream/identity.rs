//! What tells whether a cube is still the one that was worked on: a file may have been overwritten since, or only copied.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cube::Cube;
use crate::config::Config;

/// Blocks of each file whose bytes count, spread over it, and their size: the whole file up to 16 MiB. Another measurement
/// differs in its noise everywhere.
const BLOCKS: u64 = 64;
const BLOCK: u64 = 256 << 10;

/// What tells whether a cube is still the one that was worked on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// A digest of the sizes and times of its files, which costs nothing to compare.
    times: String,
    /// A digest of their sizes and contents, which copies share.
    contents: String,
}

/// What a cube was used for: a truth map that is added later changes scores, but no training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Training,
    Scoring,
}

impl Identity {
    /// Of `cube` as it is now. Rank-local; reads up to 16 MiB of each of its files.
    ///
    /// # Errors
    /// A file that is gone or cannot be read.
    pub fn of(cube: &Cube, config: &Config, purpose: Use) -> Result<Identity> {
        let files = cube.files(config, purpose == Use::Scoring)?;
        Ok(Identity { times: digest(cube, &files, times)?, contents: digest(cube, &files, contents)? })
    }

    /// Whether `cube` is still the same. Rank-local.
    ///
    /// # Errors
    /// As [`Identity::of`].
    pub fn is_of(&self, cube: &Cube, config: &Config, purpose: Use) -> Result<bool> {
        let files = cube.files(config, purpose == Use::Scoring)?;
        Ok(self.times == digest(cube, &files, times)? || self.contents == digest(cube, &files, contents)?)
    }
}

fn digest(cube: &Cube, files: &[PathBuf], of: impl Fn(&Path, &mut Sha256) -> std::io::Result<()>) -> Result<String> {
    let mut hash = Sha256::new_with_prefix(cube.stored_as());
    for path in files {
        match of(path, &mut hash) {
            // A cube may have no mask, say.
            Err(error) if error.kind() == ErrorKind::NotFound => hash.update("none"),
            done => done.with_context(|| format!("{}: cannot be read any more", path.display()))?,
        }
    }
    Ok(format!("{:.32x}", hash.finalize()))
}

fn times(path: &Path, hash: &mut Sha256) -> std::io::Result<()> {
    let about = fs::metadata(path)?;
    let changed = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    hash.update(about.len().to_le_bytes());
    hash.update(changed.as_nanos().to_le_bytes());
    Ok(())
}

fn contents(path: &Path, hash: &mut Sha256) -> std::io::Result<()> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    hash.update(length.to_le_bytes());
    let mut block = vec![0; BLOCK.min(length) as usize];
    let blocks = length.div_ceil(BLOCK).min(BLOCKS);
    for i in 0..blocks {
        let start = match blocks {
            BLOCKS => (u128::from(length - BLOCK) * u128::from(i) / u128::from(BLOCKS - 1)) as u64,
            _ => i * BLOCK,
        };
        let part = &mut block[..BLOCK.min(length - start) as usize];
        file.read_exact_at(part, start)?;
        hash.update(part);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(path: &Path, of: impl Fn(&Path, &mut Sha256) -> std::io::Result<()>) -> String {
        let mut hash = Sha256::new();
        of(path, &mut hash).unwrap();
        format!("{:x}", hash.finalize())
    }

    #[test]
    fn a_copy_has_the_same_contents_and_another_time() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        // Below, at and above what is read whole.
        for length in [0, 1000, (BLOCK * BLOCKS) as usize, (BLOCK * BLOCKS) as usize + 12345] {
            let mut bytes: Vec<u8> = (0..length).map(|i| (i * i % 251) as u8).collect();
            fs::write(&one, &bytes).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(10));
            fs::write(&other, &bytes).unwrap();
            assert_eq!(hash(&one, contents), hash(&other, contents));
            assert_ne!(hash(&one, times), hash(&other, times));
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
                fs::write(&other, &bytes).unwrap();
                assert_ne!(hash(&one, contents), hash(&other, contents));
            }
        }
    }
}
