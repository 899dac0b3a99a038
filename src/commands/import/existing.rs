//! What exists already under the name that an imported cube will get.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::archive::{Reader, Source};
use crate::output::read_text;

/// The checksum of `output` if it is a whole copy of the cube that `reader` has open; none if it is to be written.
/// Rank-local.
///
/// # Errors
/// A file that must not be replaced: the source itself, a file that is not a copy, or the copy of another cube.
pub fn finished(source: &Source, reader: &Reader, output: &Path) -> Result<Option<String>> {
    if !output.exists() {
        return Ok(None);
    }
    let shown = output.display();
    ensure!(
        fs::canonicalize(output)? != fs::canonicalize(&source.path)?,
        "{shown}: would be written over itself; choose another folder by -o"
    );
    let text = |name: &str| read_text(output, name).ok();
    let Some(checksum) = text("checksum") else {
        bail!(
            "{shown}: is there already and was not imported: it is not written over. Choose another folder by -o, or \
             move it away"
        );
    };
    if text("fingerprint") == Some(reader.fingerprint()?) {
        return Ok(Some(checksum));
    }
    // A source that has changed is copied again; the copy of another cube is kept.
    let path = absolute_path(source)?;
    let of = (text("source"), text("dataset"));
    ensure!(
        of == (Some(path), Some(reader.dataset().into())),
        "{shown}: is the copy of {} in {}: it is not written over. Choose another folder by -o",
        of.1.unwrap_or_default(),
        of.0.unwrap_or_default()
    );
    Ok(None)
}

/// The absolute path of a source, as its copy records it.
pub fn absolute_path(source: &Source) -> Result<String> {
    let path =
        std::path::absolute(&source.path).with_context(|| format!("{}: no absolute path", source.path.display()))?;
    Ok(path.display().to_string())
}
