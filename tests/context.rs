//! The linear blind spot: what it has not seen, that no bit depends on the number of ranks, and that it knows a lattice. The
//! first two tests run themselves under `mpirun`.

use std::fs;
use std::time::Duration;

use coreloss::bands::Bands;
use coreloss::comm::{self, Comm};
use coreloss::context::{BlindSpot, Components, Field, Prediction};
use coreloss::pca::{Scatter, Spectra};
use ndarray::{Array2, ArrayView2, Axis, s};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use sha2::{Digest, Sha256};

use crate::common::case::RANKS;
use crate::common::result::summary;
use crate::common::{finish, folder, mpirun, this_test, told};

const LIMIT: Duration = Duration::from_secs(120);
const SIZE: [usize; 2] = [40, 50];
/// Components of a pixel.
const COUNT: usize = 2;

/// Components of all pixels, `[y * x, components]`: waves and noise, and a few pixels that are not valid.
fn waves() -> Array2<f64> {
    waves_with(|_| 0.0)
}

/// The same with each line as far to the right as `offset` says, pixels.
fn waves_with(offset: impl Fn(f64) -> f64) -> Array2<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut noise = || -> f64 { StandardNormal.sample(&mut random) };
    Array2::from_shape_fn((SIZE[0] * SIZE[1], COUNT), |(i, k)| {
        let y = (i / SIZE[1]) as f64;
        let x = (i % SIZE[1]) as f64 + offset(y);
        if i % 97 == 5 { f64::NAN } else { (0.9 * x + 0.4 * y + k as f64).sin() + 0.3 * noise() }
    })
}

/// This rank's lines of a field; the last of three ranks has none, and none has as many as the window.
fn lines(comm: &Comm) -> std::ops::Range<usize> {
    let cuts = match comm.size() {
        1 => vec![0, SIZE[0]],
        2 => vec![0, 5, SIZE[0]],
        _ => vec![0, 33, SIZE[0], SIZE[0]],
    };
    cuts[comm.rank()]..cuts[comm.rank() + 1]
}

/// This rank's band, and its components `[pixels, components]`.
fn bands<'a>(comm: &'a Comm, components: &'a Array2<f64>) -> (Bands<'a>, ArrayView2<'a, f64>) {
    let lines = lines(comm);
    let own = components.slice(s![lines.start * SIZE[1]..lines.end * SIZE[1], ..]);
    let valid = own.outer_iter().filter(|pixel| !pixel[0].is_nan()).count();
    (Bands::new(comm, SIZE[1], lines.len(), valid), own)
}

fn field(comm: &Comm, components: &Array2<f64>) -> Field {
    let (bands, own) = bands(comm, components);
    Field::new(&bands, own)
}

/// The predictions of this rank's lines, `[y * x * components]`.
fn predictions(comm: &Comm, blind_spot: &BlindSpot, field: &Field) -> Vec<f64> {
    lines(comm).flat_map(|y| blind_spot.predict(field, y).into_iter()).collect()
}

/// What waves predict of this rank's lines, `[y * x * components]`.
fn by_waves(comm: &Comm, components: &Array2<f64>) -> Vec<f64> {
    let (bands, own) = bands(comm, components);
    // The noise is 0.3.
    let predicted = Prediction::new(&bands, own, &[1.0 / 0.3; COUNT]).expect("a prediction");
    assert!(predicted.by_waves);
    predicted.components.into_iter().collect()
}

