//! The blind property, to the bit; tiles and bands change nothing; the gradient is that of the plain loss.

use std::convert::Infallible;
use std::ops::Range;

use ndarray::{Array3, s};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::super::batch::{Batch, Hiding};
use super::super::loss::Weights;
use super::super::{Line, Parameters, Spec, Tiles};
use super::network::Network;
use super::*;

const ENERGY: usize = 20;
const MEAN: [f64; ENERGY] = [1.0 / ENERGY as f64; ENERGY];

fn network(folds: usize, seed: u64) -> (Spec, Parameters) {
    let spec = Blind { components: 4, channels: 6, latent: 3, folds, ..Blind::new([32, 32], ENERGY, None) };
    let spec = Spec::Blind(spec);
    let mut parameters = Parameters::initial(&spec, &MEAN, seed);
    // Larger than at first, so that every layer matters.
    parameters.values_mut().iter_mut().for_each(|value| *value *= 2.0);
    (spec, parameters)
}

fn field(shape: [usize; 3]) -> Array3<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    Array3::from_shape_simple_fn(shape, || 40.0 * rng.random::<f32>())
}

fn predicted(tiles: &Tiles, counts: &Array3<f32>, band: Range<usize>) -> Vec<Line> {
    let mut lines = Vec::new();
    let read = |rows: Range<usize>| Ok(counts.slice(s![rows, .., ..]).to_owned());
    let done: Result<(), Infallible> = tiles.reconstruct(band, read, |line| {
        lines.push(line);
        Ok(())
    });
    done.unwrap();
    lines
}

#[test]
fn a_prediction_never_depends_on_the_pixels_around_its_own() {
    for (size, folds) in [([37, 21], 1), ([20, 18], 4), ([1, 70], 1)] {
        let (spec, parameters) = network(folds, 3);
        let tiles = Tiles::new(&spec, &parameters, Device::Cpu, &MEAN, size);
        let counts = field([size[0], size[1], ENERGY]);
        let before = predicted(&tiles, &counts, 0..size[0]);
        let (y, x) = (size[0] / 2, 9);
        let mut other = counts.clone();
        let around = |at: usize, size: usize| at.saturating_sub(3)..(at + 4).min(size);
        other.slice_mut(s![around(y, size[0]), around(x, size[1]), ..]).fill(100.0);
        let after = predicted(&tiles, &other, 0..size[0]);
        assert_eq!(before[y].shares.row(x), after[y].shares.row(x), "{size:?}");
        // While one that is further away matters.
        assert_ne!(before[y].shares.row(x + 6), after[y].shares.row(x + 6), "{size:?}");
    }
}

#[test]
fn bands_change_no_bit() {
    let size = [45, 19];
    let (spec, parameters) = network(1, 4);
    let tiles = Tiles::new(&spec, &parameters, Device::Cpu, &MEAN, size);
    let counts = field([size[0], size[1], ENERGY]);
    let whole = predicted(&tiles, &counts, 0..size[0]);
    assert!(whole.iter().all(|line| (line.shares.sum() - size[1] as f32).abs() < 1e-3));
    let parts = [0..7, 7..40, 40..45].map(|band| {
        let halo = tiles.halo(&band);
        let mut dark = Array3::zeros(counts.dim());
        dark.slice_mut(s![halo.clone(), .., ..]).assign(&counts.slice(s![halo, .., ..]));
        predicted(&tiles, &dark, band)
    });
    for (line, other) in whole.iter().zip(parts.iter().flatten()) {
        assert_eq!((line.y, &line.shares, &line.latent), (other.y, &other.shares, &other.latent));
    }
}

#[test]
fn a_tile_sees_all_that_its_predictions_depend_on() {
    let (spec, parameters) = network(1, 5);
    let Spec::Blind(spec) = spec else { unreachable!() };
    let network = Network::new(&spec, &parameters.tensor(), &MEAN, Device::Cpu);
    let features = Tensor::rand([1, 40, 128, 4], (Kind::Float, Device::Cpu));
    let visible = Tensor::ones([1, 40, 128, 1], (Kind::Float, Device::Cpu));
    let other = features.shallow_clone();
    let other = other.copy();
    let _ = other.get(0).get(20).get(64).fill_(9.0);
    let amounts = |features: &Tensor| tch::no_grad(|| network.see(0, features, &visible, None).amounts);
    let differs = (amounts(&features) - amounts(&other)).abs().gt(1e-5).any_dim(-1, false).get(0);
    let along = |dim: i64| differs.any_dim(dim, false).nonzero().view(-1);
    let reach = |places: Tensor, at: i64| i64::try_from((places - at).abs().max()).unwrap();
    assert!((3..=passes::REACH[0] as i64).contains(&reach(along(1), 20)));
    assert!((9..=passes::REACH[1] as i64).contains(&reach(along(0), 64)));
}

