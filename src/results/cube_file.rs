//! The file of one cube: `ID.coreloss.hspy`, maps by all ranks, tables and provenance by root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ndarray::{Array2, ArrayView, IxDyn, s};

use serde::de::DeserializeOwned;

use super::arrays::{self, place_axes};
use super::energy::EnergySummary;
use super::regions::{region_spectra, summarise};
use super::scored_cube::{Method, ScoredCube};
use super::set_aside::Failure;
use super::summary::{Choice, CubeSummary, ScoreSummary};
use super::titles::{COUNTS, ENERGY_SHIFT, MEAN, REGIONS, SHIFT, THICKNESS, map_title, mask_title};
use crate::archive::{self, Microscope};
use crate::comm::Comm;
use crate::config::{Config, Reconstruction, Rule};
use crate::evaluate::{detection, ranking, separation};
use crate::output::{Contents, Data, HspyWriter, Measurement, Signal, Value, read_text, signal_path};
use crate::score::{Flags, Meaning, flag, regions};
use crate::stream::Cube;

/// The scores of a method by name, and what they mean.
fn score_maps(method: &Method) -> Vec<(&'static str, Meaning, &[f32])> {
    let scores = &method.scores;
    let mut maps: Vec<(&'static str, Meaning, &[f32])> = vec![
        ("combined", Meaning::Odds, &scores.combined),
        ("shift", Meaning::Odds, &scores.shift),
        ("composition", Meaning::Odds, &scores.composition),
        ("pcc", Meaning::Distance, &scores.pcc),
    ];
    if let Some(rx) = &method.rx {
        maps.push(("rx", Meaning::Distance, &rx.global));
        maps.push(("rx_local", Meaning::Distance, &rx.local));
    }
    maps
}

/// How the threshold of a score is found.
fn rule(config: &Config, score: &str) -> Rule {
    match config.score.pcc_threshold {
        Some(rule) if score == "pcc" => rule,
        _ => config.score.threshold,
    }
}

/// Where the results of a cube go.
pub fn path(config: &Config, name: &str) -> PathBuf {
    result_path(&config.output.dir, name)
}

/// Of the cube `name` in the run of `directory`.
pub fn result_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.coreloss.hspy"))
}

