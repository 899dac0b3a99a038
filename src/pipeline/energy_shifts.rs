//! How far the energies of each pixel of a cube are off, measured by its zero-loss peak or by its strongest edge.

use anyhow::{Context, Result, ensure};
use ndarray::{Array2, s};

use crate::comm::Comm;
use crate::config::{Align, Config, Windows};
use crate::cube::neighbourhood;
use crate::spectrum::{EdgeTemplate, Middle, find_windows, median};
use crate::stream::{Cube, CubeStatistics, Shifts, mean_spectrum};

/// The measurement fails if more than this share of the pixels that are not ignored have no shift of their own.
const MOST_UNMEASURED: f64 = 0.1;
/// A shift that differs from the median of its neighbours in the line by more than this (eV) is taken for an error.
const MOST_APART_EV: f32 = 1.0;
/// Neighbours on either side.
const NEAR: usize = 3;
/// Spectra are summed over a square of pixels that is large enough for this standard error of an edge's position, eV.
const GOOD_ERROR_EV: f64 = 0.1;
/// Pixels from the middle of the largest square to its side.
const LARGEST_REACH: usize = 4;

/// The shift of every pixel of `cube`, measured as `preprocess.align` says; none for `none`.
///
/// # Collective
/// # Errors
/// No low-loss spectra, no edge, too many pixels whose shift cannot be measured.
pub fn measure_shifts(
    comm: &Comm,
    config: &Config,
    cube: &Cube,
    statistics: &CubeStatistics,
) -> Result<Option<Shifts>> {
    let place = || format!("{}: preprocess.align", cube.info().path.display());
    let (measured, by) = match config.preprocess.align {
        Align::None => return Ok(None),
        Align::LowLoss => by_low_loss(comm, config, cube).with_context(place)?,
        Align::Edge => by_edge(comm, config, cube, statistics).with_context(place)?,
    };
    let bound_ev = config.preprocess.max_shift_ev;
    let whole = comm.gather_bands(&measured);
    let completed = whole.map(|map| complete(map, &cube.ignored, bound_ev));
    let completed = completed.unwrap_or_else(|| Ok((vec![0.0; cube.ignored.len()], 0)));
    let (mut map, unmeasured) = comm.agree(completed.with_context(place))?;
    comm.broadcast_into(&mut map);
    let unmeasured = comm.broadcast(Some(unmeasured));
    if config.preprocess.whole_channels {
        let channel = cube.dispersion();
        for shift in &mut map {
            *shift = ((f64::from(*shift) / channel).round() * channel) as f32;
        }
    }
    let [height, width] = cube.size();
    let shifts = Shifts {
        map: Array2::from_shape_vec((height, width), map).context("a map has a value for each pixel")?,
        unmeasured,
        by,
    };
    let [lowest, median, highest] = shifts.lowest_median_highest();
    if comm.is_root() {
        log::info!(
            "{}: energies read {lowest:.3} to {highest:.3} eV too high, {median:.3} in the median, by {}; {unmeasured} \
             pixels take that of their neighbours",
            cube.info().id,
            shifts.by
        );
    }
    Ok(Some(shifts))
}

/// The shifts (eV) of this rank's lines by the zero-loss peak, NaN where not measured, and what they were measured by.
///
/// # Collective
fn by_low_loss(comm: &Comm, config: &Config, cube: &Cube) -> Result<(Vec<f32>, String)> {
    let found = cube.low_loss(config).and_then(|found| {
        found.context(
            "low_loss needs the zero-loss peak: put the low-loss cube beside it as X.lowloss.hspy (or .dm4, ...), name it \
             by archive.low_loss, or take `edge`",
        )
    });
    let low_loss = comm.agree(found)?;
    let lines = cube.blocks().band(comm.rank(), comm.size());
    let ignored = cube.ignored.slice(s![lines.clone(), ..]);
    let measured = comm.agree(low_loss.zero_loss(lines, ignored))?;
    Ok((measured, format!("the zero-loss peak in {}", low_loss.path())))
}

/// The same by the first edge of the cube's mean spectrum.
///
/// # Collective
fn by_edge(comm: &Comm, config: &Config, cube: &Cube, statistics: &CubeStatistics) -> Result<(Vec<f32>, String)> {
    let found = mean_spectrum(comm, std::slice::from_ref(cube), statistics)?;
    let mean: Vec<f64> = (found.shares.iter()).map(|share| share * found.electrons_per_pixel).collect();
    let windows = match &config.score.windows {
        Windows::List(windows) => windows.clone(),
        Windows::Auto => find_windows(&cube.energy, &mean),
    };
    let window =
        windows.first().context("no edge is found in the mean spectrum; name one by score.windows, or take `none`")?;
    let range = [window.background_ev[0], window.range_ev[1]];
    let bound_ev = config.preprocess.max_shift_ev;
    let template = EdgeTemplate::new(&cube.energy, &mean, range, bound_ev).with_context(|| {
        format!(
            "the edge {} lies too near to the end of the energies, or is too weak; lower preprocess.max_shift_ev, name \
             another by score.windows, or take `none`",
            window.name
        )
    })?;
    let side = config.preprocess.spatial_mean;
    let reach = (side / 2..=LARGEST_REACH)
        .find(|reach| template.error_ev() / (2 * reach + 1) as f64 <= GOOD_ERROR_EV)
        .unwrap_or(LARGEST_REACH);
    let measured = comm.agree(edge_shifts(comm, cube, statistics, &template, reach, side))?;
    let by = format!("{} over {} x {} pixels", window.name, 2 * reach + 1, 2 * reach + 1);
    Ok((measured, by))
}

