//! The file of one cube while all ranks write it: maps, latent codes, loadings, reconstructed spectra.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use ndarray::{Array2, Array3, ArrayView, Axis as Dim, IxDyn, s};

use super::scored_cube::ScoredCube;
use super::set_aside::Failure;
use super::titles::{LATENT, MEAN, PCA, PCA_COMPONENTS, PCA_LOADINGS, RECONSTRUCTION};
use crate::archive::Microscope;
use crate::comm::Comm;
use crate::cube::Axis;
use crate::output::{Contents, Data, HspyWriter, LearningResults, Measurement, Signal, Value, signal_path};
use crate::stream::Cube;

/// The file of one cube, and the signals that were written to it so far.
pub struct CubeFile<'c, 's> {
    comm: &'c Comm,
    scored: &'s ScoredCube<'s>,
    writer: HspyWriter<'c>,
    signals: Vec<Signal>,
    /// Scan lines of a chunk.
    chunk_rows: usize,
}

impl<'c, 's> CubeFile<'c, 's> {
    /// Begins the file at `path`, with the instrument that recorded the cube.
    ///
    /// # Collective
    /// # Errors
    /// A folder that cannot be written.
    pub fn create(comm: &'c Comm, path: &Path, scored: &'s ScoredCube<'s>) -> Result<CubeFile<'c, 's>> {
        let cube = scored.band.cube;
        let mut writer = HspyWriter::create(comm, path)?;
        writer.describe(measurement(cube));
        Ok(CubeFile { comm, scored, writer, signals: Vec::new(), chunk_rows: cube.blocks().rows(0).len() })
    }

    /// Writes a map, of which `local` are this rank's lines, as an image.
    ///
    /// # Collective
    /// # Errors
    /// An output that cannot be written.
    pub fn map<T: Value + Clone>(&mut self, title: &str, local: &[T]) -> Result<()> {
        self.map_over(title, local, false)
    }

    /// Writes a mask, of which `whole` is all of it, over the navigation axes: decompositions take it so.
    ///
    /// # Collective
    /// # Errors
    /// An output that cannot be written.
    pub fn mask(&mut self, title: &str, whole: &[u8]) -> Result<()> {
        self.map_over(title, self.scored.band_of(whole), true)
    }

    fn map_over<T: Value + Clone>(&mut self, title: &str, local: &[T], navigate: bool) -> Result<()> {
        let [height, width] = self.size();
        let name = signal_path(title);
        let shape = IxDyn(&[local.len() / width, width]);
        let local = ArrayView::from_shape(shape, local).expect("a band holds whole lines");
        self.writer.create_dataset::<T>(&name, &[height, width], &[self.chunk_rows, width])?;
        self.writer.write(&name, &[self.scored.band.lines.start, 0], local)?;
        let axes = self.map_axes(navigate);
        self.signals.push(Signal::written(title, axes.to_vec(), ""));
        Ok(())
    }

    /// Adds a signal that root alone writes, in the end.
    pub fn add(&mut self, signal: Signal) {
        self.signals.push(signal);
    }

    /// The mean spectrum.
    pub fn mean_spectrum(&mut self) {
        let mean = ArrayView::from(&self.scored.mean[..]).to_owned().into_dyn();
        let energy = self.scored.band.cube.energy.clone();
        self.add(Signal::new(MEAN, vec![energy], "EELS", Data::F64(mean)));
    }

    /// The blended latent means of the CVAE.
    ///
    /// # Collective
    /// # Errors
    /// An output that cannot be written.
    pub fn latent(&mut self) -> Result<()> {
        let Some(latent) = &self.scored.latent else {
            return Ok(());
        };
        let ([height, width], size) = (self.size(), latent.dim().0);
        let name = signal_path(LATENT);
        self.writer.create_dataset::<f32>(&name, &[size, height, width], &[1, self.chunk_rows, width])?;
        self.writer.write(&name, &[0, self.scored.band.lines.start, 0], latent.view().into_dyn())?;
        let [y, x] = self.map_axes(false);
        self.signals.push(Signal::written(LATENT, vec![Axis::of_indices("latent dimension", size, true), y, x], ""));
        Ok(())
    }

    /// The decomposition, on a signal of the cube's shape whose data are not copied.
    ///
    /// # Collective
    /// # Errors
    /// An output that cannot be written.
    pub fn decomposition(&mut self) -> Result<()> {
        let (found, loadings) = (&self.scored.decomposition, &self.scored.loadings);
        let ([height, width], k) = (self.size(), loadings.ncols());
        let name = format!("Experiments/{PCA}/learning_results/loadings");
        self.writer.create_dataset::<f64>(&name, &[height * width, k], &[self.chunk_rows * width, k])?;
        self.writer.write(&name, &[self.scored.band.lines.start * width, 0], loadings.view().into_dyn())?;
        let learning_results = LearningResults {
            factors: found.factors.clone(),
            explained_variance: found.explained_variance.clone(),
            explained_variance_ratio: found.explained_variance_ratio.clone(),
            poissonian_noise_normalized: found.poisson,
            output_dimension: k,
        };
        let energy = self.scored.band.cube.energy.clone();
        let data = Data::Declared { chunk: vec![self.chunk_rows, width, energy.size] };
        let [y, x] = self.map_axes(true);
        let signal = Signal::new(PCA, vec![y, x, energy], "EELS", data);
        self.add(Signal { learning_results: Some(learning_results), ..signal });
        self.components()
    }

