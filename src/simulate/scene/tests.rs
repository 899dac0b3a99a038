//! Scenes hold what they were asked for.

use super::*;
use crate::config::MaterialChoice;
use crate::preprocess::noise::NoiseStatistics;
use ndarray::{Array3, s};

fn anomaly(kind: AnomalyKind, amount: f64) -> Anomaly {
    Anomaly {
        kind,
        amount,
        element: None,
        valence_shift_ev: None,
        shape: crate::config::Outline::Disc,
        discs: 2,
        radius_px: [2.2, 4.2],
        concentration: None,
    }
}

fn scene(options: &SceneOptions, cube: u64) -> Scene {
    let material = options.material.clone().unwrap_or_default();
    Scene::new(options, &material.material().unwrap(), cube).unwrap()
}

fn options() -> SceneOptions {
    SceneOptions {
        shape: [24, 40, 160],
        dispersion_ev: 2.5,
        seed: 11,
        anomalies: vec![anomaly(AnomalyKind::Shift, 5.0), anomaly(AnomalyKind::Oxygen, -0.3)],
        ..Default::default()
    }
}

#[test]
fn rows_do_not_depend_on_the_order_in_which_they_are_made() {
    let forward = scene(&options(), 0);
    let rows: Vec<_> = (0..24).map(|y| forward.row(y)).collect();
    let other = scene(&options(), 0);
    for y in (0..24).rev() {
        assert_eq!(other.row(y), rows[y]);
    }
    assert_ne!(scene(&options(), 1).row(0), rows[0]);
}

#[test]
fn cubes_may_share_the_specimen_and_the_scan() {
    let clean = |specimen, scan| SceneOptions { specimen, scan, anomalies: Vec::new(), ..options() };
    let row = |options: &SceneOptions, cube| scene(options, cube).row(3).0;
    let first = row(&clean(None, None), 0);
    // The same specimen in another scan: as bright at each place, under other noise.
    let again = row(&clean(Some(0), None), 1);
    let other = row(&clean(None, None), 1);
    let brightness = |counts: &ndarray::Array2<f32>| counts.sum_axis(ndarray::Axis(1));
    let distance = |a: &ndarray::Array2<f32>| (brightness(a) - brightness(&first)).mapv(f32::abs).sum();
    assert_ne!(first, again);
    assert!(distance(&again) < 0.2 * distance(&other));
    // The same scan too: only the anomalous pixels differ.
    let changed = SceneOptions { specimen: Some(0), scan: Some(0), ..options() };
    let changed = scene(&changed, 1);
    for y in 0..24 {
        let (counts, truth) = changed.row(y);
        let clean = scene(&clean(None, None), 0).row(y).0;
        for (x, &anomaly) in truth.iter().enumerate() {
            assert_eq!(counts.row(x) == clean.row(x), anomaly == 0, "{y}, {x}");
        }
    }
}

#[test]
fn a_shuffled_cube_holds_the_same_pixels_elsewhere() {
    let shuffled = SceneOptions { shuffled: true, ..options() };
    let pixels = |options: &SceneOptions| {
        let scene = scene(options, 0);
        let mut pixels = Vec::new();
        for y in 0..24 {
            let (counts, truth) = scene.row(y);
            let spectra = counts.outer_iter().map(|pixel| pixel.mapv(f32::to_bits).to_vec());
            pixels.extend(truth.into_iter().zip(spectra));
        }
        pixels
    };
    let (mut ordered, mut mixed) = (pixels(&options()), pixels(&shuffled));
    assert_ne!(ordered, mixed);
    ordered.sort();
    mixed.sort();
    assert_eq!(ordered, mixed);
}

#[test]
fn a_noiseless_cube_is_what_is_expected() {
    let noiseless = SceneOptions { noiseless: true, ..options() };
    let (expected, counted) = (scene(&noiseless, 0).row(5).0, scene(&options(), 0).row(5).0);
    let chi: f32 = (&counted - &expected).mapv(|v| v * v).sum() / expected.sum();
    assert!((0.3..1.2).contains(&chi), "{chi}");
}

#[test]
fn the_dose_is_what_was_asked_and_truth_numbers_the_anomalies() {
    let scene = scene(&options(), 0);
    let (mut total, mut kinds) = (0.0, [0; 3]);
    for y in 0..24 {
        let (counts, truth) = scene.row(y);
        total += counts.iter().map(|&v| v as f64).sum::<f64>();
        truth.iter().for_each(|&t| kinds[t as usize] += 1);
    }
    let mean = total / (24.0 * 40.0);
    assert!((mean / 85_000.0 - 1.0).abs() < 0.1, "{mean}");
    // Two discs of radius 2.2 to 4.2 hold 2 * 15 to 2 * 56 pixels.
    assert!(kinds[1..].iter().all(|&n| (20..120).contains(&n)), "{kinds:?}");
}