#[test]
fn the_gradient_is_that_of_the_plain_loss() {
    let (spec, parameters) = network(2, 6);
    let Spec::Blind(layers) = &spec else { unreachable!() };
    let network = Network::new(layers, &parameters.tensor(), &MEAN, Device::Cpu);
    let counts = field([32, 32, ENERGY]);
    let counts = Tensor::from_slice(counts.as_slice().unwrap()).view([1, 32, 32, ENERGY as i64]);
    let hidden: Vec<i64> = hidden_pixels([32, 32], [3, 5]).into_iter().map(|pixel| pixel as i64).collect();
    let hiding = Hiding {
        targets: Tensor::ones([hidden.len() as i64], (Kind::Float, Device::Cpu)),
        pixels: Tensor::from_slice(&hidden),
        fold: 1,
    };
    let _ = hiding.targets.narrow(0, 0, 100).fill_(0.0);
    let batch = Batch { counts: counts.shallow_clone(), whitened: None, noise: None, hiding: Some(hiding) };
    let hiding = batch.hiding.as_ref().unwrap();
    let gradient = |surrogate: &Tensor| {
        let gradient = Parameters::zeros(spec.parameters());
        network.gradient(1, surrogate, &gradient.tensor());
        gradient
    };
    let (loss, surrogate) = network.loss(&batch, hiding, &Weights::new(0.7, false), 1.0);
    let fast = gradient(&surrogate);

    let visible = Tensor::ones([1024], (Kind::Float, Device::Cpu)).index_fill(0, &hiding.pixels, 0.0);
    let seen = network.see(1, &network.features(1, &counts), &visible.view([1, 32, 32, 1]), None);
    let of_targets = |x: &Tensor| x.reshape([1024, -1]).index_select(0, &hiding.pixels).narrow(0, 100, 156);
    let (shares, counts) = (network.shares(1, &of_targets(&seen.amounts)), of_targets(&counts));
    let measured = &counts / counts.sum_dim_intlist(-1, true, Kind::Float);
    let divergence = (&counts * (measured.log() - shares.log())).sum(Kind::Float) / 156.0;
    let kl = (seen.log_variance.exp() + seen.mean.square() - 1.0 - &seen.log_variance).sum(Kind::Float) * 0.5 / 1024.0;
    let plain = divergence + kl * 0.7;
    assert!((loss.read().total(0.7) - plain.double_value(&[])).abs() < 1e-3);
    let reference = gradient(&plain);
    let largest = reference.values().iter().fold(0f32, |a, b| a.max(b.abs()));
    for (a, b) in fast.values().iter().zip(reference.values()) {
        assert!((a - b).abs() < 1e-4 * largest, "{a} {b}");
    }
    // The other fold's is 0.
    assert!(fast.values()[..spec.parameters() / 2].iter().all(|&value| value == 0.0));
}

#[test]
fn what_is_predicted_badly_is_left_out() {
    let (spec, parameters) = network(1, 6);
    let Spec::Blind(layers) = &spec else { unreachable!() };
    let network = Network::new(layers, &parameters.tensor(), &MEAN, Device::Cpu);
    let mut counts = field([32, 32, ENERGY]);
    // Within one of the four blocks.
    counts.slice_mut(s![1..6, 1..6, ..5]).fill(400.0);
    let counts = Tensor::from_slice(counts.as_slice().unwrap()).view([1, 32, 32, ENERGY as i64]);
    let hidden: Vec<i64> = hidden_pixels([32, 32], [0, 0]).into_iter().map(|pixel| pixel as i64).collect();
    let targets = Tensor::ones([hidden.len() as i64], (Kind::Float, Device::Cpu));
    let hiding = Some(Hiding { targets, pixels: Tensor::from_slice(&hidden), fold: 0 });
    let batch = Batch { counts, whitened: None, noise: None, hiding };
    let loss = |trim| {
        let (loss, _) = network.loss(&batch, batch.hiding.as_ref().unwrap(), &Weights::new(1.0, trim), 1.0);
        loss.read().reconstruction
    };
    let (trimmed, whole) = (loss(true), loss(false));
    assert!(trimmed < 0.8 * whole, "{trimmed} {whole}");
}
