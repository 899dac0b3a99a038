//! All that a file says besides its values, as a tree: copies of the file keep it.

use hdf5::{Container, Dataset, Group, Location, LocationToken};

use super::attribute::{numbers, strings};

/// Most members of a tree; real files have some thousand.
const MOST: usize = 1 << 14;
/// Most levels of groups.
const DEEPEST: usize = 32;
/// Most values of an attribute or dataset that is metadata.
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

/// The attributes and the small datasets at and below `group`. Rank-local.
pub(crate) fn of_hdf5(group: &Group) -> Metadata {
    let mut left = MOST;
    walk(group, DEEPEST, &mut left, &mut Vec::new())
}

/// Each group once, even if several links lead to it: they may lead in circles.
fn walk(group: &Group, depth: usize, left: &mut usize, seen: &mut Vec<(u64, LocationToken)>) -> Metadata {
    if let Ok(about) = group.loc_info() {
        let identity = (about.fileno, about.token);
        if seen.contains(&identity) {
            return Metadata::default();
        }
        seen.push(identity);
    }
    let mut members = attributes(group, left);
    let mut names = group.member_names().unwrap_or_default();
    names.sort();
    for name in names {
        if *left == 0 || depth == 0 {
            break;
        }
        let member = match group.dataset(&name) {
            Ok(dataset) => of_dataset(&dataset, left),
            Err(_) => match group.group(&name) {
                Ok(inner) => walk(&inner, depth - 1, left, seen),
                Err(_) => continue,
            },
        };
        if member != Metadata::default() {
            *left = left.saturating_sub(1);
            members.push((name, member));
        }
    }
    Metadata::Group(members)
}

/// The values of a small dataset, else its attributes.
fn of_dataset(dataset: &Dataset, left: &mut usize) -> Metadata {
    match values(dataset) {
        Some(values) => values,
        None => Metadata::Group(attributes(dataset, left)),
    }
}

fn attributes(location: &Location, left: &mut usize) -> Vec<(String, Metadata)> {
    let mut found = Vec::new();
    for name in location.attr_names().unwrap_or_default() {
        if *left == 0 {
            break;
        }
        if let Some(value) = location.attr(&name).ok().and_then(|value| values(&value)) {
            *left -= 1;
            found.push((name, value));
        }
    }
    found
}

/// Numbers or text; none for anything else, and for more than a few values.
fn values(container: &Container) -> Option<Metadata> {
    if container.size() > FEW {
        return None;
    }
    Some(match numbers(container) {
        Some(numbers) => match numbers[..] {
            [number] => Metadata::Number(number),
            _ => Metadata::Numbers(numbers),
        },
        None => Metadata::Text(strings(container)?.join(", ")),
    })
}
