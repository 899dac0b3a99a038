//! Gatan DigitalMicrograph files, versions 3 and 4: a tree of tags, a list of images, values read by their places.

mod choose;

mod data;

mod image;

mod number;

mod tags;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};

use super::layout::Layout;
use number::Number;

pub(crate) use data::Stored;
#[cfg(test)]
pub(crate) use tags::read as read_tags;

/// The cube in a file, not yet opened for its values.
pub(crate) struct Found {
    pub layout: Layout,
    /// Every image of the file, as a user can choose by.
    pub images: Vec<String>,
    number: Number,
    little: bool,
    offset: u64,
}

/// True where `path` is a file that begins as Gatan's do.
pub(crate) fn is_dm(path: &Path) -> bool {
    // A pipe would be waited for.
    if !path.is_file() {
        return false;
    }
    let mut version = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut version));
    read.is_ok() && matches!(version, [0, 0, 0, 3 | 4])
}

/// The core-loss spectrum image of `path`, or image `wanted`, thumbnails not counted. Rank-local.
///
/// # Errors
/// A damaged file, several core-loss images, and (as [`crate::config::Invalid`]) complex or RGB ones.
pub(crate) fn find(path: &Path, wanted: Option<usize>) -> Result<Found> {
    let file = File::open(path).context("cannot be read")?;
    let length = file.metadata().context("cannot be read")?.len();
    let tree = tags::read(file, length)?;
    let format = if tree.version == 3 { "dm3" } else { "dm4" };
    let images = image::images(&tree);
    let chosen = choose::choose(&images, wanted, format)?;
    Ok(Found {
        layout: chosen.layout.checked(),
        images: images.iter().map(image::Image::describe).collect(),
        number: chosen.number,
        little: tree.little,
        offset: images[chosen.index].offset,
    })
}

/// The image of `path` that holds the low-loss spectra of `[y, x]` pixels beside a core-loss one. Rank-local.
///
/// None where no EELS image of so many pixels reaches the zero-loss peak, or several do.
///
/// # Errors
/// A damaged file.
pub(crate) fn low_loss_image(path: &Path, pixels: [usize; 2]) -> Result<Option<usize>> {
    let file = File::open(path).context("cannot be read")?;
    let length = file.metadata().context("cannot be read")?.len();
    let images = image::images(&tags::read(file, length)?);
    let mut found = (0..images.len()).filter(|&index| choose::is_low_loss(&images[index], pixels));
    Ok(match (found.next(), found.next()) {
        (Some(index), None) => Some(index),
        _ => None,
    })
}

impl Found {
    /// The type of a stored value, as numpy writes it.
    pub fn dtype(&self) -> &'static str {
        self.number.dtype()
    }

    /// Opens the values in `path`, dimension `energy` of which is the energy.
    ///
    /// # Errors
    /// A file that is gone.
    pub fn open(&self, path: &Path, energy: usize) -> Result<Stored> {
        Ok(Stored {
            file: File::open(path).context("cannot be read")?,
            offset: self.offset,
            shape: self.layout.axes.iter().map(|axis| axis.size).collect(),
            number: self.number,
            little: self.little,
            energy,
        })
    }
}
