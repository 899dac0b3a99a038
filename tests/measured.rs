//! The preprocessing of measured cubes: noise, spikes and vacuum that it must find, and peaks that it must keep.

use coreloss::archive::{Options, Reader};
use coreloss::cube::Axis;
use coreloss::preprocess::despike::{despike, zero_loss_channels};
use coreloss::preprocess::noise::{NoiseModel, NoiseStatistics};
use coreloss::preprocess::vacuum::{pixel_totals, signal_floor, vacuum_threshold};
use coreloss::simulate::detector::{Detector, SPREAD};
use coreloss::simulate::random::{Purpose, Randomness};
use coreloss::spectrum::find_windows;
use ndarray::{Array1, Array2, Array3, Axis as Dim};

use crate::common::measured_data;

/// The energies of a measured cube from `from_ev` on, and its values `[y, x, energy]`; `None` where it is absent.
fn measured(name: &str, from_ev: f64) -> Option<(Axis, Array3<f32>)> {
    let path = measured_data()?.join("real").join(name);
    let reader = Reader::open(&path, &Options::default()).expect("a measured cube opens");
    let [rows, columns, _] = reader.info().shape();
    let energy = &reader.info().energy;
    let channels = energy.indices(from_ev, f64::INFINITY);
    let raw = reader.read(0..rows, 0..columns, channels.clone());
    Some((energy.slice(channels), raw.expect("a measured cube can be read")))
}

fn fit(raw: &Array3<f32>) -> NoiseModel {
    let mut statistics = NoiseStatistics::default();
    statistics.add(raw.view());
    statistics.fit()
}

fn spike_share(raw: &Array3<f32>, noise: &NoiseModel, zero_loss_end: usize) -> f64 {
    let spikes = despike(raw.view(), 0..raw.dim().0, noise, 0..zero_loss_end).1;
    spikes.iter().map(|&n| n as f64).sum::<f64>() / raw.len() as f64
}

#[test]
fn the_nanocubes_have_noise_no_spikes_and_97_vacuum_pixels() {
    let Some((_, raw)) = measured("fe_oxide_nanocubes.hspy", 0.0) else {
        return;
    };
    let noise = fit(&raw);
    let share = spike_share(&raw, &noise, 0);
    let totals = pixel_totals(raw.view());
    let totals = totals.as_slice().expect("a new array is contiguous");
    let threshold = vacuum_threshold(totals).expect("there is vacuum beside the cubes");
    let vacuum = totals.iter().filter(|&&t| t < threshold).count();
    let dark = totals.iter().filter(|&&t| t <= signal_floor(totals)).count();
    println!("nanocubes: {noise:?}, spikes {share:.1e}, vacuum {vacuum}, below the floor {dark}");
    assert!(noise.fitted && (1.0..8.0).contains(&noise.gain), "{noise:?}");
    assert!(share < 1e-3, "{share}");
    assert!((90..=104).contains(&vacuum), "{vacuum}");
}

#[test]
fn the_carbon_support_and_the_zero_loss_peak_are_kept() {
    let Some((_, raw)) = measured("ca_carbon_map.hspy", f64::NEG_INFINITY) else {
        return;
    };
    let noise = fit(&raw);
    // -104.83 eV and 0.6897 eV: 15 eV is channel 173.7.
    let share = spike_share(&raw, &noise, 174);
    let totals = pixel_totals(raw.view());
    println!("ca_carbon: {noise:?}, spikes {share:.1e}");
    assert!(noise.fitted && (0.7..1.5).contains(&noise.gain), "{noise:?}");
    assert!(share < 1e-3, "{share}");
    assert_eq!(vacuum_threshold(totals.as_slice().expect("contiguous")), None);
    let core_loss = pixel_totals(raw.slice(ndarray::s![.., .., 400..]));
    assert_eq!(vacuum_threshold(core_loss.as_slice().expect("contiguous")), None);
}

/// Names of cubes, where their core losses begin (eV), and the largest share of voxels that may count as spikes.
const CUBES: [(&str, f64, f64); 4] = [
    ("fe_oxide_nanocubes.hspy", 0.0, 1e-4),
    ("ca_carbon_map.hspy", 50.0, 1e-5),
    ("sto_lsmo_interface.dm3", 0.0, 1e-4),
    ("fecr_linescan.dm3", 0.0, 1e-4),
];

