//! The preprocessing held to measured cubes: what it must find there, and what it must leave alone.
//! Skipped, and said so, where `../shared/data` is absent.

mod common;

use std::path::PathBuf;

use common::skip;
use coreloss::preprocess::despike::despike;
use coreloss::preprocess::noise::{NoiseModel, NoiseStatistics};
use coreloss::preprocess::vacuum::{pixel_totals, signal_floor, vacuum_threshold};
use ndarray::{Array3, ArrayD, Ix3};

/// The cube in a HyperSpy file `[y, x, energy]`; none, with a word on stdout, where the data are absent.
fn measured(name: &str) -> Option<Array3<f32>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("../shared/data/real").join(name);
    if !path.exists() {
        skip(&format!("{} is absent", path.display()));
        return None;
    }
    let file = hdf5::File::open(&path).expect("a measured cube opens");
    let experiments = file
        .group("Experiments")
        .expect("a HyperSpy file has experiments");
    let first = &experiments.groups().expect("experiments are groups")[0];
    let data: ArrayD<f32> = first
        .dataset("data")
        .and_then(|data| data.read_dyn())
        .expect("an experiment has data");
    Some(
        data.into_dimensionality::<Ix3>()
            .expect("a spectrum image has three axes"),
    )
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
    let Some(raw) = measured("fe_oxide_nanocubes.hspy") else {
        return;
    };
    let noise = fit(&raw);
    let share = spike_share(&raw, &noise, 0);
    let totals = pixel_totals(raw.view());
    let totals = totals.as_slice().expect("a new array is contiguous");
    let threshold = vacuum_threshold(totals).expect("there is vacuum beside the cubes");
    let vacuum = totals.iter().filter(|&&t| t < threshold).count();
    let dark = totals
        .iter()
        .filter(|&&t| t <= signal_floor(totals))
        .count();
    println!("nanocubes: {noise:?}, spikes {share:.1e}, vacuum {vacuum}, below the floor {dark}");
    assert!(
        noise.fitted && (1.0..8.0).contains(&noise.gain),
        "{noise:?}"
    );
    assert!(share < 1e-3, "{share}");
    assert!((90..=104).contains(&vacuum), "{vacuum}");
}

#[test]
fn the_carbon_support_and_the_zero_loss_peak_are_kept() {
    let Some(raw) = measured("ca_carbon_map.hspy") else {
        return;
    };
    let noise = fit(&raw);
    // -104.83 eV and 0.6897 eV: 15 eV is channel 173.7.
    let share = spike_share(&raw, &noise, 174);
    let totals = pixel_totals(raw.view());
    println!("ca_carbon: {noise:?}, spikes {share:.1e}");
    assert!(
        noise.fitted && (0.7..1.5).contains(&noise.gain),
        "{noise:?}"
    );
    assert!(share < 1e-3, "{share}");
    assert_eq!(
        vacuum_threshold(totals.as_slice().expect("contiguous")),
        None
    );
    let core_loss = pixel_totals(raw.slice(ndarray::s![.., .., 400..]));
    assert_eq!(
        vacuum_threshold(core_loss.as_slice().expect("contiguous")),
        None
    );
}
