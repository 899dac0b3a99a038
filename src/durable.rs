//! Files that are whole or absent: a kill or a full disk halfway leaves what was there before.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A file that is being written as `PATH.partial`, until [`commit`](Partial::commit) gives it its name.
///
/// For libraries that want a name to write to; [`write`](write()) and [`replace`] serve the rest.
pub struct Partial {
    /// Where it is written.
    path: PathBuf,
    /// The name that it will get.
    name: PathBuf,
}

impl Partial {
    /// Chooses the name; makes no file. Rank-local.
    pub fn of(path: &Path) -> Partial {
        let mut partial = OsString::from(path);
        partial.push(".partial");
        Partial { path: partial.into(), name: path.to_path_buf() }
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the file, which is closed by now, and gives it its name. Rank-local.
    ///
    /// # Errors
    /// A full disk, a folder that cannot be written; names the file.
    pub fn commit(&self) -> Result<()> {
        self.publish().with_context(|| format!("cannot write {}", self.name.display()))
    }

    fn publish(&self) -> Result<()> {
        File::open(&self.path)?.sync_all()?;
        fs::rename(&self.path, &self.name)?;
        // The new name is durable only when its folder is; not every file system can sync one.
        let folder = self.name.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
            log::debug!("{}: cannot be synced: {error}", folder.display());
        }
        Ok(())
    }

    /// Removes what was written, a file or a folder. Rank-local.
    pub fn discard(&self) {
        let _ = match self.path.is_dir() {
            true => fs::remove_dir_all(&self.path),
            false => fs::remove_file(&self.path),
        };
    }
}

/// Writes `bytes` to the file at `path`, whole or not at all. Rank-local.
///
/// # Errors
/// As [`replace`].
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    replace(path, |file| Ok(file.write_all(bytes.as_ref())?))
}

/// Writes what `write` writes to the file at `path`, whole or not at all. Rank-local.
///
/// # Errors
/// Those of `write`, a folder that cannot be written, a full disk: what was at `path` stays. Names the file.
pub fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let partial = Partial::of(path);
    let written = || -> Result<()> {
        let mut file = BufWriter::new(File::create(partial.path())?);
        write(&mut file)?;
        file.flush()?;
        partial.publish()
    };
    let written = written().with_context(|| format!("cannot write {}", path.display()));
    if written.is_err() {
        partial.discard();
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.txt");
        write(&path, "first").unwrap();
        let failed = replace(&path, |file| {
            file.write_all(b"half of the sec")?;
            anyhow::bail!("no more")
        });
        let message = format!("{:#}", failed.unwrap_err());
        assert_eq!(message, format!("cannot write {}: no more", path.display()));
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        write(&path, "second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
    }

    #[test]
    fn a_partial_file_gets_its_name_when_committed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.h5");
        let partial = Partial::of(&path);
        assert_eq!(partial.path(), folder.path().join("file.h5.partial"));
        fs::write(partial.path(), "whole").unwrap();
        assert!(!path.exists());
        partial.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
