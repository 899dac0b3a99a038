//! The energy axis before the models see it: aligned pixels, rebinned channels, cubes with different axes; and polygons
//! that a user draws. Most runs are done on 1, 2 and 3 ranks and must give the same maps.

use ndarray::{Array3, s};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson};

use crate::common::case::Case;
use crate::common::cube::{counts, write_hspy, write_hspy_from, write_map, write_plain};
use crate::common::measured_data;
use crate::common::result::{maps, metrics, summary};

const SIZE: usize = 16;
const CHANNELS: usize = 160;
const STEP_EV: f64 = 2.0;

/// The map `title` of the cube `name` from the run of `case` on one rank.
fn map(case: &Case, name: &str, title: &str) -> Vec<f64> {
    let place = format!("{name}.coreloss.hspy/{title}/data");
    let bits = &maps(&case.output(1))[&place].1;
    bits.iter().map(|&bits| f64::from_bits(bits)).collect()
}

fn noisy(expected: impl Fn(usize, usize, f64) -> f64, offset: f64, step: f64, size: usize) -> Array3<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(4);
    Array3::from_shape_fn((SIZE, SIZE, size), |(y, x, e)| {
        let mean = step * expected(y, x, offset + step * e as f64);
        Poisson::new(mean.max(1e-6)).expect("a mean").sample(&mut random) as f32
    })
}

/// By how much the energies of a pixel are too high, eV: a drift over the lines and a jump in the middle of one.
fn shift(y: usize, x: usize) -> f64 {
    let jump = if y * SIZE + x > 100 { -2.5 } else { 0.0 };
    0.8 * (y as f64 * 0.4).sin() + jump
}

/// Electrons per eV of the core-loss spectrum at `e` eV: a background and an edge at 532 eV.
fn core_loss(e: f64) -> f64 {
    let step = 1.0 / (1.0 + (-(e - 532.0) / 1.5).exp());
    let peak = (-0.5 * ((e - 540.0) / 4.0).powi(2)).exp();
    150.0 * (e / 420.0).powf(-2.9) + 60.0 * (step * (e / 532.0).powi(-3) + peak)
}

/// t/lambda of a pixel.
fn thickness(y: usize, x: usize) -> f64 {
    0.3 + 0.02 * (y + x) as f64
}

/// Electrons per eV of the low-loss spectrum: a zero-loss peak 1 eV wide, and all inelastic electrons in one plasmon.
fn low_loss(y: usize, x: usize, e: f64) -> f64 {
    let gaussian = |at: f64, sigma: f64| {
        let density = (2.0 * std::f64::consts::PI).sqrt().recip() / sigma;
        density * (-0.5 * ((e - shift(y, x) - at) / sigma).powi(2)).exp()
    };
    1e4 * (gaussian(0.0, 0.42) + (thickness(y, x).exp() - 1.0) * gaussian(25.0, 4.0))
}