#[test]
fn the_smallest_cubes_are_made_too() {
    for shape in [[1, 1, 1], [1, 5, 3], [4, 1, 2]] {
        let small = SceneOptions { shape, ..Default::default() };
        let (counts, truth) = scene(&small, 0).row(0);
        assert!(counts.iter().all(|v| v.is_finite()));
        assert_eq!((counts.dim(), truth), ((shape[1], shape[2]), vec![0; shape[1]]));
    }
}

/// Mean spectrum of the pixels with this truth.
fn mean_spectrum(scene: &Scene, label: i32) -> Vec<f64> {
    let mut sum = vec![0.0; scene.shape()[2]];
    for y in 0..scene.shape()[0] {
        let (counts, truth) = scene.row(y);
        for (spectrum, _) in counts.outer_iter().zip(truth).filter(|(_, t)| *t == label) {
            sum.iter_mut().zip(spectrum).for_each(|(s, &v)| *s += v as f64);
        }
    }
    let total: f64 = sum.iter().sum();
    sum.iter().map(|v| v / total).collect()
}

#[test]
fn anomalies_change_their_own_edge() {
    let mut options = options();
    options.energy_drift_ev = 0.0;
    options.anomalies[0].amount = 10.0;
    let scene = scene(&options, 0);
    let [normal, shifted, deficient] = [0, 1, 2].map(|label| mean_spectrum(&scene, label));
    let energy = scene.energy();
    let sum = |spectrum: &[f64], low, high| spectrum[energy.indices(low, high)].iter().sum::<f64>();
    // The L3 line leaves 706-713 for 716-723 eV.
    assert!(sum(&shifted, 706.0, 713.0) < 0.9 * sum(&normal, 706.0, 713.0));
    assert!(sum(&shifted, 717.0, 723.0) > 1.05 * sum(&normal, 717.0, 723.0));
    let above_background = |spectrum: &[f64]| sum(spectrum, 532.0, 560.0) / sum(spectrum, 480.0, 520.0);
    let oxygen = above_background(&deficient) / above_background(&normal);
    assert!((0.75..0.93).contains(&oxygen), "{oxygen}");
}

#[test]
fn the_noise_model_finds_the_simulated_gain() {
    let mut options = options();
    options.shape = [24, 40, 480];
    options.dispersion_ev = 400.0 / 480.0;
    options.gain = 4.0;
    let scene = scene(&options, 0);
    let mut raw = Array3::zeros((24, 40, 480));
    for y in 0..24 {
        raw.slice_mut(s![y, .., ..]).assign(&scene.row(y).0);
    }
    let mut statistics = NoiseStatistics::default();
    statistics.add(raw.view());
    let model = statistics.fit();
    // The spread of the light leaves .495 of the variance in a channel.
    assert!((model.gain / (4.0 * 0.495) - 1.0).abs() < 0.1, "{model:?}");
}

/// The first anomaly in a homogeneous scene without drift: mean spectra of normal and of anomalous pixels.
fn pair(change: impl Fn(&mut SceneOptions)) -> (Axis, [Vec<f64>; 2]) {
    let mut options = SceneOptions {
        shape: [16, 24, 400],
        dispersion_ev: 1.0,
        dose: 1e6,
        homogeneous: true,
        energy_drift_ev: 0.0,
        ..options()
    };
    change(&mut options);
    let scene = scene(&options, 0);
    (scene.energy(), [0, 1].map(|label| mean_spectrum(&scene, label)))
}

/// Anomalous over normal in a range of energies.
fn quotient((energy, [normal, other]): &(Axis, [Vec<f64>; 2]), low: f64, high: f64) -> f64 {
    let range = energy.indices(low, high);
    other[range.clone()].iter().sum::<f64>() / normal[range].iter().sum::<f64>()
}

#[test]
fn every_kind_makes_its_own_change() {
    let kind = |kind, amount, valence_shift_ev| {
        pair(move |options: &mut SceneOptions| {
            options.anomalies = vec![Anomaly { valence_shift_ev, ..anomaly(kind, amount) }]
        })
    };
    let weaker = kind(AnomalyKind::Scale, -0.5, None);
    assert!(quotient(&weaker, 706.0, 714.0) < 0.96 && quotient(&weaker, 530.0, 560.0) > 0.99);
    let wider = kind(AnomalyKind::Broaden, 6.0, None);
    assert!(quotient(&wider, 708.0, 711.0) < 0.95 && quotient(&wider, 702.0, 706.0) > 1.01);
    let ratio = kind(AnomalyKind::Ratio, 0.5, None);
    assert!(quotient(&ratio, 707.0, 712.0) > 1.05 && quotient(&ratio, 721.0, 726.0) < 1.01);
    let mixed = kind(AnomalyKind::Mixture, 0.5, Some(-4.0));
    assert!(quotient(&mixed, 703.0, 706.5) > 1.05 && quotient(&mixed, 709.0, 712.0) < 0.97);
    let steeper = kind(AnomalyKind::Slope, 0.3, None);
    assert!(quotient(&steeper, 420.0, 440.0) > 1.01 && quotient(&steeper, 640.0, 700.0) < 0.99);
}