#[test]
fn peaks_are_no_spikes() {
    for (name, _, most) in CUBES {
        let Some((energy, raw)) = measured(name, f64::NEG_INFINITY) else {
            return;
        };
        let noise = fit(&raw);
        let zero_loss = zero_loss_channels(&energy);
        let spikes = despike(raw.view(), 0..raw.dim().0, &noise, zero_loss).1;
        let share = f64::from(spikes.sum()) / raw.len() as f64;
        println!("{name}: {} spikes, {share:.1e} of the voxels", spikes.sum());
        assert!(share < most, "{name}: {share:.1e}");
    }
}

/// The noise model gives the variance of a voxel from its mean; here it must agree with the residual of a PCA.
#[test]
fn the_noise_model_explains_what_principal_components_leave() {
    const COMPONENTS: usize = 8;
    for (name, from_ev, _) in CUBES {
        let Some((_, raw)) = measured(name, from_ev) else {
            return;
        };
        let noise = fit(&raw);
        let (pixels, channels) = (raw.dim().0 * raw.dim().1, raw.dim().2);
        let spectra = raw.into_shape_with_order((pixels, channels)).expect("a cube is pixels by channels");
        let totals = spectra.sum_axis(Dim(1));
        let brightest = totals.iter().copied().fold(0.0, f32::max);
        let bright: Vec<usize> = (0..pixels).filter(|&i| totals[i] > 0.25 * brightest).collect();
        let spectra = spectra.select(Dim(0), &bright).mapv(f64::from);
        let (model, rest) = low_rank(&spectra, COMPONENTS);
        let (n, p, k) = (bright.len() as f64, channels as f64, COMPONENTS as f64);
        let freedom = (n - k) * (p - k) / (n * p);
        let expected = model.mapv(|level| noise.variance(level));
        let chi2 = (&rest * &rest / expected).mean().expect("there are voxels") / freedom;
        println!("{name}: {noise:?}, chi-square of a channel {chi2:.3}");
        assert!((chi2 - 1.0).abs() < 0.04, "{name}: {chi2}");
    }
}

/// The part of `spectra` `[pixel, energy]` that `k` principal components with Poisson weights describe, and the rest.
fn low_rank(spectra: &Array2<f64>, k: usize) -> (Array2<f64>, Array2<f64>) {
    let root = |means: Option<Array1<f64>>| means.expect("not empty").mapv(|m| m.max(1e-3).sqrt());
    let of_pixel = root(spectra.mean_axis(Dim(1))).insert_axis(Dim(1));
    let of_channel = root(spectra.mean_axis(Dim(0)));
    let mut rest = spectra / &of_pixel / &of_channel;
    for _ in 0..k {
        // Power iteration converges fast where there is signal; for noise any direction will do.
        let mut factor = rest.row(0).to_owned();
        for _ in 0..20 {
            factor = rest.t().dot(&rest.dot(&factor));
            factor /= factor.dot(&factor).sqrt();
        }
        let loading = rest.dot(&factor);
        for (mut row, loading) in rest.rows_mut().into_iter().zip(loading) {
            row.scaled_add(-loading, &factor);
        }
    }
    let rest = rest * &of_pixel * &of_channel;
    (spectra - &rest, rest)
}