/// What an earlier run found in this very file, if it was finished and the CVAE had its part in it.
///
/// # Collective
/// # Errors
/// A file that is gone.
pub fn finished(comm: &Comm, config: &Config, cube: &Cube) -> Result<Option<CubeSummary>> {
    // As text: the summary's maps have no fixed layout.
    let text: Option<String> = comm.from_root(|| found_earlier(config, cube))?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// What is in the file of a cube, if that is from this very input and has all scores: its findings. Rank-local.
pub fn scored_before(config: &Config, cube: &Cube) -> Option<CubeSummary> {
    let text = found_earlier(config, cube).ok()??;
    serde_json::from_str(&text).ok()
}

/// The summary, as text. Rank-local.
fn found_earlier(config: &Config, cube: &Cube) -> Result<Option<String>> {
    let path = path(config, &cube.info().id);
    let same = path.exists()
        && read_text(&path, "fingerprint").is_ok_and(|before| cube.fingerprint(config).is_ok_and(|now| now == before));
    if !same {
        return Ok(None);
    }
    // A file from before a change is written anew, and so is one of the linear methods alone.
    let is_whole = |text: &String| serde_json::from_str(text).is_ok_and(|summary: CubeSummary| summary.has_cvae());
    Ok(read_text(&path, "summary").ok().filter(is_whole))
}

/// What a result file tells in JSON under `name`.
pub fn told<T: DeserializeOwned>(path: &Path, name: &str) -> Result<T> {
    serde_json::from_str(&read_text(path, name)?).with_context(|| {
        format!(
            "{}: what it says of the {name} is not understood: another version wrote it; score the cube again",
            path.display()
        )
    })
}

/// Thresholds, regions, metrics and the file.
///
/// # Collective
/// An output that cannot be written any more ends the job.
/// # Errors
/// A truth map of another size, values that cannot be read; an output that cannot be begun or finished.
pub fn write(comm: &Comm, config: &Config, cube: &Cube, analysis: &ScoredCube) -> Result<CubeSummary, Failure> {
    let truth = comm.on_root(|| archive::truth(&cube.info().path, cube.size()));
    let truth = truth.map_err(Failure::Source)?;
    let truth: Option<Vec<i32>> = truth.map(|truth| truth.iter().copied().collect());
    // Before there is a file, which all ranks have to close together.
    let fingerprint = comm.agree(cube.fingerprint(config));
    let fingerprint = fingerprint.map_err(Failure::Source)?;
    let mut file = HspyWriter::create(comm, &path(config, &cube.info().id)).map_err(Failure::Fatal)?;
    file.describe(measurement(cube));
    let (summary, signals) = match fill(comm, config, cube, analysis, truth, &mut file) {
        Ok(filled) => filled,
        Err(Failure::Source(error)) => return Err(Failure::Source(error)),
        // To drop the file would be to close it: on a full disk a rank may never come back from that.
        Err(Failure::Fatal(error)) => comm.fail(&error),
    };
    let texts = provenance(comm, config, cube, analysis, &summary, fingerprint);
    let texts = comm.agree(texts).map_err(Failure::Fatal)?;
    (file.finish(Contents { signals, texts })).map_err(Failure::Fatal)?;
    // The maps of summaries were made on root.
    let text = serde_json::to_string(&summary).expect("a summary has plain types");
    let text = comm.broadcast(Some(text));
    serde_json::from_str(&text).map_err(|error| Failure::Source(error.into()))
}

/// Writes the maps and arrays; answers the summary, whole on root, and the signals of the file.
///
/// # Collective
/// # Errors
/// Values that cannot be read; an output that cannot be written.
fn fill(
    comm: &Comm,
    config: &Config,
    cube: &Cube,
    analysis: &ScoredCube,
    truth: Option<Vec<i32>>,
    file: &mut HspyWriter,
) -> Result<(CubeSummary, Vec<Signal>), Failure> {
    let [height, width] = cube.size();
    let band = &analysis.band.lines;
    let default = Choice { method: analysis.methods[0].name.clone(), score: "combined".into() };
    let chunk_rows = analysis.blocks.rows(0).len();
    let mut signals = Vec::new();
    let maps = MapWriter { cube, chunk_rows, start: band.start };

    maps.write(file, &mut signals, COUNTS, &analysis.totals, false)?;
    if let Some(shifts) = &cube.shifts {
        let local = shifts.map.slice(s![band.clone(), ..]);
        let local: Vec<f32> = local.iter().copied().collect();
        maps.write(file, &mut signals, ENERGY_SHIFT, &local, false)?;
    }
    if let Some(thickness) = &analysis.thickness {
        maps.write(file, &mut signals, THICKNESS, thickness, false)?;
    }
    let mut methods: BTreeMap<String, BTreeMap<String, ScoreSummary>> = BTreeMap::new();
    let mut found_regions = Vec::new();
    let mut labels = vec![0i32; height * width];
    for method in &analysis.methods {
        for (score, meaning, local) in score_maps(method) {
            let gathered = comm.gather_bands(local);
            let mut mask = vec![0u8; height * width];
            let flags = match gathered {
                Some(values) => {
                    let map =
                        Array2::from_shape_vec((height, width), values).expect("a map has a value for each pixel");
                    let flags = flag(rule(config, score), meaning, map.view(), config.preprocess.spatial_mean);
                    mask = flags.flagged.iter().map(|&flag| flag as u8).collect();
                    Some((map, flags))
                }
                None => None,
            };
            comm.broadcast_into(&mut mask);
            maps.write(file, &mut signals, &map_title(&method.name, score), local, false)?;
            let local_mask = &mask[band.start * width..band.end * width];
            let title = mask_title(&method.name, score);
            maps.write(file, &mut signals, &title, local_mask, true)?;
            if let Some((map, flags)) = flags {
                if method.name == default.method && score == default.score {
                    let (list, map) = regions(map.view(), flags.flagged.view());
                    found_regions = list;
                    labels = map.into_raw_vec_and_offset().0;
                }
                methods
                    .entry(method.name.clone())
                    .or_default()
                    .insert(score.into(), summarise_score(&map, truth.as_deref(), &flags));
            }
        }
    }
    comm.broadcast_into(&mut labels);
    let local_labels = &labels[band.start * width..band.end * width];
    maps.write(file, &mut signals, REGIONS, local_labels, false)?;
    let of_default = &analysis.methods[0].scores;
    let shifts = of_default.estimated_shift_ev();
    maps.write(file, &mut signals, SHIFT, &shifts, false)?;
    let kind_of = comm.gather_bands(&of_default.kind_of);
    arrays::write_latent(file, &mut signals, cube, analysis, chunk_rows).map_err(Failure::Fatal)?;
    arrays::write_pca(file, &mut signals, cube, analysis, chunk_rows).map_err(Failure::Fatal)?;
    if config.output.reconstruction == Reconstruction::Window {
        arrays::write_reconstruction(comm, file, &mut signals, cube, analysis)?;
    }
    let mean = ArrayView::from(&analysis.mean[..]).to_owned().into_dyn();
    signals.push(Signal::new(MEAN, vec![cube.energy.clone()], "EELS", Data::F64(mean)));
    let mut energies_ev = Vec::new();
    if config.output.reconstruction != Reconstruction::None {
        let spectra = region_spectra(comm, cube, analysis, &labels).map_err(Failure::Source)?;
        signals.extend(spectra.signals);
        energies_ev = spectra.energies_ev;
    }
    let summary = CubeSummary {
        name: cube.info().id.clone(),
        shape: cube.shape(),
        energy: EnergySummary::of(cube),
        ignored: cube.ignored.iter().filter(|&&ignored| ignored).count(),
        methods,
        default,
        regions: summarise(&found_regions, &labels, (&of_default.kinds, kind_of.as_deref()), &energies_ev, width),
    };
    Ok((summary, signals))
}

/// Writes maps of this rank's lines.
struct MapWriter<'a> {
    cube: &'a Cube,
    chunk_rows: usize,
    start: usize,
}

