//! Writes simulated cubes and their truth.

use std::collections::BTreeMap;

use anyhow::Result;
use ndarray::{Array2, Array3, Axis as Dim};
use rayon::prelude::*;

use super::{write_labelled, write_spectra};
use crate::comm::Comm;
use crate::config::{Config, CubeSpec};
use crate::cube::Axis;
use crate::output::Measurement;
use crate::pipeline::AVERAGED;
use crate::simulate::Scene;

/// Writes `NAME.hspy`, `NAME.truth.hspy` and, if asked for, `NAME.expected.hspy` into `simulate.dir`; `index` is that of the cube in `simulate.cubes`.
///
/// # Collective
/// # Errors
/// A folder that cannot be written.
pub fn write_cube(comm: &Comm, config: &Config, cube: &CubeSpec, index: u64) -> Result<()> {
    let material = config.simulate.material(&cube.scene)?;
    let scene = comm.agree(Scene::new(&cube.scene, &material, index))?;
    let [rows, columns, channels] = scene.shape();
    let axis = |name: &str, size| Axis {
        name: name.into(),
        units: "nm".into(),
        scale: cube.scene.pixel_angstrom / 10.0,
        offset: 0.0,
        size,
        navigate: true,
    };
    let mut texts = BTreeMap::from([
        ("scene".to_string(), serde_json::to_string(&cube.scene)?),
        ("material".to_string(), serde_json::to_string(&config.simulate.material)?),
        ("version".to_string(), env!("CARGO_PKG_VERSION").to_string()),
    ]);
    if scene.is_averaged() {
        texts.insert(AVERAGED.into(), cube.scene.gain.to_string());
    }
    let axes = [axis("y", rows), axis("x", columns), scene.energy()];
    let folder = &config.simulate.dir;
    let measurement = Measurement::default();
    write_labelled(comm, folder, &cube.name, axes.clone(), &texts, measurement, |lines| {
        let made: Vec<(Array2<f32>, Vec<i32>)> = lines.clone().into_par_iter().map(|y| scene.row(y)).collect();
        let mut counts = Array3::zeros((lines.len(), columns, channels));
        let mut classes = Vec::new();
        for (mut line, (values, labels)) in counts.axis_iter_mut(Dim(0)).zip(made) {
            line.assign(&values);
            classes.extend(labels);
        }
        Ok((counts, classes))
    })?;
    if !config.simulate.expectation {
        return Ok(());
    }
    let path = folder.join(format!("{}.expected.hspy", cube.name));
    write_spectra(comm, &path, &axes, &texts, Measurement::default(), |lines| {
        let made: Vec<Array2<f32>> = lines.clone().into_par_iter().map(|y| scene.expected_row(y)).collect();
        let mut expected = Array3::zeros((lines.len(), columns, channels));
        expected.axis_iter_mut(Dim(0)).zip(made).for_each(|(mut line, values)| line.assign(&values));
        Ok(expected)
    })
}
