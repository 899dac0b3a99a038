//! What a file tells beside its values, as a tree of names: kept with copies of it.

use hdf5::types::TypeDescriptor;
use hdf5::{Container, Dataset, Group, Location};

use super::attribute::strings;

/// Members of a tree, at most: real files have some thousand.
const MOST: usize = 1 << 14;
/// Groups deep, at most.
const DEEPEST: usize = 32;
/// Values of a dataset that is metadata, at most.
const FEW: usize = 16;

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Metadata {
    /// Members in stored order.
    Group(Vec<(String, Metadata)>),
    Number(f64),
    Numbers(Vec<f64>),
    Text(String),
}

impl Default for Metadata {
    fn default() -> Self {
        Metadata::Group(Vec::new())
    }
}

/// The attributes and the few-valued datasets at and below `group`. Rank-local.
pub(crate) fn of_hdf5(group: &Group) -> Metadata {
    let mut left = MOST;
    walk(group, DEEPEST, &mut left)
}

fn walk(group: &Group, depth: usize, left: &mut usize) -> Metadata {
    let mut members = attributes(group, left);
    let mut names = group.member_names().unwrap_or_default();
    names.sort();
    for name in names {
        if *left == 0 || depth == 0 {
            break;
        }
        let member = match group.dataset(&name) {
            Ok(dataset) => of_dataset(&dataset, left),
            _ => match group.group(&name) {
                Ok(inner) => walk(&inner, depth - 1, left),
                _ => {
                    continue;
                }
            },
        };
        if member != Metadata::default() {
            *left = left.saturating_sub(1);
            members.push((name, member));
        }
    }
    Metadata::Group(members)
}

/// Its values, where they are few, else its attributes.
fn of_dataset(dataset: &Dataset, left: &mut usize) -> Metadata {
    match values(dataset) {
        Some(values) => values,
        None => Metadata::Group(attributes(dataset, left)),
    }
}

fn attributes(place: &Location, left: &mut usize) -> Vec<(String, Metadata)> {
    let mut found = Vec::new();
    for name in place.attr_names().unwrap_or_default() {
        if *left == 0 {
            break;
        }
        if let Some(value) = place.attr(&name).ok().and_then(|value| values(&value)) {
            *left -= 1;
            found.push((name, value));
        }
    }
    found
}

/// Numbers or text; none for what is neither, and for more than a few.
fn values(container: &Container) -> Option<Metadata> {
    if container.size() > FEW {
        return None;
    }
    match container.dtype().ok()?.to_descriptor().ok()? {
        TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) | TypeDescriptor::Float(_) => {
            let numbers = container.read_raw::<f64>().ok()?;
            Some(match numbers[..] {
                [number] => Metadata::Number(number),
                _ => Metadata::Numbers(numbers),
            })
        }
        _ => Some(Metadata::Text(strings(container)?.join(", "))),
    }
}
