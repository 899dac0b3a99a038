//! The large arrays of a cube's file beside its maps: latent codes, loadings, reconstructed spectra.

use anyhow::Result;
use ndarray::Axis as Dim;

use super::scored_cube::ScoredCube;
use super::set_aside::Failure;
use super::titles::{LATENT, PCA, RECONSTRUCTION};
use crate::comm::Comm;
use crate::cube::Axis;
use crate::output::{Data, HspyWriter, LearningResults, Signal, signal_path};
use crate::stream::Cube;

/// The blended latent means of the CVAE.
///
/// # Collective
pub fn write_latent(
    file: &mut HspyWriter,
    signals: &mut Vec<Signal>,
    cube: &Cube,
    analysis: &ScoredCube,
    chunk_rows: usize,
) -> Result<()> {
    let Some(latent) = &analysis.latent else {
        return Ok(());
    };
    let ([height, width], size) = (cube.size(), latent.dim().0);
    let name = signal_path(LATENT);
    file.create_dataset::<f32>(&name, &[size, height, width], &[1, chunk_rows, width])?;
    file.write(&name, &[0, analysis.band.lines.start, 0], latent.view().into_dyn())?;
    let mut axes = vec![Axis::of_indices("latent dimension", size, true)];
    axes.extend(place_axes(cube, false));
    signals.push(Signal::written(LATENT, axes, ""));
    Ok(())
}

/// The decomposition, on a signal of the cube's shape whose data are not copied.
///
/// # Collective
pub fn write_pca(
    file: &mut HspyWriter,
    signals: &mut Vec<Signal>,
    cube: &Cube,
    analysis: &ScoredCube,
    chunk_rows: usize,
) -> Result<()> {
    let ([height, width], k) = (cube.size(), analysis.loadings.ncols());
    let name = format!("Experiments/{PCA}/learning_results/loadings");
    file.create_dataset::<f64>(&name, &[height * width, k], &[chunk_rows * width, k])?;
    let start = analysis.band.lines.start * width;
    file.write(&name, &[start, 0], analysis.loadings.view().into_dyn())?;
    let found = &analysis.decomposition;
    let mut axes = place_axes(cube, true);
    axes.push(cube.energy.clone());
    let data = Data::Declared { chunk: vec![chunk_rows, width, cube.energy.size] };
    signals.push(Signal {
        learning_results: Some(LearningResults {
            factors: found.factors.clone(),
            explained_variance: found.explained_variance.clone(),
            explained_variance_ratio: found.explained_variance_ratio.clone(),
            poissonian_noise_normalized: found.poisson,
            output_dimension: k,
        }),
        ..Signal::new(PCA, axes, "EELS", data)
    });
    Ok(())
}

/// Every pixel as the CVAE explains it, from the first to the last energy of the windows.
///
/// # Collective
/// # Errors
/// Values that cannot be read; an output that cannot be written.
pub fn write_reconstruction(
    comm: &Comm,
    file: &mut HspyWriter,
    signals: &mut Vec<Signal>,
    cube: &Cube,
    analysis: &ScoredCube,
) -> Result<(), Failure> {
    if analysis.tiles.is_none() {
        return Ok(());
    }
    let low = analysis.windows.iter().map(|w| w.background_ev[0].min(w.range_ev[0]));
    let high = analysis.windows.iter().map(|w| w.range_ev[1]);
    let channels = cube.energy.indices(low.fold(f64::INFINITY, f64::min), high.fold(f64::NEG_INFINITY, f64::max));
    let [height, width] = cube.size();
    let blocks = analysis.blocks;
    let chunk = [blocks.rows(0).len(), width, channels.len()];
    let name = signal_path(RECONSTRUCTION);
    file.create_dataset::<f32>(&name, &[height, width, channels.len()], &chunk).map_err(Failure::Fatal)?;
    let mine: Vec<usize> = blocks.owned(comm.rank(), comm.size()).collect();
    for round in 0..comm.max_u64(mine.len() as u64) as usize {
        let rows = mine.get(round).map_or(0..0, |&block| blocks.rows(block));
        let mut values = ndarray::Array3::zeros((rows.len(), width, channels.len()));
        let done = analysis.reconstruct(rows.clone(), |y, line| {
            let part = line.slice(ndarray::s![.., channels.clone()]);
            values.index_axis_mut(Dim(0), y - rows.start).assign(&part);
            Ok(())
        });
        comm.agree(done).map_err(Failure::Source)?;
        file.write(&name, &[rows.start, 0, 0], values.view().into_dyn()).map_err(Failure::Fatal)?;
    }
    let mut axes = place_axes(cube, true);
    axes.push(cube.energy.slice(channels));
    signals.push(Signal::written(RECONSTRUCTION, axes, "EELS"));
    Ok(())
}

/// The axes y and x of the cube's maps.
pub fn place_axes(cube: &Cube, navigate: bool) -> Vec<Axis> {
    [&cube.info().y, &cube.info().x].map(|axis| Axis { navigate, ..axis.clone() }).to_vec()
}