impl MapWriter<'_> {
    /// `navigate`: a mask of places, as decompositions take it; else an image.
    ///
    /// # Collective
    fn write<T: Value + Clone>(
        &self,
        file: &mut HspyWriter,
        signals: &mut Vec<Signal>,
        title: &str,
        local: &[T],
        navigate: bool,
    ) -> Result<(), Failure> {
        let [height, width] = self.cube.size();
        let name = signal_path(title);
        let local =
            ArrayView::from_shape(IxDyn(&[local.len() / width, width]), local).expect("a band holds whole lines");
        file.create_dataset::<T>(&name, &[height, width], &[self.chunk_rows, width])
            .and_then(|()| file.write(&name, &[self.start, 0], local))
            .map_err(Failure::Fatal)?;
        signals.push(Signal::written(title, place_axes(self.cube, navigate), ""));
        Ok(())
    }
}

fn summarise_score(map: &Array2<f32>, truth: Option<&[i32]>, flags: &Flags) -> ScoreSummary {
    let values: Vec<f32> = map.iter().copied().collect();
    let flagged: Vec<bool> = flags.flagged.iter().copied().collect();
    let ranked = truth.and_then(|truth| ranking(&values, truth));
    let parted = truth.and_then(|truth| separation(&values, truth));
    let detected = truth.and_then(|truth| detection(&values, truth, &flagged));
    ScoreSummary {
        threshold: flags.threshold.is_finite().then_some(flags.threshold),
        flagged: flagged.iter().filter(|&&flag| flag).count(),
        auroc: ranked.as_ref().map(|found| found.auroc),
        average_precision: ranked.as_ref().map(|found| found.average_precision),
        best_f1: ranked.as_ref().map(|found| found.best_f1),
        f1: detected.map(|found| found.f1),
        precision: detected.map(|found| found.precision),
        recall: detected.map(|found| found.recall),
        // JSON has no infinity.
        ashman_d: parted.map(|found| found.ashman_d).filter(|d| d.is_finite()),
        overlap: parted.map(|found| found.overlap),
    }
}

/// The instrument, for every signal; not the scale of the stored intensities, in which no result is.
fn measurement(cube: &Cube) -> Measurement {
    let path = &cube.info().path;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    Measurement {
        microscope: Microscope {
            gain_factor: None,
            gain_offset: None,
            intensity_units: None,
            ..cube.microscope().clone()
        },
        original_filename: name,
        ..Measurement::default()
    }
}

/// Where the results come from.
fn provenance(
    comm: &Comm,
    config: &Config,
    cube: &Cube,
    analysis: &ScoredCube,
    summary: &CubeSummary,
    fingerprint: String,
) -> Result<BTreeMap<String, String>> {
    let texts = [
        ("config", config.to_yaml()),
        ("version", env!("CARGO_PKG_VERSION").to_string()),
        ("revision", env!("CORELOSS_REVISION").to_string()),
        ("ranks", comm.size().to_string()),
        ("seed", config.seed.to_string()),
        ("input", cube.info().path.display().to_string()),
        ("fingerprint", fingerprint),
        ("cube", serde_json::to_string(cube.info())?),
        ("microscope", serde_json::to_string(cube.microscope())?),
        ("windows", serde_json::to_string(&analysis.windows)?),
        ("summary", serde_json::to_string(summary)?),
    ];
    Ok(texts.into_iter().map(|(name, text)| (name.to_string(), text)).collect())
}