#[test]
fn the_low_loss_companion_brings_the_pixels_in_line() {
    let case = Case::new("dual");
    let core = noisy(|y, x, e| core_loss(e - shift(y, x)), 420.0, STEP_EV, CHANNELS);
    let mut low = noisy(low_loss, -20.0, 0.25, 400);
    // A dead pixel of the low-loss cube, and a cosmic ray far higher than the zero-loss peak.
    low.slice_mut(s![4, 4, ..]).fill(0.0);
    low[[9, 9, 100]] = 1e7;
    write_hspy_from(&case.path("cube.hspy"), &core, 420.0, STEP_EV);
    write_hspy_from(&case.path("cube.lowloss.hspy"), &low, -20.0, 0.25);
    let sets = ["preprocess.align=low_loss", "archive.inputs=[\"*.hspy\"]", "preprocess.gain=1"];
    case.ends(&sets, 0);

    let found = map(&case, "cube", "03_energy_shift");
    let error = |i: usize| (found[i] - shift(i / SIZE, i % SIZE)).abs();
    let largest = (0..SIZE * SIZE).filter(|&i| i != 4 * SIZE + 4).map(error).fold(0.0, f64::max);
    println!("largest error of a shift: {largest:.4} eV");
    assert!(largest < 0.03, "{largest}");
    // The dead pixel takes the shift of its neighbours.
    assert!(error(4 * SIZE + 4) < 0.05);

    let t_over_lambda = map(&case, "cube", "04_thickness");
    for (i, value) in t_over_lambda.iter().enumerate() {
        let expected = thickness(i / SIZE, i % SIZE);
        // The log-ratio takes the cosmic ray's counts for inelastic electrons.
        if i == 4 * SIZE + 4 {
            assert!(value.is_nan());
        } else if i != 9 * SIZE + 9 {
            assert!((value - expected).abs() < 0.06, "{i}: {value} {expected}");
        }
    }

    // Shifts range from -3.3 to 0.8 eV: two channels at one end and one at the other are missing in some pixel.
    let energy = &summary(&case.output(2))["cubes"][0]["energy"];
    assert_eq!(energy["align"]["unmeasured"], 1, "{energy}");
    assert_eq!(energy["left_out_ev"].as_array().expect("a list").len(), 2, "{energy}");
    let shape = &summary(&case.output(2))["cubes"][0]["shape"];
    assert_eq!(shape[2], (CHANNELS - 3) as u64, "{energy}");
    // The mean spectrum is that of unshifted pixels.
    let (shape, bits) = &maps(&case.output(1))["cube.coreloss.hspy/01_mean_spectrum/data"];
    assert_eq!(shape[..], [CHANNELS - 3]);
    let first = energy["first_ev"].as_f64().expect("a number");
    for (i, &bits) in bits.iter().enumerate() {
        let e = first + STEP_EV * i as f64;
        let (value, expected) = (f64::from_bits(bits), STEP_EV * core_loss(e));
        assert!((value / expected - 1.0).abs() < 0.05, "{e} eV: {value} {expected}");
    }

    // Without interpolation, shifts are whole channels.
    let case = Case::new("dual-whole");
    write_hspy_from(&case.path("cube.hspy"), &core, 420.0, STEP_EV);
    write_hspy_from(&case.path("cube.lowloss.hspy"), &low, -20.0, 0.25);
    // A cube without a companion is set aside unless it was named.
    write_hspy_from(&case.path("lone.hspy"), &core, 420.0, STEP_EV);
    case.run(1, &[&sets[..], &["preprocess.whole_channels=true"]].concat())
        .exits(3)
        .says("lone.hspy: preprocess.align: low_loss needs the zero-loss peak");
    let whole = map(&case, "cube", "03_energy_shift");
    assert!(whole.iter().all(|shift| (shift / STEP_EV).fract() == 0.0));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let case = Case::new("refused").cube(&counts([16, 16, 64], 1));
    let align = "preprocess.align=low_loss";
    case.refused(&[align], 1, &["cube.hspy", "needs the zero-loss peak", "archive.low_loss"]);
    // From here on, two ranks are enough.
    let refused = |sets: &[&str], code: i32, words: &[&str]| {
        let ended = case.run(2, sets);
        ended.exits(code).without_panic();
        words.iter().for_each(|word| _ = ended.says(word));
    };
    refused(&[align, "archive.low_loss=low/{}.hspy"], 1, &["cube.hspy", "low/cube.hspy, which is no file"]);
    write_hspy_from(&case.path("cube.lowloss.hspy"), &counts([8, 16, 64], 1), -5.0, 1.0);
    refused(&[align], 1, &["cube.lowloss.hspy", "[8, 16]", "[16, 16]"]);
    write_hspy(&case.path("cube.lowloss.hspy"), &counts([16, 16, 64], 1));
    refused(&[align], 1, &["cube.lowloss.hspy", "hold no zero-loss peak"]);
    write_hspy_from(&case.path("cube.lowloss.hspy"), &Array3::<f32>::zeros((16, 16, 64)), -5.0, 1.0);
    refused(&[align], 1, &["256 of 256 pixels cannot be told"]);
    refused(&["preprocess.rebin=0"], 2, &["preprocess.rebin: at least 1"]);
    refused(&["preprocess.rebin=65", "preprocess.thickness=false"], 1, &["no channel is left"]);
}

