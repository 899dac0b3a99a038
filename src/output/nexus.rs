//! Writes NeXus files: signals as `NXdata` with axes, for programs that do not read HyperSpy's format.

use std::path::Path;

use anyhow::{Context, Result};
use hdf5::File;
use ndarray::{ArrayD, Ix2, s};

use super::attribute::{set, set_text, set_texts};
use super::hspy::GZIP;
use crate::cube::Axis;
use crate::durable::Partial;

/// A file being written, `PATH.partial` until it is finished. Rank-local.
pub struct NexusWriter {
    partial: Partial,
    file: File,
    first: Option<String>,
}

impl NexusWriter {
    /// Starts `path`.
    ///
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

    /// Adds the signal `title` over one to three `axes`: `plane(0)` holds all of one or two dimensions, `plane(i)` index `i`
    /// of the first of three.
    ///
    /// # Errors
    /// Those of `plane`; values of another shape; a full disk.
    pub fn add(&mut self, title: &str, axes: &[Axis], plane: impl Fn(usize) -> Result<ArrayD<f32>>) -> Result<()> {
        // NeXus names look like variables: letters, digits and underscores, no digit first.
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
            let values = group.new_dataset_builder().with_data(&axis.values()).create(&name[..])?;
            if !axis.units.is_empty() {
                set_text(&values, "units", &axis.units)?;
            }
            set(&group, &format!("{name}_indices"), &(i as i64))?;
            names.push(name);
        }
        set_texts(&group, "axes", &names)?;
        self.first.get_or_insert(name);
        Ok(())
    }

    /// Closes the file and gives it its name.
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