#[test]
fn simulated_gains_come_back_and_spikes_are_found() {
    const SHAPE: [usize; 3] = [20, 20, 300];
    // The camera spreads each electron over neighbouring channels (sigma 0.6), which lowers the apparent gain by the sum
    // of the squared weights.
    let weights: Vec<f64> = (-2i32..=2).map(|i| (-0.5 * (f64::from(i) / 0.6).powi(2)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let left: f64 = weights.iter().map(|w| (w / sum).powi(2)).sum();
    for gain in [1.0, 5.0, 12.0] {
        let clean = counted(SHAPE, gain, 0.0);
        let spiky = counted(SHAPE, gain, 2e-4);
        let noise = fit(&spiky);
        let hit = ndarray::Zip::from(&clean).and(&spiky).map_collect(|a, b| a != b);
        let edited = despike(spiky.view(), 0..SHAPE[0], &noise, 0..0).0;
        let (mut hits, mut found, mut wrong) = (0, 0, 0);
        for ((&hit, &spiky), &edited) in hit.iter().zip(&spiky).zip(&edited) {
            hits += usize::from(hit);
            found += usize::from(hit && spiky != edited);
            wrong += usize::from(!hit && spiky != edited);
        }
        println!("gain {gain}: {noise:?}, {found} of {hits} spikes found, {wrong} voxels more");
        assert!((noise.gain / (gain * left) - 1.0).abs() < 0.1, "{noise:?}");
        assert!(hits > 10 && found as f64 >= 0.95 * hits as f64, "{found} of {hits}");
        assert!(wrong < 10, "{wrong}");
    }
}

/// A falling background with an edge, brighter to the right, as the simulated camera counts it. Spikes are drawn last, so
/// their rate changes nothing else.
fn counted(shape: [usize; 3], gain: f64, spike_rate: f64) -> Array3<f32> {
    let randomness = Randomness { seed: 3, cube: 0 };
    let detector = Detector::new(shape[2], gain, 1.0, spike_rate, randomness);
    let mut cube = Array3::zeros(shape);
    for (i, mut spectrum) in cube.lanes_mut(Dim(2)).into_iter().enumerate() {
        let bright = 1.0 + 0.03 * (i % shape[1]) as f32;
        let mut expected: Vec<f32> = (0..shape[2] + 2 * SPREAD)
            .map(|e| {
                let edge = if e > 150 { 120.0 } else { 0.0 };
                bright * (300.0 * (-(e as f32) / 100.0).exp() + edge)
            })
            .collect();
        let mut random = randomness.stream(Purpose::Pixel, i as u64);
        let out = spectrum.as_slice_mut().expect("energies lie side by side");
        detector.count(&mut expected, &mut random, out);
    }
    cube
}

/// The name and range of each window found in the mean spectrum of a measured cube, by name; `None` where the cube is
/// absent.
fn windows(name: &str) -> Option<Vec<(String, [f64; 2])>> {
    let (energy, raw) = measured(name, f64::NEG_INFINITY)?;
    let pixels = (raw.dim().0 * raw.dim().1) as f64;
    let sums = raw.axis_iter(Dim(2)).map(|channel| channel.iter().map(|&n| f64::from(n)).sum::<f64>());
    let mean: Vec<f64> = sums.map(|sum| sum / pixels).collect();
    let mut found: Vec<_> = find_windows(&energy, &mean).into_iter().map(|w| (w.name, w.range_ev)).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    println!("{name}: {found:?}");
    Some(found)
}

/// Whether a window begins shortly before an onset.
fn holds(range_ev: [f64; 2], onset: f64) -> bool {
    range_ev[0] < onset && onset < range_ev[0] + 14.0
}

#[test]
fn edges_are_found_and_named() {
    // The names, and the onsets as the axes read them: that of the nanocubes reads about 8 eV low.
    for (file, names, onsets) in [
        ("fe_oxide_nanocubes.hspy", &["Fe L3", "O K"][..], &[698.0, 521.0][..]),
        ("ca_carbon_map.hspy", &["C K", "Ca L3", "O K"], &[284.0, 350.0, 546.0]),
        ("fecr_linescan.dm3", &["Cr L3", "Fe L3", "O K"], &[]),
        ("sto_lsmo_interface.dm3", &["O K", "Ti L3"], &[]),
    ] {
        let Some(found) = windows(file) else { continue };
        let found_names: Vec<&str> = found.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(found_names, names, "{file}");
        for ((name, range_ev), onset) in found.iter().zip(onsets) {
            assert!(holds(*range_ev, *onset), "{file}: {name} in {range_ev:?}");
        }
        if file.starts_with("fe_oxide") {
            assert!(found[0].1[1] > 716.0 && found[0].1[1] < 740.0, "{found:?}");
        }
    }
}
