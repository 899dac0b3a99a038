//! The files of a report: `report.html`, a page to explore each cube, and a PNG of each map.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::contents::{Cube, Report};
use super::explore::explore_html;
use super::figure;
use super::page::Page;
use crate::durable;

/// Writes `report.html`, a page to explore each cube, `<cube id with / replaced by __>.explore.html`, and a PNG of each map,
/// `<...>.<method>.<score>.png`, into `directory`.
///
/// `cubes` come in the order of the page, and one at a time: the first [`MOST_CUBES`](super::page::MOST_CUBES) are shown
/// in full, all are in the overview. Rank-local. Each file is whole or absent.
///
/// # Errors
/// Those of `cubes`; a map whose shape is not its cube's, naming both; a file that cannot be written.
pub fn write(directory: &Path, report: &Report, cubes: impl Iterator<Item = Result<Cube>>) -> Result<()> {
    let mut stems = HashSet::new();
    let mut page = Page::default();
    for cube in cubes {
        let cube = cube?;
        check_shapes(&cube)?;
        let stem = file_stem(&cube.name, &mut stems);
        for map in &cube.maps {
            let name = format!("{stem}.{}.{}.png", map.method, map.score);
            let bytes = figure::map_png(map, &cube).with_context(|| format!("drawing {name}"))?;
            durable::write(&directory.join(name), bytes)?;
        }
        let explore = explore_html(&cube, &page.link())?;
        let beside = explore.as_ref().map(|_| format!("{stem}.explore.html"));
        if let (Some(text), Some(name)) = (explore, &beside) {
            durable::write(&directory.join(name), text)?;
        }
        page.add(&cube, beside.as_deref().map(address).as_deref())?;
    }
    durable::write(&directory.join("report.html"), page.html(report)?)
}

/// A file name as a page leads to it.
fn address(name: &str) -> String {
    name.replace('%', "%25").replace('#', "%23").replace('?', "%3F")
}

/// Refuses a cube whose maps differ in shape: they are drawn over one another.
fn check_shapes(cube: &Cube) -> Result<()> {
    let expected = (cube.shape[0], cube.shape[1]);
    let check = |what: &str, found: (usize, usize)| {
        ensure!(
            found == expected && found.0 > 0 && found.1 > 0,
            "report of {}: the {what} has shape {found:?}, the cube {expected:?}",
            cube.name
        );
        Ok(())
    };
    check("mean image", cube.mean_image.dim())?;
    check("label map", cube.labels.dim())?;
    for property in cube.properties.iter().chain(&cube.latent) {
        check(&property.name, property.values.dim())?;
    }
    if let Some(truth) = &cube.truth {
        check("truth", truth.dim())?;
    }
    for component in &cube.components {
        check("loading", component.loading.dim())?;
    }
    for map in &cube.maps {
        check(&format!("{} map", map.title()), map.values.dim())?;
    }
    Ok(())
}

/// The stem of a cube's file names: without folders, short enough for a file system, none of those `taken`.
pub fn file_stem(name: &str, taken: &mut HashSet<String>) -> String {
    // File systems allow 255 bytes; method, score and `.partial` come after the stem.
    const MOST_BYTES: usize = 180;
    let mut stem = name.replace(['/', '\0'], "__");
    // `a/b` and `a__b` would share a file.
    if stem.len() > MOST_BYTES || !taken.insert(stem.clone()) {
        let mut end = MOST_BYTES.min(stem.len());
        while !stem.is_char_boundary(end) {
            end -= 1;
        }
        stem.truncate(end);
        stem.push_str(&format!("-{:.12x}", Sha256::digest(name)));
    }
    stem
}