    /// The components and loadings of the decomposition as signals of their own: HyperSpy 3 reads no `learning_results`.
    ///
    /// # Collective
    fn components(&mut self) -> Result<()> {
        let (factors, loadings) = (&self.scored.decomposition.factors, &self.scored.loadings);
        let ([height, width], k) = (self.size(), loadings.ncols());
        let component = Axis::of_indices("component", k, true);
        let energy = self.scored.band.cube.energy.clone();
        let spectra = Data::F64(factors.t().to_owned().into_dyn());
        self.add(Signal::new(PCA_COMPONENTS, vec![component.clone(), energy], "EELS", spectra));

        let name = signal_path(PCA_LOADINGS);
        self.writer.create_dataset::<f64>(&name, &[k, height, width], &[1, self.chunk_rows, width])?;
        let lines = loadings.nrows() / width;
        let maps = loadings.view().into_shape_with_order((lines, width, k)).expect("a band holds whole lines");
        let maps = maps.permuted_axes([2, 0, 1]);
        self.writer.write(&name, &[0, self.scored.band.lines.start, 0], maps.into_dyn())?;
        let [y, x] = self.map_axes(false);
        self.signals.push(Signal::written(PCA_LOADINGS, vec![component, y, x], ""));
        Ok(())
    }

    /// Every pixel as the CVAE reconstructs it, from the first to the last energy of the windows.
    ///
    /// # Collective
    /// # Errors
    /// Values that cannot be read; an output that cannot be written.
    pub fn reconstruction(&mut self) -> Result<(), Failure> {
        let scored = self.scored;
        if scored.tiles.is_none() {
            return Ok(());
        }
        let low = scored.windows.iter().map(|w| w.background_ev[0].min(w.range_ev[0]));
        let high = scored.windows.iter().map(|w| w.range_ev[1]);
        let energy = &scored.band.cube.energy;
        let channels = energy.indices(low.fold(f64::INFINITY, f64::min), high.fold(f64::NEG_INFINITY, f64::max));
        let ([height, width], blocks) = (self.size(), scored.band.cube.blocks());
        let name = signal_path(RECONSTRUCTION);
        let (shape, chunk) = ([height, width, channels.len()], [self.chunk_rows, width, channels.len()]);
        self.writer.create_dataset::<f32>(&name, &shape, &chunk).map_err(Failure::Fatal)?;
        let mine: Vec<usize> = blocks.owned(self.comm.rank(), self.comm.size()).collect();
        // Writing is collective: ranks with fewer blocks take part with no lines.
        for round in 0..self.comm.max_u64(mine.len() as u64) as usize {
            let rows = mine.get(round).map_or(0..0, |&block| blocks.rows(block));
            let mut values = Array3::zeros((rows.len(), width, channels.len()));
            let done = scored.reconstruct(rows.clone(), |y, line: Array2<f32>| {
                values.index_axis_mut(Dim(0), y - rows.start).assign(&line.slice(s![.., channels.clone()]));
                Ok(())
            });
            self.comm.agree(done).map_err(Failure::Source)?;
            let written = self.writer.write(&name, &[rows.start, 0, 0], values.view().into_dyn());
            written.map_err(Failure::Fatal)?;
        }
        let [y, x] = self.map_axes(true);
        self.signals.push(Signal::written(RECONSTRUCTION, vec![y, x, energy.slice(channels)], "EELS"));
        Ok(())
    }

    /// Has root add the small signals and `texts`, and gives the file its name.
    ///
    /// # Collective
    /// # Errors
    /// An output that cannot be written.
    pub fn finish(self, texts: BTreeMap<String, String>) -> Result<()> {
        self.writer.finish(Contents { signals: self.signals, texts })
    }

    fn size(&self) -> [usize; 2] {
        self.scored.band.cube.size()
    }

    /// The axes y and x of the maps.
    fn map_axes(&self, navigate: bool) -> [Axis; 2] {
        let info = self.scored.band.cube.info();
        [&info.y, &info.x].map(|axis| Axis { navigate, ..axis.clone() })
    }
}

/// The instrument, for every signal; not the scale of the stored intensities, which the results do not share.
fn measurement(cube: &Cube) -> Measurement {
    let name = cube.info().path.file_name().map(|name| name.to_string_lossy().into_owned());
    let microscope =
        Microscope { gain_factor: None, gain_offset: None, intensity_units: None, ..cube.microscope().clone() };
    Measurement { microscope, original_filename: name, ..Measurement::default() }
}
