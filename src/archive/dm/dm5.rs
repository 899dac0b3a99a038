//! Gatan's DM5: the tags of DM3 and DM4 as groups and attributes of an HDF5 file, lists as groups of `[0]`, `[1]`, ...

use anyhow::Result;
use hdf5::datatype::ByteOrder;
use hdf5::{Container, Dataset, File, Group, LocationToken};

use super::tags::{Array, DEEPEST, MOST_TAGS, Tag, Tree};
use crate::archive::attribute::{numbers, strings};

/// The list of images in the root.
const IMAGES: &str = "ImageList";

/// Whether `file` is laid out as Gatan's are.
pub(crate) fn is_dm5(file: &File) -> bool {
    let first = file.group(&format!("{IMAGES}/[0]/ImageData"));
    first.is_ok_and(|first| first.link_exists("Data"))
}

/// The dataset of the image that `member` of the list holds.
pub(super) fn dataset_of(member: &str) -> String {
    format!("{IMAGES}/{member}/ImageData/Data")
}

/// Reads the tags of `file`. Rank-local.
///
/// # Errors
/// Groups that cannot be listed.
pub(super) fn read(file: &File) -> Result<Tree> {
    let mut left = MOST_TAGS;
    let root = group(file, DEEPEST, &mut left, &mut Vec::new())?;
    Ok(Tree { version: 5, little: true, root })
}

/// The tags at and below `group`; each group once, even if several links lead to it.
fn group(group_: &Group, depth: usize, left: &mut usize, seen: &mut Vec<(u64, LocationToken)>) -> Result<Tag> {
    let about = group_.loc_info()?;
    let identity = (about.fileno, about.token);
    if seen.contains(&identity) || depth == 0 {
        return Ok(Tag::Group(Vec::new()));
    }
    seen.push(identity);
    let mut members: Vec<(String, Tag)> = Vec::new();
    for name in group_.attr_names()? {
        if *left == 0 {
            break;
        }
        *left -= 1;
        if let Some(tag) = group_.attr(&name).ok().and_then(|value| value_of(&value)) {
            members.push((name, tag));
        }
    }
    for name in group_.member_names()? {
        if *left == 0 {
            break;
        }
        *left -= 1;
        if let Ok(dataset) = group_.dataset(&name) {
            members.push((name, Tag::Array(array(&dataset)?)));
        } else if let Ok(inner) = group_.group(&name) {
            members.push((name, group(&inner, depth - 1, left, seen)?));
        }
    }
    // HDF5 lists names in alphabetical order, in which [10] comes before [2].
    members.sort_by_key(|(name, _)| place_in_list(name));
    Ok(Tag::Group(members))
}

/// 2 for `[2]`; members of groups that are no lists keep their order.
fn place_in_list(name: &str) -> usize {
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.and_then(|place| place.parse().ok()).unwrap_or(0)
}

fn value_of(value: &Container) -> Option<Tag> {
    Some(match numbers(value) {
        Some(numbers) => match numbers[..] {
            [number] => Tag::Number(number),
            _ => Tag::Numbers(numbers),
        },
        None => Tag::Text(strings(value)?.join(", ")),
    })
}

fn array(dataset: &Dataset) -> Result<Array> {
    let dtype = dataset.dtype()?;
    // Chunks, and numbers of the other byte order, are left to HDF5.
    let is_plain = dtype.byte_order() != ByteOrder::BigEndian;
    Ok(Array {
        element: None,
        offset: dataset.offset().filter(|_| is_plain),
        bytes: (dataset.size() as u64).saturating_mul(dtype.size() as u64),
        text: None,
    })
}