#[test]
fn an_edge_aligns_where_there_is_no_zero_loss_peak() {
    let case = Case::new("edge");
    let drift = |y: usize| 3.0 * (y as f64 * 0.4).sin();
    let core = noisy(|y, _, e| 4.0 * core_loss(e - drift(y)), 420.0, 1.0, 2 * CHANNELS);
    write_hspy_from(&case.path("cube.hspy"), &core, 420.0, 1.0);
    case.ends(&["preprocess.align=edge", "preprocess.gain=1"], 0);
    let found = map(&case, "cube", "03_energy_shift");
    // Shifts are relative to the edge of the mean spectrum.
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let expected: Vec<f64> = (0..SIZE * SIZE).map(|i| drift(i / SIZE)).collect();
    let (zero, expected_zero) = (mean(&found), mean(&expected));
    let square = |i: usize| (found[i] - zero - expected[i] + expected_zero).powi(2);
    let rms = mean(&(0..SIZE * SIZE).map(square).collect::<Vec<f64>>()).sqrt();
    println!("rms error of a shift: {rms:.3} eV");
    // The 3 x 3 mean averages the drift over three lines.
    assert!(rms < 0.35, "{rms}");
}

#[test]
fn joined_channels_keep_every_count() {
    let values = counts([16, 16, 130], 3);
    let totals = |rebin: usize| {
        let case = Case::new(&format!("rebin-{rebin}")).cube(&values);
        case.ends(&[&format!("preprocess.rebin={rebin}"), "archive.energy_range_ev=[420, 810]"], 0);
        // A run cannot continue with another rebinning.
        case.run(1, &["preprocess.rebin=3", "archive.energy_range_ev=[420, 810]"]).exits(2).says("preprocess.rebin");
        let shape = summary(&case.output(3))["cubes"][0]["shape"][2].as_u64();
        (shape.expect("a size") as usize, map(&case, "cube", "00_counts"))
    };
    let ((one, whole), (two, joined)) = (totals(1), totals(2));
    assert_eq!((one, two), (127, 63));
    // Of 127 channels, joined in pairs, the last is left over.
    for (a, b) in whole.iter().zip(&joined) {
        assert!(b < a && *b > 0.99 * a, "{a} {b}");
    }
}

#[test]
fn cubes_of_two_dispersions_share_the_coarser_axis() {
    let case = Case::new("two-axes");
    let fine = noisy(|_, _, e| core_loss(e), 423.0, 1.0, 300);
    let coarse = noisy(|_, _, e| core_loss(e), 420.0, STEP_EV, CHANNELS);
    write_hspy_from(&case.path("a.hspy"), &fine, 423.0, 1.0);
    // Another gain, and so another noise.
    write_hspy_from(&case.path("b.hspy"), &coarse.mapv(|v| 5.0 * v), 420.0, STEP_EV);
    case.ends(&["archive.inputs=[a.hspy, b.hspy]"], 0);
    let cubes = &summary(&case.output(2))["cubes"];
    for i in 0..2 {
        let energy = &cubes[i]["energy"];
        assert_eq!(energy["dispersion_ev"], STEP_EV, "{energy}");
        // The fine cube covers 422.5 to 722.5 eV; channels of the coarse one end at odd energies.
        assert_eq!((&energy["first_ev"], &energy["last_ev"]), (&424.0.into(), &720.0.into()));
    }
    let mean = |name: &str| {
        let bits = &maps(&case.output(1))[&format!("{name}.coreloss.hspy/01_mean_spectrum/data")].1;
        bits.iter().map(|&bits| f64::from_bits(bits)).collect::<Vec<f64>>()
    };
    // Both are in electrons, by their own gains, which are estimated to some percent in cubes as small as these.
    for (i, (a, b)) in mean("a").iter().zip(mean("b")).enumerate() {
        assert!((a / b - 1.0).abs() < 0.25, "{i}: {a} {b}");
    }
}

