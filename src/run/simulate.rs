//! Writes simulated cubes with known anomalies, and their truth.

use std::collections::BTreeMap;

use anyhow::{ensure, Context, Result};
use ndarray::{Array2, Array3, Axis as Dim};
use rayon::prelude::*;

use super::Ending;
use crate::comm::Comm;
use crate::config::{Config, CubeSpec, Invalid};
use crate::cube::Axis;
use crate::output::{signal_path, Data, HspyWriter, Signal, Small, SmallSignal};
use crate::shard::Blocks;
use crate::simulate::Scene;

/// Size of a pixel in the scene, nm.
const PIXEL_NM: f64 = 0.033;

/// Writes `simulate.cubes` as `NAME.hspy` with `NAME.truth.hspy` into `simulate.dir`: equal for any number of ranks.
///
/// # Collective
/// # Errors
/// No cubes in the configuration; a folder that cannot be written.
pub fn simulate(comm: &Comm, config: &Config) -> Result<Ending> {
    let specification = &config.simulate;
    if specification.cubes.is_empty() {
        return Err(Invalid(
            "simulate.cubes is empty: list cubes with a name and a scene, as configs/demo.yaml does".into(),
        )
        .into());
    }
    for (index, cube) in specification.cubes.iter().enumerate() {
        write_cube(comm, config, cube, index as u64)
            .with_context(|| format!("simulate.cubes: {}", cube.name))?;
        if comm.is_root() {
            println!(
                "{}",
                specification
                    .dir
                    .join(format!("{}.hspy", cube.name))
                    .display()
            );
        }
    }
    Ok(Ending::Done)
}

/// Writes `NAME.hspy` and then `NAME.truth.hspy` into `simulate.dir`; `index` is the cube's place in `simulate.cubes`.
///
/// # Collective
/// # Errors
/// A name that is no plain file name; a folder that cannot be written.
pub fn write_cube(comm: &Comm, config: &Config, cube: &CubeSpec, index: u64) -> Result<()> {
    let plain =
        !cube.name.is_empty() && !cube.name.contains(['/', '\\']) && !cube.name.starts_with('.');
    ensure!(plain, "the name {:?} is no plain file name", cube.name);
    let scene = comm.agree(Scene::new(&cube.scene, index))?;
    let [rows, columns, channels] = scene.shape();
    let blocks = Blocks::new([rows, columns, channels]);
    let spectra = signal_path("spectra");
    let truth = signal_path("truth");
    let path = |suffix: &str| config.simulate.dir.join(format!("{}.{suffix}", cube.name));
    let mut file = HspyWriter::create(comm, &path("hspy"))?;
    let chunk_rows = blocks.rows(0).len();
    file.create_dataset::<f32>(
        &spectra,
        &[rows, columns, channels],
        &[chunk_rows, columns, channels],
    )?;
    let mut classes = Vec::new();
    // As many rounds as the rank with most blocks has.
    let rounds = blocks.count().div_ceil(comm.size()) + 1;
    let mine: Vec<usize> = blocks.owned(comm.rank(), comm.size()).collect();
    for round in 0..rounds {
        let lines = mine.get(round).map_or(0..0, |&block| blocks.rows(block));
        let made: Vec<(Array2<f32>, Vec<i32>)> = lines
            .clone()
            .into_par_iter()
            .map(|y| scene.row(y))
            .collect();
        let mut counts = Array3::zeros((lines.len(), columns, channels));
        for (mut line, (values, labels)) in counts.axis_iter_mut(Dim(0)).zip(made) {
            line.assign(&values);
            classes.extend(labels);
        }
        file.write(&spectra, &[lines.start, 0, 0], counts.view().into_dyn())?;
    }
    let place = |name: &str, size, navigate| Axis {
        name: name.into(),
        units: "nm".into(),
        scale: PIXEL_NM,
        offset: 0.0,
        size,
        navigate,
    };
    let signal = |title: &str, axes, signal_type: &str| SmallSignal {
        signal: Signal {
            title: title.into(),
            axes,
            signal_type: signal_type.into(),
        },
        data: Data::Parallel,
        learning_results: None,
    };
    let texts = BTreeMap::from([
        ("scene".to_string(), serde_json::to_string(&cube.scene)?),
        ("version".to_string(), env!("CARGO_PKG_VERSION").to_string()),
    ]);
    let axes = vec![
        place("y", rows, true),
        place("x", columns, true),
        scene.energy(),
    ];
    file.finish(Small {
        signals: vec![signal("spectra", axes, "EELS")],
        texts: texts.clone(),
    })?;

    let mut file = HspyWriter::create(comm, &path("truth.hspy"))?;
    file.create_dataset::<i32>(&truth, &[rows, columns], &[chunk_rows, columns])?;
    let band = blocks.band(comm.rank(), comm.size());
    let classes = Array2::from_shape_vec((band.len(), columns), classes)
        .context("the truth has one value for each pixel")?;
    file.write(&truth, &[band.start, 0], classes.view().into_dyn())?;
    let axes = vec![place("y", rows, false), place("x", columns, false)];
    file.finish(Small {
        signals: vec![signal("truth", axes, "")],
        texts,
    })
}
