//! Finds the low-loss cube that was measured with a core-loss one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ndarray::s;

use super::reader::{Options, Reader};
use super::{catalogue, dm, hdf5_file, velox};

/// The zero-loss peak lies below the first of these energies, eV, and exceeds the counts above the second by the factor; no
/// background rises by as much.
const PEAK_END_EV: f64 = 20.0;
const TAIL_EV: f64 = 50.0;
const LEAST_CONTRAST: f64 = 20.0;
/// Pixels in which the peak is looked for.
const PIXELS: usize = 256;

/// Opens the low-loss cube of `cube`; none if there is none. Rank-local.
///
/// It is the first of: the file that `pattern` names relative to the cube's folder, `{}` standing for the cube's name
/// without extension; `X.lowloss.hspy` (or another format) beside the cube `X`; the low-loss image of the same Gatan or
/// Velox file; the cube itself, if it holds the zero-loss peak.
///
/// # Errors
/// A pattern that names no file; a low-loss cube that cannot be read, differs in pixels or holds no zero-loss peak.
pub fn low_loss(cube: &Reader, options: &Options, pattern: Option<&str>) -> Result<Option<Reader>> {
    let path = &cube.info().path;
    if let Some(companion) = companion(path, pattern)? {
        let plain = Options { dataset: None, image: None, ..options.clone() };
        return Reader::open(&companion, &plain)
            .and_then(|low| fitting(low, cube))
            .with_context(|| format!("the low-loss cube of {}", path.display()))
            .map(Some);
    }
    if matches!(&cube.info().format[..], "dm3" | "dm4" | "dm5") {
        let [rows, columns, _] = cube.info().shape();
        let found = dm::low_loss_image(path, [rows, columns]).with_context(|| path.display().to_string())?;
        if let Some(image) = found {
            let chosen = Options { image: Some(image), ..options.clone() };
            return Reader::open(path, &chosen).and_then(|low| fitting(low, cube)).map(Some);
        }
    }
    if cube.info().format == "velox" {
        let [rows, columns, _] = cube.info().shape();
        let found = velox::low_loss(&hdf5_file::open(path, 0)?, [rows, columns]);
        if let Some(dataset) = found.with_context(|| path.display().to_string())? {
            let chosen = Options { dataset: Some(dataset), image: None, ..options.clone() };
            return Reader::open(path, &chosen).and_then(|low| fitting(low, cube)).map(Some);
        }
    }
    if shows_zero_loss(cube)? {
        return Reader::open(path, options).map(Some);
    }
    Ok(None)
}

/// The low-loss file that `pattern` or its name makes a companion of `path`, if there is one.
fn companion(path: &Path, pattern: Option<&str>) -> Result<Option<PathBuf>> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let folder = path.parent().unwrap_or(Path::new(""));
    if let Some(pattern) = pattern {
        let named = folder.join(pattern.replace("{}", &stem));
        ensure!(named.exists(), "{}: archive.low_loss leads to {}, which is no file", path.display(), named.display());
        return Ok(Some(named));
    }
    let candidates =
        catalogue::READABLE.map(|extension| folder.join(format!("{stem}.{}{extension}", catalogue::LOW_LOSS)));
    Ok(candidates.into_iter().find(|path| path.exists()))
}

/// Whether the spectra show the zero-loss peak: an axis that begins at 0 may be one that nobody calibrated. Rank-local; reads
/// some pixels of the middle line.
///
/// # Errors
/// Unreadable data.
pub fn shows_zero_loss(reader: &Reader) -> Result<bool> {
    let info = reader.info();
    if !holds_zero_loss(reader) {
        return Ok(false);
    }
    let [rows, columns, channels] = info.shape();
    let first = columns.saturating_sub(PIXELS) / 2;
    let line = reader.read(rows / 2..rows / 2 + 1, first..columns.min(first + PIXELS), 0..channels)?;
    let total = |e: usize| line.slice(s![.., .., e]).iter().filter(|v| v.is_finite()).map(|&v| f64::from(v)).sum();
    let counts: Vec<f64> = (0..channels).map(total).collect();
    let highest = info.energy.indices(f64::NEG_INFINITY, PEAK_END_EV).map(|e| counts[e]).fold(0.0, f64::max);
    let mut beyond = counts[info.energy.indices(TAIL_EV, f64::INFINITY)].to_vec();
    beyond.sort_by(f64::total_cmp);
    Ok(beyond.get(beyond.len() / 2).is_none_or(|tail| highest > LEAST_CONTRAST * tail))
}

fn holds_zero_loss(reader: &Reader) -> bool {
    let [first, last] = reader.info().energy.span();
    first <= 0.0 && last >= 0.0
}

/// Returns `low` if it has the pixels of `cube` and the zero-loss peak.
fn fitting(low: Reader, cube: &Reader) -> Result<Reader> {
    let shown = low.info().path.display();
    let pixels = |reader: &Reader| {
        let [rows, columns, _] = reader.info().shape();
        [rows, columns]
    };
    ensure!(
        pixels(&low) == pixels(cube),
        "{shown}: it has {:?} pixels (y, x) and the cube has {:?}; low-loss and core-loss spectra belong pixel to pixel",
        pixels(&low),
        pixels(cube)
    );
    ensure!(
        holds_zero_loss(&low),
        "{shown}: its energies, from {:.1} eV, hold no zero-loss peak",
        low.info().energy.offset
    );
    Ok(low)
}