#[test]
fn polygons_ignore_and_choose_what_to_train_on() {
    let case = Case::new("polygon").cube(&counts([16, 16, 64], 1));
    let triangle = "{polygon: [[-0.5, -0.5], [-0.5, 2.5], [2.5, -0.5]], use: ignore, cubes: cu*}";
    let elsewhere = "{polygon: [[5, 5], [5, 9], [9, 9]], use: ignore, cubes: other}";
    case.ends(&[&format!("archive.regions=[{triangle}, {elsewhere}]")], 0);
    let score = case.score("cube");
    let ignored: Vec<usize> = (0..256).filter(|&i| score[i].is_nan()).collect();
    assert_eq!(ignored, [0, 1, 16]);

    // Tall enough for validation lines. Pixels outside of the polygon must not change the training.
    let sets =
        ["archive.regions=[{polygon: [[-1, -1], [70, -1], [70, 5.5], [-1, 5.5]], use: train}]", "preprocess.gain=1"];
    let mut logs = Vec::new();
    for (name, factor) in [("polygon-bulk", 1.0), ("polygon-other", 1.5)] {
        let mut values = counts([300, 12, 32], 1);
        values.slice_mut(s![.., 8.., ..]).mapv_inplace(|count| (count * factor).round());
        let case = Case::new(name).cube(&values);
        case.run(2, &sets).succeeded();
        logs.push(metrics(&case.output(2)));
    }
    let validated = |line: &serde_json::Value| line["validation"].is_number();
    assert!(logs[0].iter().any(validated), "{:?}", logs[0]);
    assert!(logs[0] == logs[1], "pixels outside of the polygon changed the training");

    // A mask beside a file of any format.
    let case = Case::new("mask-of-h5");
    write_plain(&case.path("cube.h5"), "counts", &counts([16, 16, 64], 1));
    let mut mask = [0u8; 256];
    mask[37] = 1;
    write_map(&case.path("cube.mask.hspy"), [16, 16], &mask);
    case.run(1, &["archive.inputs=[cube.h5]"]).succeeded();
    assert!(case.score("cube")[37].is_nan());
}

#[test]
fn a_measured_cube_is_aligned_on_its_own_zero_loss_peak() {
    let Some(data) = measured_data() else { return };
    let path = data.join("real/ca_carbon_map.hspy");
    let case = Case::new("measured");
    let inputs = format!("archive.inputs=[{}]", path.display());
    let sets = [&inputs, "preprocess.align=low_loss", "archive.energy_range_ev=[200, 400]"];
    case.run(2, &sets).succeeded();
    case.run(1, &sets).succeeded();
    assert!(maps(&case.output(1)) == maps(&case.output(2)));
    let name = "ca_carbon_map";
    let shifts = map(&case, name, "03_energy_shift");
    // It was aligned to whole channels of 0.69 eV before it was published.
    let (low, high) = shifts.iter().fold((9f64, -9f64), |(l, h), &v| (l.min(v), h.max(v)));
    println!("shifts {low:.3} to {high:.3} eV");
    assert!(-0.69 < low && high < 0.1 && high - low < 0.3, "{low} {high}");
    let thickness = map(&case, name, "04_thickness");
    let mean = thickness.iter().sum::<f64>() / thickness.len() as f64;
    println!("mean t/lambda {mean:.3}");
    assert!((0.1..1.5).contains(&mean), "{mean}");
    // The file has energies beyond the range asked for, so alignment loses none.
    let energy = &summary(&case.output(1))["cubes"][0]["energy"];
    assert_eq!(energy["left_out_ev"].as_array().map(Vec::len), Some(0), "{energy}");
}