/// The shifts of this rank's lines, from means over the pixels up to `reach` away; `side` is that of the spatial mean that
/// was taken before. Rank-local.
fn edge_shifts(
    comm: &Comm,
    cube: &Cube,
    statistics: &CubeStatistics,
    template: &EdgeTemplate,
    reach: usize,
    side: usize,
) -> Result<Vec<f32>> {
    let ([height, width], blocks) = (cube.size(), cube.blocks());
    // The spatial mean reaches beyond the middle of its pixels already.
    let reach = reach - side / 2;
    let mut found = Vec::new();
    for block in blocks.owned(comm.rank(), comm.size()) {
        let rows = blocks.rows(block);
        let first = rows.start.saturating_sub(reach);
        let read = cube.lines(first..(rows.end + reach).min(height), &statistics.noise)?;
        for (y, x) in rows.flat_map(|y| (0..width).map(move |x| (y - first, x))) {
            if !read.valid[[y, x]] {
                found.push(f32::NAN);
                continue;
            }
            let mut spectrum = vec![0f64; cube.energy.size];
            let mut pixels = 0.0;
            let ys = neighbourhood(y, reach, read.valid.nrows());
            let near = ys.flat_map(|y| neighbourhood(x, reach, width).map(move |x| (y, x)));
            for (y, x) in near.filter(|&(y, x)| read.valid[[y, x]]) {
                let counts = read.counts.slice(s![y, x, template.range()]);
                for (sum, &count) in spectrum[template.range()].iter_mut().zip(counts) {
                    *sum += f64::from(count);
                }
                pixels += 1.0;
            }
            spectrum.iter_mut().for_each(|sum| *sum /= pixels);
            // Spatial means overlap, so the pixels summed here may be fewer than those of a single mean.
            let pixels = f64::max(pixels, f64::from(read.share[[y, x]]) * (side * side) as f64);
            let shift = template.shift_ev(&spectrum, pixels);
            found.push(shift.map_or(f32::NAN, |shift| shift as f32));
        }
    }
    Ok(found)
}

/// Completes the whole map `[y, x]` of `measured` shifts: pixels without a plausible one take the median of their
/// neighbours in the line; NaN where `ignored`. Gives how many pixels that were. Rank-local.
///
/// # Errors
/// Too many of them.
fn complete(measured: Vec<f32>, ignored: &Array2<bool>, bound_ev: f64) -> Result<(Vec<f32>, usize)> {
    let width = ignored.ncols();
    let mut map = measured;
    for (shift, &ignored) in map.iter_mut().zip(ignored) {
        if ignored || f64::from(shift.abs()) > bound_ev {
            *shift = f32::NAN;
        }
    }
    let before = map.clone();
    for (line, before) in map.chunks_mut(width).zip(before.chunks(width)) {
        for (x, shift) in line.iter_mut().enumerate() {
            let near = lower_median(&before[neighbourhood(x, NEAR, width)]);
            if near.is_some_and(|near| (*shift - near).abs() > MOST_APART_EV) {
                *shift = f32::NAN;
            }
        }
    }
    let counting = ignored.iter().filter(|&&ignored| !ignored).count();
    let unmeasured = counting - map.iter().filter(|shift| shift.is_finite()).count();
    ensure!(
        unmeasured as f64 <= MOST_UNMEASURED * counting as f64,
        "the shift of {unmeasured} of {counting} pixels cannot be told, or is beyond preprocess.max_shift_ev: {bound_ev}; \
         raise that, ignore those pixels, or take `none`"
    );
    let whole = lower_median(&map).unwrap_or(0.0);
    let found = map.clone();
    let lines = map.chunks_mut(width).zip(found.chunks(width));
    for ((line, found), ignored) in lines.zip(ignored.outer_iter()) {
        for (x, shift) in line.iter_mut().enumerate().filter(|&(x, _)| !ignored[x]) {
            if shift.is_nan() {
                let near = &found[neighbourhood(x, NEAR, width)];
                *shift = lower_median(near).or_else(|| lower_median(found)).unwrap_or(whole);
            }
        }
    }
    Ok((map, unmeasured))
}

/// The lower median of the finite values; `None` where there are none.
fn lower_median(values: &[f32]) -> Option<f32> {
    let median = median(values.iter().copied().filter(|v| v.is_finite()), Middle::Lower);
    median.is_finite().then_some(median as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_without_a_shift_take_their_neighbours() {
        let ignored = Array2::from_shape_fn((3, 10), |(y, x)| (y, x) == (2, 9));
        // The high tension jumps in the middle of the second line: that is no outlier.
        let mut measured: Vec<f32> = (0..30).map(|i| if i < 15 { 0.25 } else { 4.0 }).collect();
        measured[3] = f32::NAN;
        measured[22] = -9.0;
        let (map, unmeasured) = complete(measured.clone(), &ignored, 10.0).unwrap();
        assert_eq!(unmeasured, 2);
        assert!(map[29].is_nan());
        let expected = |i: usize| if i < 15 { 0.25 } else { 4.0 };
        assert!((0..29).all(|i| map[i] == expected(i)), "{map:?}");

        // Half of the pixels are beyond the bound.
        let message = complete(measured, &ignored, 3.0).unwrap_err().to_string();
        assert!(message.contains("max_shift_ev: 3"), "{message}");
    }
}