fn bytes(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn waves_go_on_below_an_anomaly() {
    if told().is_some() {
        let session = comm::init().expect("MPI starts");
        let comm = session.comm();
        tch::set_num_threads(1);
        let (normal, mut components) = (waves(), waves());
        let is_within = |i: usize| {
            let [y, x] = [(i / SIZE[1]) as f64, (i % SIZE[1]) as f64];
            (y - 21.0).hypot(x - 17.0) < 4.0
        };
        let within: Vec<usize> = (0..components.nrows()).filter(|&i| is_within(i)).collect();
        within.iter().for_each(|&i| components[[i, 0]] += 1.0);
        let found = by_waves(&comm, &components);
        let known = within.iter().filter(|&&i| normal[[i, 0]].is_finite());
        let errors: Vec<f64> = known.map(|&i| found[i * COUNT] - normal[[i, 0]]).collect();
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        // The mean of the noise of 50 pixels is .04; of the anomaly of 1 nothing is predicted.
        assert!(errors.len() > 40 && mean.abs() < 0.12, "{mean}");
        return;
    }
    finish(this_test(1, "context::waves_go_on_below_an_anomaly", "go"), LIMIT).succeeded();
}

#[test]
fn waves_go_on_in_lines_that_lie_out_of_their_places() {
    if told().is_some() {
        let session = comm::init().expect("MPI starts");
        let comm = session.comm();
        tch::set_num_threads(1);
        // A drift over four pixels, of waves that are seven long, and a jitter of the probe.
        let components = waves_with(|y| 2.0 * (y / 7.0).sin() + 0.3 * (y * 2.1).cos());
        let found = by_waves(&comm, &components);
        let known = found.iter().zip(&components).filter(|(_, truth)| truth.is_finite());
        let left = known.map(|(found, truth)| (found - truth).powi(2)).sum::<f64>() / components.len() as f64;
        // The waves have a variance of .5, the noise of .09.
        assert!((0.08..0.12).contains(&left), "{left}");
        return;
    }
    finish(this_test(1, "context::waves_go_on_in_lines_that_lie_out_of_their_places", "go"), LIMIT).succeeded();
}

#[test]
fn no_bit_depends_on_the_number_of_ranks() {
    if told().is_some() {
        let session = comm::init().expect("MPI starts");
        let comm = session.comm();
        tch::set_num_threads(1);
        let components = waves();
        let field = field(&comm, &components);
        let blind_spot = BlindSpot::fit(&comm, &field).expect("a fit");
        let by_waves = by_waves(&comm, &waves_with(|y| (y / 5.0).sin()));
        if let Some(found) = comm.gather_bands(&by_waves) {
            println!("\nFIGURE waves {:x?}", Sha256::digest(bytes(&found)));
        }
        if let Some(found) = comm.gather_bands(&predictions(&comm, &blind_spot, &field)) {
            let known = found.iter().zip(&components).filter(|(_, truth)| truth.is_finite());
            let left: f64 = known.map(|(found, truth)| (found - truth).powi(2)).sum();
            println!("\nFIGURE left {:.3}", left / components.len() as f64);
            println!("FIGURE digest {:x?}", Sha256::digest(bytes(&found)));
        }
        return;
    }
    let of = |ranks: usize| {
        let mut command = this_test(ranks, "context::no_bit_depends_on_the_number_of_ranks", "go");
        let threads = if ranks == 1 { "2" } else { "1" };
        command.env("RAYON_NUM_THREADS", threads);
        let ended = finish(command, LIMIT);
        let lines = ended.succeeded().stdout.lines();
        lines.filter(|line| line.starts_with("FIGURE")).map(str::to_owned).collect::<Vec<String>>()
    };
    let one = of(1);
    let left: f64 = one[1].rsplit(' ').next().expect("a figure").parse().expect("a number");
    // The waves have a variance of .5, the noise of .09.
    assert!((0.09..0.15).contains(&left), "{one:?}");
    for ranks in RANKS {
        assert_eq!(one, of(ranks), "{ranks} ranks");
    }
}

/// Spectra that are the mean and a multiple of one change of it are rebuilt from their components.
fn spectra_come_back(comm: &Comm) {
    let (pixels, channels) = (30, 16);
    let counts = Array2::from_shape_fn((pixels, channels), |(x, e)| {
        let change = 0.3 * (x as f32).sin() * (e as f32 - 7.5);
        (50.0 + x as f32) * (10.0 + change)
    });
    let electrons = counts.sum_axis(Axis(0)).mapv(f64::from).to_vec();
    let mut scatter = Scatter::new(&Spectra::new(&electrons, true));
    scatter.add_block(counts.view()).expect("a block");
    let decomposition = scatter.decompose(comm, pixels as u64, Components::DECOMPOSED).expect("components");
    let components = Components::new(&decomposition, &electrons, 1);
    let totals = counts.sum_axis(Axis(1)).to_vec();
    let own = components.of(decomposition.loadings(counts.view(), 2).view(), &totals);
    let variance = own.mapv(|value| value * value).mean().expect("pixels");
    assert!((variance - 1.0).abs() < 1e-3, "{variance}");
    let rebuilt = components.electrons(own.view(), counts.view());
    assert!(rebuilt.iter().zip(&counts).all(|(a, b)| (a / b - 1.0).abs() < 1e-4));
    // A surrounding that tells nothing leaves the mean spectrum.
    let mean = components.electrons(Array2::zeros((pixels, 1)).view(), counts.view());
    let expected = electrons[3] / electrons.iter().sum::<f64>() * f64::from(totals[4]);
    assert!((f64::from(mean[[4, 3]]) / expected - 1.0).abs() < 1e-6);
}

#[test]
fn a_prediction_has_not_seen_the_pixel_nor_those_beside_it() {
    if told().is_some() {
        let session = comm::init().expect("MPI starts");
        let comm = session.comm();
        tch::set_num_threads(1);
        let components = waves();
        let before = field(&comm, &components);
        let blind_spot = BlindSpot::fit(&comm, &before).expect("a fit");
        let before = predictions(&comm, &blind_spot, &before);
        let mut changed = components.clone();
        let (y, x) = (20, 31);
        for (y, x) in (y - 3..=y + 3).flat_map(|y| (x - 3..=x + 3).map(move |x| (y, x))) {
            changed.row_mut(y * SIZE[1] + x).fill(50.0);
        }
        let of_changed = field(&comm, &changed);
        let own = |values: &[f64]| values[(y * SIZE[1] + x) * COUNT..][..COUNT].to_vec();
        // With the same weights: what it sees is the same.
        let after = predictions(&comm, &blind_spot, &of_changed);
        assert_eq!(own(&before), own(&after));
        assert_ne!(before, after);
        spectra_come_back(&comm);
        return;
    }
    let command = this_test(1, "context::a_prediction_has_not_seen_the_pixel_nor_those_beside_it", "go");
    finish(command, LIMIT).succeeded();
}

#[test]
fn surroundings_tell_what_the_mean_spectrum_does_not() {
    let folder = folder("lattice");
    let yaml = format!(
        "output: {0}\narchive: {{inputs: [{0}/made/low.hspy]}}\npca: {{components: [3], mean: true}}\nmethods: {{context: true}}\nsimulate:\n  dir: {0}/made\n  cubes:\n\
         \x20   - {{name: low, scene: {{shape: [64, 64, 320], dispersion_ev: 1.25, anomalies: [{{kind: oxygen, amount: -0.3}}]}}}}\n",
        folder.display()
    );
    let config = folder.join("run.yaml");
    fs::write(&config, yaml).expect("a folder takes a file");
    for command in ["simulate", "pca"] {
        mpirun(2, &[command.into(), config.display().to_string()], LIMIT).succeeded();
    }
    let found = summary(&folder);
    let excess = |method: &str| found["cubes"][0]["excess_nats"][method].as_f64().expect("a number");
    let [context, mean] = ["context", "mean"].map(excess);
    assert!(context > 0.0 && context < 0.3 * mean, "{context} {mean}");
    let best = |method: &str| found["cubes"][0]["methods"][method]["combined"]["best_f1"].as_f64().expect("a number");
    let [context, mean, pca] = ["context", "mean", "pca3"].map(best);
    assert!(context >= mean && context > pca + 0.3, "{context} {mean} {pca}");
    // A lattice is a sum of waves, below which the anomaly stands out at the automatic threshold too.
    let f1 = found["cubes"][0]["methods"]["context"]["combined"]["f1"].as_f64().expect("a number");
    assert!(f1 > 0.95, "{f1}");
}
