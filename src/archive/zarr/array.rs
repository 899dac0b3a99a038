//! The chunks of a Zarr array: files in a folder, each decoded whole.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail, ensure};

use super::node::{self, ArrayMetadata, Node};

/// More bytes than compressors add to noise.
const OVERHEAD: u64 = 1 << 16;

/// An array whose chunks stay in its folder.
pub(crate) struct ZarrArray {
    folder: PathBuf,
    about: ArrayMetadata,
}

impl ZarrArray {
    /// The array in `folder`. Rank-local.
    ///
    /// # Errors
    /// No array there, or one that is not read; names what is wrong.
    pub fn open(folder: &Path) -> Result<ZarrArray> {
        match node::read(folder)? {
            Some((Node::Array(about), _)) => Ok(ZarrArray { folder: folder.to_path_buf(), about: about? }),
            _ => bail!("no Zarr array at {}", folder.display()),
        }
    }

    pub(super) fn new(folder: &Path, about: ArrayMetadata) -> ZarrArray {
        ZarrArray { folder: folder.to_path_buf(), about }
    }

    pub fn about(&self) -> &ArrayMetadata {
        &self.about
    }

    /// Decodes the chunk at `origin` into `bytes`, which becomes as long as a whole chunk: little-endian values in C order.
    /// A chunk without a file has the fill value throughout. Rank-local.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged; names it.
    pub fn decode(&self, origin: &[u64], bytes: &mut Vec<u8>) -> Result<()> {
        let about = &self.about;
        let size = about.number.size();
        bytes.resize(about.chunk.iter().product::<usize>() * size, 0);
        let path = self.path_of(origin);
        let shown = || format!("{}; copy it again", path.display());
        let found = match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bytes.chunks_exact_mut(size).for_each(|value| value.copy_from_slice(&about.fill));
                return Ok(());
            }
            found => found.with_context(shown)?,
        };
        ensure!(found.len() <= bytes.len() as u64 * 2 + OVERHEAD, "{}: is too long for a chunk", path.display());
        let stored = fs::read(&path).with_context(shown)?;
        match about.codec {
            Some(codec) => codec.decode(&stored, bytes).with_context(shown)?,
            None => {
                ensure!(stored.len() == bytes.len(), "{} bytes, not {}: {}", stored.len(), bytes.len(), shown());
                bytes.copy_from_slice(&stored);
            }
        }
        if !about.little {
            bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        Ok(())
    }

    fn path_of(&self, origin: &[u64]) -> PathBuf {
        let about = &self.about;
        let indices = origin.iter().zip(&about.chunk).map(|(&at, &chunk)| (at / chunk as u64).to_string());
        let prefix = Some(about.prefix.to_string()).filter(|prefix| !prefix.is_empty());
        let parts: Vec<String> = prefix.into_iter().chain(indices).collect();
        self.folder.join(parts.join(&about.separator))
    }
}

/// Bytes of all files at and below `folder`, and when the last of them was changed, ns. Rank-local.
///
/// # Errors
/// A folder that cannot be listed.
pub(crate) fn size_and_time(folder: &Path) -> Result<(u64, u128)> {
    let (mut size, mut latest) = (0, 0);
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            // Does not follow links, which may lead in circles.
            let about = entry.metadata()?;
            if about.is_dir() {
                folders.push(entry.path());
                continue;
            }
            size += about.len();
            let changed = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            latest = latest.max(changed.as_nanos());
        }
    }
    Ok((size, latest))
}
