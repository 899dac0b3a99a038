//! From blocks of raw rows to the counts that the models see: spikes removed, energies aligned, in electrons, spatial
//! mean taken.

use std::ops::Range;

use ndarray::{Array, Array2, Array3, ArrayView2, ArrayView3, Axis as Dim, RemoveAxis, concatenate, s};
use rayon::prelude::*;

use super::despike::despike;
use super::mean::{mean_row, valid_pixels};
use super::noise::NoiseModel;
use crate::cube::neighbourhood;
use crate::spectrum::Resampling;

/// Rows on either side that the result of a row depends on: one for the spikes, one for the mean.
pub const HALO: usize = 2;

/// What to do with a block; the same for every block of a cube.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrepareOptions {
    pub despike: bool,
    /// Channels in which spikes are not looked for: [`super::despike::zero_loss_channels`].
    pub zero_loss: Range<usize>,
    /// Side of the spatial mean in pixels: 1 or 3.
    pub window: usize,
}

/// The energies that the spectra of a block are resampled to.
#[derive(Clone, Copy)]
pub struct Onto<'a> {
    pub resampling: &'a Resampling,
    /// Number of channels of the models' energies.
    pub channels: usize,
    /// How much too high (eV) each pixel of the raw rows reads, `[row, x]`; `None` where all read right.
    pub shifts: Option<ArrayView2<'a, f32>>,
}

impl Onto<'_> {
    /// The resampled spectra of `rows`, which begin at row `first` of the raw rows; 0 where not `valid`.
    fn spectra(&self, rows: ArrayView3<f32>, first: usize, valid: ArrayView2<bool>) -> Array3<f32> {
        let (height, width, _) = rows.dim();
        let mut out = Array3::zeros((height, width, self.channels));
        out.axis_iter_mut(Dim(0)).into_par_iter().enumerate().for_each(|(row, mut line)| {
            for x in (0..width).filter(|&x| valid[[row, x]]) {
                let shift_ev = self.shifts.map_or(0.0, |map| f64::from(map[[first + row, x]]));
                let spectrum = rows.slice(s![row, x, ..]);
                self.resampling.spectrum(spectrum, shift_ev, line.row_mut(x));
            }
        });
        out
    }
}

/// Rows that are ready for the models.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// `[row, x, energy]`, electrons, not negative; 0 in pixels that are not valid.
    pub counts: Array3<f32>,
    /// `[row, x]`: pixels that are neither ignored nor missing.
    pub valid: Array2<bool>,
    /// `[row, x]`: the share of a full window's pixels that the mean is taken over; below 1 next to borders and ignored
    /// pixels.
    pub share: Array2<f32>,
    /// `[row, x]`: number of voxels that were replaced.
    pub spikes: Array2<u32>,
}

impl Prepared {
    /// These rows followed by the rows `next` of the same cube.
    pub fn followed_by(self, next: Prepared) -> Prepared {
        fn both<T: Clone, D: RemoveAxis>(first: Array<T, D>, next: Array<T, D>) -> Array<T, D> {
            concatenate(Dim(0), &[first.view(), next.view()]).expect("rows of one cube")
        }
        Prepared {
            counts: both(self.counts, next.counts),
            valid: both(self.valid, next.valid),
            share: both(self.share, next.share),
            spikes: both(self.spikes, next.spikes),
        }
    }
}

