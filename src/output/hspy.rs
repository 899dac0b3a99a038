//! Writes HyperSpy's file layout: signals with axes and metadata, learning results, and texts of our own beside them.
//!
//! Serial: root adds these small objects once the parallel part of the file is closed.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use hdf5::plist::dataset_create::AllocTime;
use hdf5::{File, Group, H5Type};
use ndarray::{Array1, Array2, ArrayD};

use super::attribute::{group, set, set_text};
use super::measurement::{self, Measurement};
use crate::cube::Axis;

/// gzip level of every dataset, after the shuffle filter; HyperSpy's own choice.
pub(super) const GZIP: u8 = 4;

/// The group of our own texts; HyperSpy ignores groups outside `Experiments`.
pub(super) const TEXTS: &str = "coreloss";

/// Bytes; longer texts become datasets of bytes, as HDF5 keeps attributes below 64 KiB.
const LONGEST_ATTRIBUTE: usize = 60_000;

/// Most values in a chunk of a small dataset.
const CHUNK_VALUES: usize = 1 << 18;

/// A signal as HyperSpy shows it, and where its values come from.
pub struct Signal {
    pub title: String,
    /// One per dimension of the data, in their order.
    pub axes: Vec<Axis>,
    /// `EELS` for spectra, empty for maps.
    pub signal_type: String,
    pub data: Data,
    pub learning_results: Option<LearningResults>,
}

impl Signal {
    /// A signal without learning results.
    pub fn new(title: &str, axes: Vec<Axis>, signal_type: &str, data: Data) -> Signal {
        Signal { title: title.into(), axes, signal_type: signal_type.into(), data, learning_results: None }
    }

    /// A signal whose data all ranks have written.
    pub fn written(title: &str, axes: Vec<Axis>, signal_type: &str) -> Signal {
        Signal::new(title, axes, signal_type, Data::Written)
    }
}

/// The values of a signal.
pub enum Data {
    /// All ranks have written them.
    Written,
    /// None: a float32 dataset that reads as zeros, for results that describe a cube without copying it.
    Declared {
        chunk: Vec<usize>,
    },
    F32(ArrayD<f32>),
    F64(ArrayD<f64>),
    I32(ArrayD<i32>),
}

/// A decomposition as HyperSpy keeps it, except the loadings.
///
/// All ranks write those at `Experiments/TITLE/learning_results/loadings`, `[pixels, k]` f64 in C order of
/// (y, x).
#[derive(Clone, Debug, PartialEq)]
pub struct LearningResults {
    /// `[energy, k]`.
    pub factors: Array2<f64>,
    /// Squared singular values divided by the number of pixels; may be longer than k.
    pub explained_variance: Vec<f64>,
    pub explained_variance_ratio: Vec<f64>,
    pub poissonian_noise_normalized: bool,
    pub output_dimension: usize,
}

/// What root adds to a file.
#[derive(Default)]
pub struct Contents {
    pub signals: Vec<Signal>,
    /// Provenance by name, kept in the group `/coreloss`.
    pub texts: BTreeMap<String, String>,
}

/// The dataset of the signal `title`: `Experiments/TITLE/data`.
pub fn signal_path(title: &str) -> String {
    format!("Experiments/{}/data", group_name(title))
}

/// The group of the signal `title`, as HyperSpy names it.
fn group_name(title: &str) -> String {
    match title {
        "" => "__unnamed__".into(),
        // To HDF5 "." is the group itself.
        "." => "-".into(),
        title => title.replace('/', "-"),
    }
}

/// `chunk` cut down to `shape`.
pub(super) fn fitting_chunk(shape: &[usize], chunk: &[usize]) -> Result<Vec<usize>> {
    ensure!(!shape.is_empty() && !shape.contains(&0), "its shape {shape:?} is empty");
    ensure!(shape.len() == chunk.len(), "its chunks {chunk:?} do not fit its shape {shape:?}");
    Ok(shape.iter().zip(chunk).map(|(&size, &part)| part.clamp(1, size)).collect())
}

/// Adds `contents` to `file`, and `measurement` to each of the signals. Rank-local.
pub(super) fn add(file: &File, contents: &Contents, measurement: &Measurement) -> Result<()> {
    set_text(file, "file_format", "HyperSpy")?;
    set_text(file, "file_format_version", "3.3")?;
    for signal in &contents.signals {
        add_signal(file, signal, measurement).with_context(|| format!("signal {:?}", signal.title))?;
    }
    let texts = group(file, TEXTS)?;
    for (name, text) in &contents.texts {
        if text.len() <= LONGEST_ATTRIBUTE {
            set_text(&texts, name, text)?;
        } else {
            let bytes = Array1::from_iter(text.bytes()).into_dyn();
            add_dataset(&texts, name, &bytes).with_context(|| format!("text {name}"))?;
        }
    }
    Ok(())
}

