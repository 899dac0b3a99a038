//! The small images beside the cube: the survey image of the specimen, the signals of other detectors.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use ndarray::ArrayD;

use super::image::{Image, Values};
use super::{Parsed, choose};
use crate::archive::number_type::Number;
use crate::archive::raw_array::RawArray;
use crate::cube::Axis;

/// Most bytes of a small image, which is read whole.
const SMALL: usize = 16 << 20;

/// A small image: a picture, a profile or a line of spectra.
pub struct Picture {
    pub title: String,
    /// One per dimension of the values.
    pub axes: Vec<Axis>,
    /// `EELS` for spectra, otherwise empty.
    pub signal_type: &'static str,
    /// The numpy name of the stored type.
    pub dtype: &'static str,
    stored: RawArray,
}

/// The images of `path` besides the cube, which is the core-loss image or image `wanted`: those that are small, of one or
/// two dimensions and of real numbers, in stored order; and descriptions of the others. Rank-local.
///
/// # Errors
/// As [`super::find`].
pub(crate) fn pictures(path: &Path, wanted: Option<usize>) -> Result<(Vec<Picture>, Vec<String>)> {
    let Parsed { tree, images } = Parsed::of(path)?;
    let cube = choose::choose(&images, wanted, tree.format())?.index;
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
    let (Values::Real(number), Some(offset)) = (&image.values, image.offset) else {
        return Ok(None);
    };
    let number = *number;
    let shape = image.shape();
    if shape.len() > 2 || shape.iter().product::<usize>() * number.size() > SMALL {
        return Ok(None);
    }
    let mut axes = image.axes.clone();
    let energy = image.energy().ok();
    let others = (0..axes.len()).rev().filter(|&dim| energy != Some(dim));
    for (dim, name) in others.zip(["x", "y"]) {
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
        stored: RawArray {
            file: File::open(path).context("cannot be read")?,
            offset,
            energy: axes.len() - 1,
            shape,
            number,
            little,
        },
        axes,
    }))
}

impl Picture {
    /// All values in their stored type, as [`crate::archive::Reader::read_stored`], in the order of the axes.
    ///
    /// # Errors
    /// A file that became shorter, or cannot be read.
    pub fn read<T: Number>(&self) -> Result<ArrayD<T>> {
        let whole: Vec<Range<usize>> = self.axes.iter().map(|axis| 0..axis.size).collect();
        let mut values = self.stored.read_stored(&whole)?;
        while values.ndim() > whole.len() {
            values = values.index_axis_move(ndarray::Axis(0), 0);
        }
        Ok(values)
    }
}