/// Prepares `rows` of the cube from `raw`, whose first row is the cube's row `first_row`.
///
/// `raw` `[row, x, energy]` in ADU must hold [`HALO`] rows before and after `rows` wherever the cube has them;
/// `ignored` is `[row, x]` of the rows of `raw`. With `onto` the counts are resampled to other energies. The result of
/// a row is the same to the bit in any block.
pub fn prepare_rows(
    raw: ArrayView3<f32>,
    first_row: usize,
    rows: Range<usize>,
    ignored: ArrayView2<bool>,
    noise: &NoiseModel,
    options: &PrepareOptions,
    onto: Option<Onto>,
) -> Prepared {
    let (height, width, stored) = raw.dim();
    let channels = onto.map_or(stored, |onto| onto.channels);
    assert!(
        first_row <= rows.start && rows.end <= first_row + height,
        "rows {rows:?} lie outside of the block, which has {height} from {first_row}"
    );
    assert_eq!(ignored.dim(), (height, width), "mask and block differ");
    assert!(matches!(options.window, 1 | 3), "the spatial mean is over 1 or 3 pixels");
    let wanted = rows.start - first_row..rows.end - first_row;
    let near = wanted.start.saturating_sub(1)..(wanted.end + 1).min(height);
    let valid = valid_pixels(raw, ignored);
    let cleaned = options.despike.then(|| despike(raw, near.clone(), noise, options.zero_loss.clone()));
    let clean = match &cleaned {
        Some((clean, _)) => clean.view(),
        None => raw.slice(s![near.clone(), .., ..]),
    };
    let inner = wanted.start - near.start..wanted.end - near.start;
    let near_valid = valid.slice(s![near.clone(), ..]);
    let moved = onto.map(|onto| onto.spectra(clean, near.start, near_valid));
    let clean = moved.as_ref().map_or(clean, |moved| moved.view());
    let reach = options.window / 2;
    let share = Array2::from_shape_fn((wanted.len(), width), |(line, x)| {
        let row = inner.start + line;
        let window = s![neighbourhood(row, reach, near_valid.nrows()), neighbourhood(x, reach, width)];
        let averaged = near_valid.slice(window).iter().filter(|&&valid| valid).count();
        averaged as f32 / (options.window * options.window) as f32
    });
    let mut counts = Array3::zeros((wanted.len(), width, channels));
    counts.axis_iter_mut(Dim(0)).into_par_iter().enumerate().for_each(|(line, out)| {
        let row = inner.start + line;
        mean_row(clean, near_valid, row, options.window, noise.gain, out);
    });
    let spikes = match &cleaned {
        Some((_, spikes)) => spikes.slice(s![inner, ..]).to_owned(),
        None => Array2::zeros((wanted.len(), width)),
    };
    Prepared { counts, valid: valid.slice(s![wanted, ..]).to_owned(), share, spikes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOISE: NoiseModel = NoiseModel { gain: 1.7, read_noise: 0.5, fitted: true };

    /// Smooth counts with spikes, missing and negative voxels, whose positions depend on `salt`.
    fn cube(shape: [usize; 3], salt: usize) -> Array3<f32> {
        Array3::from_shape_fn(shape, |(y, x, e)| match (31 * y + 17 * x + 7 * e + salt) % 101 {
            0 => 1e5,
            1 => f32::NAN,
            2 => -12.5,
            3 => f32::INFINITY,
            k => 200.0 / (1.0 + e as f32) + k as f32 / 7.0,
        })
    }

    fn options(window: usize) -> PrepareOptions {
        PrepareOptions { despike: true, zero_loss: 0..1, window }
    }

    /// Rows of a cube, prepared from a block with its halo; `moved`: to other energies.
    fn block(cube: &Array3<f32>, ignored: &Array2<bool>, rows: Range<usize>, window: usize, moved: bool) -> Prepared {
        let first = rows.start.saturating_sub(HALO);
        let last = (rows.end + HALO).min(cube.dim().0);
        let (height, width, channels) = cube.dim();
        let target = axis(0.9, 1.4, channels / 2);
        let resampling = Resampling::new(&axis(0.0, 1.0, channels), &target);
        let shifts = Array2::from_shape_fn((height, width), |(y, x)| 0.3 * (y + 2 * x) as f32 - 1.0);
        let shifts = shifts.slice(s![first..last, ..]);
        prepare_rows(
            cube.slice(s![first..last, .., ..]),
            first,
            rows,
            ignored.slice(s![first..last, ..]),
            &NOISE,
            &options(window),
            moved.then_some(Onto { resampling: &resampling, channels: target.size, shifts: Some(shifts) }),
        )
    }

    fn axis(offset: f64, scale: f64, size: usize) -> crate::cube::Axis {
        crate::cube::Axis::energy_loss(offset, scale, size)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_cut_into_bands_gives_the_same_bits(
            shape in (1usize..9, 1usize..6, 1usize..12), salt in 0usize..101, cut in 0usize..9, second in 0usize..9,
            window in prop_oneof![Just(1), Just(3)], moved: bool,
        ) {
            let cube = cube(shape.into(), salt);
            let ignored = Array2::from_shape_fn((shape.0, shape.1), |(y, x)| (y * 5 + x + salt) % 7 == 0);
            let whole = block(&cube, &ignored, 0..shape.0, window, moved);
            let (a, b) = (cut.min(second).min(shape.0), cut.max(second).min(shape.0));
            let bands = [0..a, a..b, b..shape.0].map(|rows| block(&cube, &ignored, rows, window, moved));
            let counts = concatenate(Dim(0), &bands.each_ref().map(|band| band.counts.view())).unwrap();
            let valid = concatenate(Dim(0), &bands.each_ref().map(|band| band.valid.view())).unwrap();
            let spikes = concatenate(Dim(0), &bands.each_ref().map(|band| band.spikes.view())).unwrap();
            prop_assert!(counts.iter().zip(&whole.counts).all(|(a, b)| a.to_bits() == b.to_bits()));
            prop_assert_eq!((valid, spikes), (whole.valid, whole.spikes));
        }
    }

    #[test]
    fn a_spike_is_gone_before_the_mean() {
        let mut cube = Array3::from_elem((3, 3, 9), 170.0);
        cube[[1, 1, 4]] = 1e6;
        let ignored = Array2::from_elem((3, 3), false);
        let ready = block(&cube, &ignored, 0..3, 3, false);
        assert_eq!(ready.spikes.sum(), 1);
        assert!(ready.counts.iter().all(|&u| u == 100.0));
        assert!(ready.valid.iter().all(|&v| v));
    }

    #[test]
    fn without_despiking_the_spike_stays() {
        let mut cube = Array3::from_elem((1, 1, 9), 17.0);
        cube[[0, 0, 4]] = 1700.0;
        let kept = prepare_rows(
            cube.view(),
            0,
            0..1,
            Array2::from_elem((1, 1), false).view(),
            &NOISE,
            &PrepareOptions { despike: false, zero_loss: 0..0, window: 1 },
            None,
        );
        assert_eq!((kept.counts[[0, 0, 4]], kept.spikes.sum()), (1000.0, 0));
    }

    #[test]
    fn pixels_are_aligned_in_energy_before_the_mean() {
        // An edge at channel 4, one channel higher for every pixel to the right.
        let cube = Array3::from_shape_fn((3, 3, 12), |(_, x, e)| if e >= 4 + x { 170.0 } else { 17.0 });
        let shifts = Array2::from_shape_fn((3, 3), |(_, x)| 0.5 * x as f32);
        let resampling = Resampling::new(&axis(100.0, 0.5, 12), &axis(100.0, 0.5, 10));
        let ready = prepare_rows(
            cube.view(),
            0,
            0..3,
            Array2::from_elem((3, 3), false).view(),
            &NOISE,
            &options(3),
            Some(Onto { resampling: &resampling, channels: 10, shifts: Some(shifts.view()) }),
        );
        let expected = |e: usize| if e >= 4 { 100.0 } else { 10.0 };
        assert_eq!(ready.counts, Array3::from_shape_fn((3, 3, 10), |(_, _, e)| expected(e)));
    }
}
