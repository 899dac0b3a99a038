//! Copies the survey image and other small images of a file, beside its cube.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use ndarray::{ArrayD, IxDyn};

use crate::archive::{Number, Options, Picture, Reader};
use crate::comm::Comm;
use crate::output::{Contents, HspyWriter, Signal, signal_path};
use crate::with_number_type;

/// Writes the small images of the file that `reader` has open, with `texts`, as `X.survey.hspy` beside `output`,
/// `X.hspy`. Gives the path; none if there are no images.
///
/// # Collective
/// # Errors
/// A source that cannot be read, a folder that cannot be written.
pub fn write(
    comm: &Comm,
    options: &Options,
    reader: &Reader,
    output: &Path,
    texts: &BTreeMap<String, String>,
) -> Result<Option<PathBuf>> {
    let (pictures, others) = comm.agree(reader.pictures(options))?;
    if comm.is_root() && !others.is_empty() {
        log::info!("{}: also holds {}; archive.image chooses one", reader.info().path.display(), others.join(", "));
    }
    if pictures.is_empty() {
        return Ok(None);
    }
    let path = output.with_extension("survey.hspy");
    let mut file = HspyWriter::create(comm, &path)?;
    let mut signals = Vec::new();
    for (i, picture) in pictures.iter().enumerate() {
        // Several may have the same title, and HyperSpy lists them in alphabetical order.
        let title = format!("{i:02} {}", picture.title);
        let name = signal_path(&title);
        with_number_type!(
            picture.dtype,
            T => write_values::<T>(comm, &mut file, &name, picture)?,
            else bail!("{title}: values of type {}", picture.dtype)
        );
        signals.push(Signal::written(&title, picture.axes.clone(), picture.signal_type));
    }
    let texts = texts.clone();
    file.finish(Contents { signals, texts })?;
    Ok(Some(path))
}

/// Writes one image, all of it from root.
///
/// # Collective
fn write_values<T: Number>(comm: &Comm, file: &mut HspyWriter, name: &str, picture: &Picture) -> Result<()> {
    let shape: Vec<usize> = picture.axes.iter().map(|axis| axis.size).collect();
    file.create_dataset::<T>(name, &shape, &shape)?;
    let values = comm.on_root(|| picture.read::<T>().map(Some))?;
    let values = values.unwrap_or_else(|| ArrayD::from_elem(IxDyn(&vec![0; shape.len()]), T::default()));
    file.write(name, &vec![0; shape.len()], values.view())
}
