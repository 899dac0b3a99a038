//! NeXus files: signals as `NXdata` with axes, for programs that know that format and not HyperSpy's.

use std::path::Path;

use anyhow::{Context, Result};
use hdf5::types::VarLenUnicode;
use hdf5::{File, Location};
use ndarray::{Array1, ArrayD, Ix2, s};

use super::hspy::{GZIP, set, set_text};
use crate::cube::Axis;
use crate::durable::Partial;

/// A file under way, `PATH.partial` until it is finished. Rank-local.
pub struct NexusWriter {
    partial: Partial,
    file: File,
    first: Option<String>,
}

impl NexusWriter {
    /// # Errors
    /// A folder that cannot be written.
    pub fn create(path: &Path) -> Result<NexusWriter> {
        let partial = Partial::of(path);
        let file = File::with_options()
            .with_fapl(|fapl| fapl.file_locking(false))
            .create(partial.path())
            .with_context(|| format!("cannot write {}", partial.path().display()))?;
        set_text(&file, "NX_class", "NXroot")?;
        set_text(&file, "default", "entry")?;
        let entry = file.create_group("entry")?;
        set_text(&entry, "NX_class", "NXentry")?;
        Ok(NexusWriter { partial, file, first: None })
    }

    /// Adds `title` with a value for each place of `axes`: all of one or two dimensions is `plane(0)`, three come plane by
    /// plane of the first.
    ///
    /// # Errors
    /// Values that cannot be had, or of another shape; a full disk.
    pub fn add(&mut self, title: &str, axes: &[Axis], plane: impl Fn(usize) -> Result<ArrayD<f32>>) -> Result<()> {
        // Names of NeXus are those of variables; they may not begin with a digit.
        let letter = |c: char| if c.is_alphanumeric() { c } else { '_' };
        let name: String = "map_".chars().chain(title.chars().map(letter)).collect();
        let group = self.file.create_group(&format!("entry/{name}"))?;
        let shape: Vec<usize> = axes.iter().map(|axis| axis.size).collect();
        let mut chunk = shape.clone();
        if chunk.len() > 2 {
            chunk[0] = 1;
        }
        let values =
            group.new_dataset::<f32>().shape(&shape[..]).chunk(chunk).shuffle().deflate(GZIP).create("data")?;
        if shape.len() > 2 {
            for index in 0..shape[0] {
                let part = plane(index)?.into_dimensionality::<Ix2>()?;
                values.write_slice(&part, s![index, .., ..])?;
            }
        } else {
            values.write(&plane(0)?)?;
        }
        set_text(&group, "NX_class", "NXdata")?;
        set_text(&group, "signal", "data")?;
        set_text(&group, "title", title)?;
        let mut names = Vec::new();
        for (i, axis) in axes.iter().enumerate() {
            let name = match axis.name.as_str() {
                "" => format!("dim{i}"),
                name => name.to_lowercase().replace([' ', '/'], "_"),
            };
            let places = group.new_dataset_builder().with_data(&axis.values()).create(&name[..])?;
            if !axis.units.is_empty() {
                set_text(&places, "units", &axis.units)?;
            }
            set(&group, &format!("{name}_indices"), &(i as i64))?;
            names.push(name);
        }
        set_texts(&group, "axes", &names)?;
        self.first.get_or_insert(name);
        Ok(())
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// A full disk.
    pub fn finish(self) -> Result<()> {
        if let Some(first) = &self.first {
            let entry = self.file.group("entry")?;
            set_text(&entry, "default", first)?;
        }
        self.file.close()?;
        self.partial.commit()
    }
}

fn set_texts(place: &Location, name: &str, texts: &[String]) -> Result<()> {
    let texts: Result<Vec<VarLenUnicode>, _> = texts.iter().map(|text| text.parse()).collect();
    let texts = Array1::from(texts.context("a name with a NUL")?);
    place
        .new_attr_builder()
        .with_data(&texts)
        .create(name)
        .with_context(|| format!("attribute {name} cannot be written"))?;
    Ok(())
}