fn add_signal(file: &File, signal: &Signal, measurement: &Measurement) -> Result<()> {
    let shape: Vec<usize> = signal.axes.iter().map(|axis| axis.size).collect();
    let experiment = group(file, &format!("Experiments/{}", group_name(&signal.title)))?;
    match &signal.data {
        Data::Written => (),
        Data::Declared { chunk } => {
            let chunk = fitting_chunk(&shape, chunk)?;
            experiment
                .new_dataset::<f32>()
                .shape(&shape[..])
                .chunk(chunk)
                .shuffle()
                .deflate(GZIP)
                .alloc_time(Some(AllocTime::Late))
                .create("data")?;
        }
        Data::F32(values) => add_dataset(&experiment, "data", values)?,
        Data::I32(values) => add_dataset(&experiment, "data", values)?,
        Data::F64(values) => add_dataset(&experiment, "data", values)?,
    }
    let stored = experiment.dataset("data").context("its data were never written")?.shape();
    ensure!(stored == shape, "its data have shape {stored:?}, its axes {shape:?}");

    for (i, axis) in signal.axes.iter().enumerate() {
        add_axis(&experiment, i, axis, signal.signal_type == "EELS")?;
    }
    measurement::add(&experiment, measurement)?;
    let general = group(&experiment, "metadata/General")?;
    set_text(&general, "title", &signal.title)?;
    let kind = group(&experiment, "metadata/Signal")?;
    set_text(&kind, "signal_type", &signal.signal_type)?;
    let attributes = group(&experiment, "attributes")?;
    set(&attributes, "_lazy", &false)?;
    set(&attributes, "ragged", &false)?;
    let learning = group(&experiment, "learning_results")?;
    if let Some(results) = &signal.learning_results {
        add_learning_results(&learning, results, &shape).context("learning results")?;
    }
    Ok(())
}

fn add_axis(experiment: &Group, i: usize, axis: &Axis, is_eels: bool) -> Result<()> {
    let described = group(experiment, &format!("axis-{i}"))?;
    set_text(&described, "_type", "UniformDataAxis")?;
    set_text(&described, "name", or_none(&axis.name))?;
    set_text(&described, "units", or_none(&axis.units))?;
    set(&described, "scale", &axis.scale)?;
    set(&described, "offset", &axis.offset)?;
    set(&described, "size", &(axis.size as i64))?;
    // A bool as numpy writes it: HyperSpy rejects an integer here.
    set(&described, "navigate", &axis.navigate)?;
    set(&described, "is_binned", &(is_eels && !axis.navigate))
}

/// HyperSpy's text for an absent value.
fn or_none(text: &str) -> &str {
    if text.is_empty() { "_None_" } else { text }
}

/// # Source
/// HyperSpy 2.5 `LearningResults`. Its `mean` is left out: `get_decomposition_model` fails on the shape that it asks for.
fn add_learning_results(learning: &Group, results: &LearningResults, shape: &[usize]) -> Result<()> {
    let (energy, components) = results.factors.dim();
    ensure!(shape.last() == Some(&energy), "factors of {energy} channels for a signal of shape {shape:?}");
    let loadings = learning.dataset("loadings").context("the loadings were never written")?.shape();
    let pixels = shape.iter().product::<usize>() / energy.max(1);
    ensure!(loadings == [pixels, components], "loadings have shape {loadings:?}, not {:?}", [pixels, components]);
    add_dataset(learning, "factors", &results.factors.clone().into_dyn())?;
    let vector = |values: &[f64]| Array1::from(values.to_vec()).into_dyn();
    add_dataset(learning, "explained_variance", &vector(&results.explained_variance))?;
    add_dataset(learning, "explained_variance_ratio", &vector(&results.explained_variance_ratio))?;
    set_text(learning, "decomposition_algorithm", "SVD")?;
    for absent in ["centre", "mean", "bss_algorithm", "unmixing_matrix"] {
        set_text(learning, absent, "_None_")?;
    }
    set(learning, "output_dimension", &(results.output_dimension as i64))?;
    set(learning, "poissonian_noise_normalized", &results.poissonian_noise_normalized)?;
    set(learning, "unfolded", &false)
}

/// Writes a whole array in chunks; HyperSpy loads no other layout lazily.
fn add_dataset<T: H5Type + Clone>(parent: &Group, name: &str, values: &ArrayD<T>) -> Result<()> {
    let row: usize = values.shape().iter().skip(1).product();
    let mut chunk = values.shape().to_vec();
    if let Some(rows) = chunk.first_mut() {
        *rows = (CHUNK_VALUES / row.max(1)).max(1);
    }
    let chunk = fitting_chunk(values.shape(), &chunk).with_context(|| format!("dataset {name}"))?;
    let ordered = values.as_standard_layout();
    parent
        .new_dataset_builder()
        .with_data(ordered.view())
        .chunk(chunk)
        .shuffle()
        .deflate(GZIP)
        .create(name)
        .with_context(|| format!("dataset {name} cannot be written"))?;
    Ok(())
}
