//! Gatan DigitalMicrograph files (DM3, DM4, and DM5, which is HDF5): a tree of tags with a list of images, one of which is the cube.
//!
//! Most cubes are stored energy first; `image` finds the energy, and [`RawArray`] reads any order as `[y, x, energy]`.

mod choose;
mod codes;
mod dm5;
mod image;
mod picture;
mod tags;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};

use super::hdf5_file;
use super::layout::Layout;
use super::metadata::Metadata;
use super::number_type::NumberType;
use super::raw_array::RawArray;
use image::Image;
use tags::{Tag, Tree};

pub(crate) use dm5::is_dm5;
pub use picture::Picture;
pub(crate) use picture::pictures;
#[cfg(test)]
pub(crate) use tags::read as read_tags;

/// The cube in a file, its values not yet opened.
pub(crate) struct Found {
    pub layout: Layout,
    /// A description of every image of the file, for users to choose by.
    pub images: Vec<String>,
    number: NumberType,
    little: bool,
    offset: Option<u64>,
}

/// Whether `path` is a file that begins as DM3 and DM4 do.
pub(crate) fn is_dm(path: &Path) -> bool {
    // Reading a pipe would block.
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
/// A damaged file; several core-loss images; (as [`Invalid`](crate::invalid::Invalid)) complex or RGB ones.
pub(crate) fn find(path: &Path, wanted: Option<usize>) -> Result<Found> {
    let Parsed { tree, images } = Parsed::of(path)?;
    let chosen = choose::choose(&images, wanted, tree.format())?;
    Ok(Found {
        layout: chosen.layout.checked(),
        images: images.iter().map(Image::describe).collect(),
        number: chosen.number,
        little: tree.little,
        offset: images[chosen.index].offset,
    })
}

/// The core-loss spectrum image of the DM5 file `file`, or image `wanted`, with the path of its dataset; its energy is not
/// checked yet. Rank-local.
///
/// # Errors
/// As [`find`].
pub(crate) fn find_dm5(file: &hdf5::File, wanted: Option<usize>) -> Result<Layout> {
    let tree = dm5::read(file)?;
    let images = image::images(&tree);
    let chosen = choose::choose(&images, wanted, tree.format())?;
    let mut layout = Layout { dataset: dm5::dataset_of(&images[chosen.index].member), ..chosen.layout };
    let (shape, stated) = (file.dataset(&layout.dataset)?.shape(), images[chosen.index].shape());
    if shape != stated {
        layout.energy = Err(format!("its data have shape {shape:?}, its tags tell {stated:?}"));
    }
    Ok(layout)
}

/// A description of every image of `path`. Rank-local.
///
/// # Errors
/// A damaged file.
pub(crate) fn described_images(path: &Path) -> Result<Vec<String>> {
    Ok(Parsed::of(path)?.images.iter().map(Image::describe).collect())
}

/// All tags of `path` except arrays. Rank-local.
///
/// # Errors
/// A damaged file.
pub(crate) fn metadata(path: &Path) -> Result<Metadata> {
    let Parsed { tree, .. } = Parsed::of(path)?;
    Ok(kept(&tree.root).unwrap_or_default())
}

/// `tag` without arrays, unknown tags and texts that are binary; none if nothing is left. Nameless members get the names
/// that HyperSpy shows.
fn kept(tag: &Tag) -> Option<Metadata> {
    Some(match tag {
        Tag::Group(members) => {
            let is_data = |name: &str, tag: &Tag| name == "Data" && matches!(tag, Tag::Array(_));
            let members = members.iter().enumerate().filter_map(|(i, (name, tag))| {
                if is_data(name, tag) {
                    return None;
                }
                let name = match &name[..] {
                    name if name.is_empty() || name.starts_with('[') => format!("TagGroup{i}"),
                    name => name.into(),
                };
                Some((name, kept(tag)?))
            });
            Metadata::Group(members.collect())
        }
        Tag::Number(number) => Metadata::Number(*number),
        Tag::Numbers(numbers) => Metadata::Numbers(numbers.clone()),
        tag => {
            let text = tag.own_text()?;
            // Short arrays of 16-bit numbers are encoded like texts.
            let is_text = |c: char| !c.is_control() || c.is_whitespace();
            text.chars().all(is_text).then(|| Metadata::Text(text.into()))?
        }
    })
}

/// The tags of a file, and the images among them.
struct Parsed {
    tree: Tree,
    images: Vec<Image>,
}

impl Parsed {
    fn of(path: &Path) -> Result<Parsed> {
        let tree = if is_dm(path) {
            let file = File::open(path).context("cannot be read")?;
            let length = file.metadata().context("cannot be read")?.len();
            tags::read(file, length)?
        } else {
            dm5::read(&hdf5_file::open(path, 0)?)?
        };
        Ok(Parsed { images: image::images(&tree), tree })
    }
}

/// The only EELS image of `path` with `pixels` `[y, x]` that reaches the zero-loss peak, or the only one of them that the tags
/// call low-loss; none if there is none, or several. Rank-local.
///
/// # Errors
/// A damaged file.
pub(crate) fn low_loss_image(path: &Path, pixels: [usize; 2]) -> Result<Option<usize>> {
    let images = Parsed::of(path)?.images;
    let reaching: Vec<usize> = (0..images.len()).filter(|&index| choose::is_low_loss(&images[index], pixels)).collect();
    // Both ranges of a dual acquisition may begin below 0.
    let tagged: Vec<usize> = reaching.iter().copied().filter(|&index| images[index].is_low_loss).collect();
    Ok(match (&reaching[..], &tagged[..]) {
        (&[index], _) | (_, &[index]) => Some(index),
        _ => None,
    })
}

impl Found {
    /// The numpy name of the stored type.
    pub fn dtype(&self) -> &'static str {
        self.number.dtype()
    }

    /// Opens the values in `path`; dimension `energy` is the energy.
    ///
    /// # Errors
    /// A file that is gone.
    pub fn open(&self, path: &Path, energy: usize) -> Result<RawArray> {
        Ok(RawArray {
            file: File::open(path).context("cannot be read")?,
            offset: self.offset.context("its values are not one run of bytes")?,
            shape: self.layout.axes.iter().map(|axis| axis.size).collect(),
            number: self.number,
            little: self.little,
            energy,
        })
    }
}
