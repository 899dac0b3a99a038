//! A made-up report for the tests, with what a real one has.

use std::collections::BTreeMap;

use ndarray::{Array2, Array3};

use super::contents::{Component, Cube, LossPoint, Map, Property, Report, StepPoint};
use super::spectra::{Modelled, Spectra};
use crate::config::{Judgement, ResidualSpectrum};
use crate::results::verdicts::Recognised;
use crate::results::{Difference, FailedInput, KindSummary, RegionSummary, ScoreSummary};

/// Noise in 0..1 that is the same on every run.
fn noise(seed: usize) -> f64 {
    let mixed = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 40) as f64 / (1u64 << 24) as f64
}

/// Of a run over the two [`cubes`].
pub fn report() -> Report {
    Report {
        title: "Survey of the demonstration archive".into(),
        version: "0.1.0".into(),
        note: None,
        facts: [
            ("ranks", "4"),
            ("threads per rank", "2"),
            ("device", "cpu"),
            ("seed", "7"),
            ("training", "480 steps, 61.2 s"),
            ("configuration", "compact, latent 16, batch 16, exact reduction"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec(),
        loss: (0..480)
            .map(|i| {
                let trend = 900.0 * (-(i as f64) / 40.0).exp() + 310.0;
                LossPoint {
                    step: i,
                    train: trend * (1.0 + 0.05 * noise(i as usize)),
                    validation: (i % 40 == 39).then_some(trend * 1.06),
                }
            })
            .collect(),
        steps: (0..480)
            .map(|step| StepPoint {
                step,
                kl: 12.0 * (1.0 - (-(step as f64) / 60.0).exp()) + noise(step as usize),
                grad_norm: 3.0 + noise(step as usize + 9),
            })
            .collect(),
        failed_inputs: vec![FailedInput {
            stamp: String::new(),
            path: "session/broken.dm4".into(),
            reason: "the file ends within its third image".into(),
        }],
        config_yaml: "seed: 7\narchive:\n  inputs: [\"data/*.hspy\"]\n".into(),
    }
}

/// One with truth and three regions, one large, without truth.
pub fn cubes() -> Vec<Cube> {
    vec![planted(), plain()]
}

/// A cube of `shape` whose maps hold `value` everywhere, without spectra.
pub fn blank(name: &str, shape: (usize, usize), value: f32) -> Cube {
    Cube {
        name: name.into(),
        shape: [shape.0, shape.1, 0],
        pixel_size: Some((0.0, "nm".into())),
        mean_image: Array2::from_elem(shape, value),
        properties: vec![],
        energy_ev: vec![],
        mean_spectrum: vec![],
        windows: vec![],
        edges: vec![],
        maps: vec![map("cvae", "pcc", Array2::from_elem(shape, value), 2.0, ScoreSummary::default())],
        truth: None,
        problems: vec!["no energy calibration".into()],
        excess_nats: BTreeMap::new(),
        regions: vec![],
        fingerprint: "ab".into(),
        residuals: vec![],
        recognised: BTreeMap::new(),
        region_spectra: None,
        region_reconstructions: None,
        reconstructed_by: "cvae".into(),
        labels: Array2::zeros(shape),
        spectra: None,
        scree: vec![],
        components: vec![],
        latent: vec![],
        provenance: vec![],
    }
}

const CENTERS: [(f64, f64, f64); 3] = [(20.0, 24.0, 6.0), (60.0, 70.0, 3.5), (70.0, 12.0, 0.8)];

fn planted() -> Cube {
    let shape = (84, 96);
    let region_at = |y: usize, x: usize| {
        let inside = CENTERS.iter().position(|&(cy, cx, radius)| (y as f64 - cy).hypot(x as f64 - cx) <= radius);
        inside.map_or(0, |i| i as i32 + 1)
    };
    let labels = Array2::from_shape_fn(shape, |(y, x)| region_at(y, x));
    let truth = Array2::from_shape_fn(shape, |(y, x)| region_at(y, x.saturating_sub(1)).min(1));
    let scored = |strength: f64, salt: usize| {
        Array2::from_shape_fn(shape, |(y, x)| {
            if y + x < 14 {
                return f32::NAN;
            }
            let seed = (y * shape.1 + x) * 7 + salt;
            let bulk: f64 = (0..4).map(|i| noise(seed + i)).sum();
            let excess = if labels[[y, x]] > 0 { strength } else { 0.0 };
            (bulk + excess * (0.6 + 0.4 * noise(seed + 5))) as f32
        })
    };
    let metrics = |auroc| ScoreSummary {
        auroc: Some(auroc),
        average_precision: Some(auroc - 0.06),
        best_f1: Some(0.91),
        f1: Some(0.885),
        precision: Some(0.934),
        recall: Some(0.8412),
        ..ScoreSummary::default()
    };
    let mut maps = vec![
        map("pca3", "combined", scored(2.0, 1), 3.4, metrics(0.91)),
        map("cvae", "combined", scored(4.5, 2), 3.4, metrics(0.9871)),
        map("cvae", "pcc", scored(3.0, 3), 3.5, metrics(0.95)),
        map("pca3", "pcc", scored(1.5, 4), 3.5, metrics(f64::NAN)),
    ];
    maps[1].is_default = true;
    let energy_ev: Vec<f64> = (0..1024).map(|i| 440.0 + 0.3 * i as f64).collect();
    let spectrum = |shift: f64, seed: usize| -> Vec<f64> {
        energy_ev
            .iter()
            .enumerate()
            .map(|(i, &e)| {
                let edge = |onset: f64| {
                    if e > onset { 90.0 * (-(e - onset) / 60.0).exp() } else { 0.0 }
                };
                let smooth = 400.0 * (e / 440.0).powi(-3) + edge(456.0) + 0.7 * edge(532.0 + shift);
                smooth + 6.0 * (noise(i + seed) - 0.5)
            })
            .collect()
    };
    let table = |rows: usize, shift: f64| {
        let values: Vec<Vec<f64>> = (0..rows).map(|i| spectrum(shift, 5000 * i)).collect();
        Some(Array2::from_shape_fn((rows, energy_ev.len()), |(i, e)| values[i][e] as f32))
    };
    let region = |(i, &(y, x, radius)): (usize, &(f64, f64, f64))| RegionSummary {
        label: i as i32 + 1,
        y,
        x,
        area: labels.iter().filter(|&&label| label == i as i32 + 1).count(),
        rows: [y - radius, y + radius].map(|row| row as usize),
        columns: [x - radius, x + radius].map(|column| column as usize),
        max_score: 7.2 - i as f32,
        mean_score: 5.3 - i as f64,
        estimated_shift_ev: (i != 1).then_some(-4.25),
        shift_error_ev: (i != 1).then_some(0.1),
        kind: Some(KindSummary { window: "Ti L".into(), differs: Difference::Energy, sigma: 6.0 }),
        energies_ev: vec![[456.0, 459.5], [462.0, 464.0]],
        change: None,
        surprise: Some(12.0 - 8.0 * i as f64),
    };
    Cube {
        name: "session/sto-01".into(),
        shape: [shape.0, shape.1, energy_ev.len()],
        pixel_size: Some((0.47, "nm".into())),
        mean_image: Array2::from_shape_fn(shape, |(y, x)| {
            (250.0 + 40.0 * ((y as f64 / 3.0).sin() * (x as f64 / 3.0).cos()) + 10.0 * noise(y * 96 + x)) as f32
        }),
        properties: vec![Property {
            name: "energy shift".into(),
            note: "eV, taken out before scoring".into(),
            values: Array2::from_shape_fn(shape, |(y, x)| (y as f32 / 40.0).sin() + 0.01 * x as f32),
        }],
        mean_spectrum: spectrum(0.0, 77),
        windows: [("Ti L", 456.0, 475.0), ("O K", 532.0, 560.0), ("O K tail", 560.0, 575.0)]
            .map(|(name, low, high)| (name.into(), [low, high]))
            .to_vec(),
        edges: [("Ti L3", 456.0), ("Ti L2", 462.0), ("O K", 532.0)].map(|(name, onset)| (name.into(), onset)).to_vec(),
        components: (0..3)
            .map(|i| Component {
                factor: spectrum(i as f64, 31 * i),
                loading: scored(1.0, 60 + i),
                share: 0.8 / (i as f64 + 1.0).powi(3),
            })
            .collect(),
        latent: vec![Property {
            name: "dimension 5".into(),
            note: "standard deviation 1.2".into(),
            values: scored(2.0, 90),
        }],
        provenance: [("file", "session/sto-01.dm4"), ("instrument", "ARM200F, 200 keV")]
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec(),
        maps,
        truth: Some(truth),
        problems: vec![],
        excess_nats: [("cvae", 2.4), ("context", 3.1), ("pca3", 2.9)].map(|(name, nats)| (name.into(), nats)).into(),
        regions: CENTERS.iter().enumerate().map(region).collect(),
        fingerprint: "ab-cd".into(),
        residuals: vec![ResidualSpectrum { step_ev: 1.0, step_channels: 1.0, ..ResidualSpectrum::default() }],
        recognised: [(3, Recognised { verdict: Judgement::Artefact, reason: "like region 1 of another".into() })]
            .into(),
        region_spectra: table(3, 9.0),
        region_reconstructions: table(2, 0.0),
        spectra: Some(Spectra {
            counts: Array3::from_shape_fn((shape.0, shape.1, 1024), |(y, x, e)| {
                (50.0 + (y + x) as f64 - e as f64 / 30.0 + 8.0 * noise(e + 1024 * (x + 96 * y))) as f32
            }),
            bin: 1,
            model: Modelled::Components {
                factors: Array2::from_elem((2, 1024), 0.02),
                loadings: Array3::from_elem((shape.0, shape.1, 2), 1000.0),
            },
        }),
        reconstructed_by: "cvae".into(),
        labels,
        scree: (1..20).map(|i| 0.8 / (i as f64).powi(3) + 1e-4).collect(),
        energy_ev,
    }
}

fn plain() -> Cube {
    let shape = (700, 1100);
    let mut cube = blank("session/large area", shape, 0.0);
    cube.pixel_size = None;
    let values =
        |salt: usize| Array2::from_shape_fn(shape, |(y, x)| (noise(y * shape.1 + x + salt) + noise(3 * y + x)) as f32);
    cube.mean_image = values(9) * 100.0;
    let mut hot = values(1);
    hot[[350, 200]] = 9.0;
    cube.labels[[350, 200]] = 1;
    cube.maps = vec![
        map("cvae", "combined", hot, 2.5, ScoreSummary::default()),
        map("pca3", "combined", values(2), 2.5, ScoreSummary::default()),
    ];
    cube.maps[0].is_default = true;
    cube
}

fn map(method: &str, score: &str, values: Array2<f32>, threshold: f32, metrics: ScoreSummary) -> Map {
    let flagged = values.iter().filter(|&&v| v > threshold).count();
    Map {
        method: method.into(),
        score: score.into(),
        values,
        found: ScoreSummary { threshold: Some(threshold), flagged, ..metrics },
        is_default: false,
    }
}