#[test]
fn a_spike_stands_in_one_channel_of_every_anomalous_pixel() {
    let mut options = options();
    options.anomalies = vec![anomaly(AnomalyKind::Spike, 1e6)];
    let scene = scene(&options, 0);
    for y in 0..24 {
        let (counts, truth) = scene.row(y);
        for (spectrum, label) in counts.outer_iter().zip(truth) {
            let bright = spectrum.iter().filter(|&&v| v > 9e5).count();
            assert_eq!(bright as i32, label);
        }
    }
}

#[test]
fn after_the_mean_anomalies_are_sharp() {
    for protocol in [Protocol::Post, Protocol::Roll] {
        let mut options = options();
        options.anomalies.truncate(1);
        options.protocol = protocol;
        let scene = scene(&options, 0);
        options.anomalies.clear();
        let normal = self::scene(&options, 0);
        assert!(scene.is_averaged());
        for y in 0..24 {
            let ((counts, truth), (plain, _)) = (scene.row(y), normal.row(y));
            let rows = counts.outer_iter().zip(plain.outer_iter());
            for ((spectrum, plain), label) in rows.zip(truth) {
                assert_eq!(spectrum != plain, label > 0, "{protocol:?}");
            }
        }
    }
}

#[test]
fn a_benign_shift_is_no_anomaly_and_leaves_the_other_edges() {
    let mut options =
        SceneOptions { benign_shift_ev: 3.0, anomalies: Vec::new(), energy_drift_ev: 0.0, dose: 1e9, ..options() };
    let wandering = scene(&options, 0).row(3);
    options.benign_shift_ev = 0.0;
    let still = scene(&options, 0).row(3);
    assert!(wandering.1.iter().all(|&label| label == 0));
    let energy = scene(&options, 0).energy();
    let largest = |low, high| {
        let range = energy.indices(low, high);
        let [a, b] = [&wandering.0, &still.0].map(|row| row.slice(s![.., range.clone()]));
        let change = a.iter().zip(b).map(|(a, b)| (a / b - 1.0).abs());
        change.fold(0f32, f32::max)
    };
    assert!(largest(530.0, 600.0) < 0.01, "{}", largest(530.0, 600.0));
    assert!(largest(700.0, 730.0) > 0.03, "{}", largest(700.0, 730.0));
}

#[test]
fn other_materials_have_their_own_edges() {
    for (name, onset) in [("LaMnO3", 641.5), ("SrTiO3", 458.0)] {
        let (energy, [normal, _]) = pair(|options| {
            options.material = Some(MaterialChoice::Named(name.into()));
            options.anomalies.clear();
        });
        let at = |e: f64| normal[energy.indices(e, e + 3.0)].iter().sum::<f64>();
        assert!(at(onset - 1.0) > 1.1 * at(onset - 12.0), "{name}");
    }
}

#[test]
fn anomalies_of_particles_lie_on_particles() {
    let layout = crate::config::Layout::Particles;
    let options = SceneOptions { layout, shape: [64, 64, 40], dispersion_ev: 10.0, ..options() };
    let scene = scene(&options, 0);
    let [height, width, _] = scene.shape();
    let places = (0..height).flat_map(|y| {
        let truth = scene.row(y).1;
        (0..width).filter(move |&x| truth[x] > 0).map(move |x| (y, x))
    });
    let anomalous: Vec<(usize, usize)> = places.collect();
    assert!(anomalous.len() > 20);
    assert!(anomalous.iter().all(|&(y, x)| scene.specimen.layout().holds(y, x)));
    // A pixel holds the dose on average over the field, whatever lies there.
    let electrons: f64 = (0..height).map(|y| f64::from(scene.expected_row(y).sum())).sum();
    let dose = electrons / (height * width) as f64;
    assert!((dose / options.dose - 1.0).abs() < 0.1, "{dose}");
}

#[test]
fn the_expectation_is_the_mean_of_counts_without_anomalies() {
    let clean = SceneOptions { anomalies: Vec::new(), noiseless: true, ..options() };
    let (scene, clean) = (scene(&options(), 0), scene(&clean, 0));
    for y in [0, 7, 23] {
        assert_eq!(scene.expected_row(y), clean.row(y).0);
    }
}
