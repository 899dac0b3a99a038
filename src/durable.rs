//! Files that are whole or not there: what stops halfway, by a kill or a full disk, leaves what was there before.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Writes the file at `path` by the name `PATH.partial` first: under its own name it is whole, and on the disk. Rank-local.
///
/// # Errors
/// Those of `write`, a folder that cannot be written, a full disk: what was at `path` is as it was. They do not name it.
pub fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut partial = OsString::from(path);
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = written(&partial, write).and_then(|()| Ok(fs::rename(&partial, path)?));
    if written.is_err() {
        // Of no use to anyone, and where the disk is full its room is.
        let _ = fs::remove_file(&partial);
        return written;
    }
    // The new name is durable only when its folder is; not every file system can do that.
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
        log::debug!("{}: cannot be synced: {error}", folder.display());
    }
    Ok(())
}

fn written(partial: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut file = BufWriter::new(File::create(partial)?);
    write(&mut file)?;
    file.flush()?;
    Ok(file.get_ref().sync_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.txt");
        replace(&path, |file| Ok(file.write_all(b"first")?)).unwrap();
        let failed = replace(&path, |file| {
            file.write_all(b"half of the sec")?;
            anyhow::bail!("no more")
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        replace(&path, |file| Ok(file.write_all(b"second")?)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
    }
}
