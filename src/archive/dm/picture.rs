//! The small images beside the cube: the survey of the specimen, the signals of other detectors.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use ndarray::ArrayD;

use super::data::Stored;
use super::image::{Image, Values};
use super::{Parsed, choose, format_of};
use crate::archive::element::Element;
use crate::cube::Axis;

/// Bytes of an image that is small: it is read whole.
const SMALL: usize = 16 << 20;

/// A picture, a profile or a line of spectra.
pub struct Picture {
    pub title: String,
    /// One for each dimension of the values.
    pub axes: Vec<Axis>,
    /// `EELS` for spectra, else empty.
    pub signal_type: &'static str,
    /// Of a stored value, as numpy writes it.
    pub dtype: &'static str,
    stored: Stored,
}

/// The images of `path` but the cube (the core-loss one, or image `wanted`) that are small, of one or two dimensions and
/// of real numbers, in stored order; and in words the others. Rank-local.
///
/// # Errors
/// As [`super::find`].
pub(crate) fn pictures(path: &Path, wanted: Option<usize>) -> Result<(Vec<Picture>, Vec<String>)> {
    let Parsed { tree, images } = Parsed::of(path)?;
    let cube = choose::choose(&images, wanted, format_of(&tree))?.index;
    let mut pictures = Vec::new();
    let mut others = Vec::new();
    for (index, image) in images.iter().enumerate() {
        if index == cube {
            continue;
        }
        match picture(path, image, tree.little)? {
            Some(picture) => pictures.push(picture),
            None => others.push(format!("image {index} ({})", image.describe())),
        }
    }
    Ok((pictures, others))
}

fn picture(path: &Path, image: &Image, little: bool) -> Result<Option<Picture>> {
    let Values::Real(number) = image.values else {
        return Ok(None);
    };
    let shape = image.shape();
    if shape.len() > 2 || shape.iter().product::<usize>() * number.size() > SMALL {
        return Ok(None);
    }
    let mut axes = image.axes.clone();
    let energy = image.energy().ok();
    let places = (0..axes.len()).rev().filter(|&dim| energy != Some(dim));
    for (dim, name) in places.zip(["x", "y"]) {
        axes[dim].name = name.into();
        axes[dim].navigate = energy.is_some();
    }
    if let Some(dim) = energy {
        axes[dim].name = "Energy loss".into();
    }
    Ok(Some(Picture {
        title: image.title.clone(),
        signal_type: if energy.is_some() { "EELS" } else { "" },
        dtype: number.dtype(),
        stored: Stored {
            file: File::open(path).context("cannot be read")?,
            offset: image.offset,
            energy: axes.len() - 1,
            shape,
            number,
            little,
        },
        axes,
    }))
}

impl Picture {
    /// All values, as [`crate::archive::Reader::read_stored`] has them, in the order of the axes.
    ///
    /// # Errors
    /// A file that became shorter, or cannot be read.
    pub fn read<T: Element>(&self) -> Result<ArrayD<T>> {
        let whole: Vec<Range<usize>> = self.axes.iter().map(|axis| 0..axis.size).collect();
        let mut values = self.stored.read_stored(&whole)?;
        // Lines are read as planes of one line.
        while values.ndim() > whole.len() {
            values = values.index_axis_move(ndarray::Axis(0), 0);
        }
        Ok(values)
    }
}
