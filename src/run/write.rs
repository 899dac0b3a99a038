//! The file of one cube: `ID.coreloss.hspy`, maps by all ranks, tables and provenance by root.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use ndarray::{s, Array2, ArrayView, IxDyn};

use super::analyse::{Analysis, Method};
use super::arrays;
use super::energy::EnergySummary;
use super::regions::{region_spectra, summarise};
use super::summary::{Choice, CubeSummary, ScoreSummary};
use crate::archive::{self, Microscope};
use crate::comm::Comm;
use crate::config::{Config, Reconstruction, Rule};
use crate::cube::Axis;
use crate::evaluate::{detection, ranking};
use crate::output::{
    read_text, signal_path, About, Data, HspyWriter, Signal, Small, SmallSignal, Value,
};
use crate::score::{flag, regions, Flags, Meaning};
use crate::stream::Cube;

/// Titles of the signals in a file; HyperSpy lists them in alphabetical order.
pub const COUNTS: &str = "00_counts";
pub const MEAN: &str = "01_mean_spectrum";
pub const ENERGY_SHIFT: &str = "03_energy_shift";
pub const THICKNESS: &str = "04_thickness";
pub const REGIONS: &str = "30_regions";
pub const REGION_SPECTRA: &str = "31_region_spectra";
pub const REGION_RECONSTRUCTIONS: &str = "32_region_reconstructions";
pub const SHIFT: &str = "33_estimated_shift_ev";
pub const LATENT: &str = "40_latent";
pub const PCA: &str = "50_pca";

/// The map of one score.
pub fn map_title(method: &str, score: &str) -> String {
    format!("10_{method}_{score}")
}

fn mask_title(method: &str, score: &str) -> String {
    format!("20_{method}_{score}_mask")
}

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
    config.output.dir.join(format!("{name}.coreloss.hspy"))
}

/// What an earlier run found in this very file, if it was finished.
///
/// # Collective
/// # Errors
/// A file that is gone.
pub fn finished(comm: &Comm, config: &Config, cube: &Cube) -> Result<Option<CubeSummary>> {
    let found = if comm.is_root() {
        found_earlier(config, cube)
    } else {
        Ok(None)
    };
    // As text: the summary's maps have no fixed layout.
    let text: Option<String> = comm.broadcast(Some(comm.agree(found)?));
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// The summary, as text. Rank-local.
pub fn found_earlier(config: &Config, cube: &Cube) -> Result<Option<String>> {
    let path = path(config, &cube.info().id);
    let same = path.exists()
        && read_text(&path, "fingerprint")
            .is_ok_and(|before| cube.fingerprint(config).is_ok_and(|now| now == before));
    // A file from before a change is written anew.
    Ok(if same {
        read_text(&path, "summary").ok()
    } else {
        None
    })
}

/// Thresholds, regions, metrics and the file.
///
/// # Collective
/// # Errors
/// A truth map of another size; an output that cannot be written.
pub fn write(
    comm: &Comm,
    config: &Config,
    cube: &Cube,
    analysis: &Analysis,
) -> Result<CubeSummary> {
    let [height, width] = cube.size();
    let band = &analysis.band.lines;
    let truth = comm.agree(if comm.is_root() {
        archive::truth(&cube.info().path, cube.size())
    } else {
        Ok(None)
    })?;
    let truth: Option<Vec<i32>> = truth.map(|truth| truth.iter().copied().collect());
    let default = Choice {
        method: analysis.methods[0].name.clone(),
        score: "combined".into(),
    };
    let chunk_rows = analysis.blocks.rows(0).len();
    let mut file = HspyWriter::create(comm, &path(config, &cube.info().id))?;
    file.describe(about(cube));
    let mut signals = Vec::new();
    let maps = MapWriter {
        cube,
        chunk_rows,
        start: band.start,
    };

    maps.write(&mut file, &mut signals, COUNTS, &analysis.totals, false)?;
    if let Some(shifts) = &cube.shifts {
        let local = shifts.map.slice(s![band.clone(), ..]);
        let local: Vec<f32> = local.iter().copied().collect();
        maps.write(&mut file, &mut signals, ENERGY_SHIFT, &local, false)?;
    }
    if let Some(thickness) = &analysis.thickness {
        maps.write(&mut file, &mut signals, THICKNESS, thickness, false)?;
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
                    let map = Array2::from_shape_vec((height, width), values)
                        .context("a map has a value for each pixel")?;
                    let flags = flag(
                        rule(config, score),
                        meaning,
                        map.view(),
                        config.preprocess.spatial_mean,
                    );
                    mask = flags.flagged.iter().map(|&flag| flag as u8).collect();
                    Some((map, flags))
                }
                None => None,
            };
            comm.broadcast_into(&mut mask);
            maps.write(
                &mut file,
                &mut signals,
                &map_title(&method.name, score),
                local,
                false,
            )?;
            let local_mask = &mask[band.start * width..band.end * width];
            let title = mask_title(&method.name, score);
            maps.write(&mut file, &mut signals, &title, local_mask, true)?;
            if let Some((map, flags)) = flags {
                if method.name == default.method && score == default.score {
                    let (list, map) = regions(map.view(), flags.flagged.view());
                    found_regions = list;
                    labels = map.into_raw_vec_and_offset().0;
                }
                methods.entry(method.name.clone()).or_default().insert(
                    score.into(),
                    summarise_score(&map, truth.as_deref(), &flags),
                );
            }
        }
    }
    comm.broadcast_into(&mut labels);
    let local_labels = &labels[band.start * width..band.end * width];
    maps.write(&mut file, &mut signals, REGIONS, local_labels, false)?;
    let shifts = &analysis.methods[0].scores.estimated_shift_ev;
    maps.write(&mut file, &mut signals, SHIFT, shifts, false)?;
    let found_shifts = comm.gather_bands(shifts);
    arrays::write_latent(&mut file, &mut signals, cube, analysis, chunk_rows)?;
    arrays::write_pca(&mut file, &mut signals, cube, analysis, chunk_rows)?;
    if config.output.reconstruction == Reconstruction::Window {
        arrays::write_reconstruction(comm, &mut file, &mut signals, cube, analysis)?;
    }
    signals.push(SmallSignal {
        signal: Signal {
            title: MEAN.into(),
            axes: vec![cube.energy.clone()],
            signal_type: "EELS".into(),
        },
        data: Data::F64(ArrayView::from(&analysis.mean[..]).to_owned().into_dyn()),
        learning_results: None,
    });
    if config.output.reconstruction != Reconstruction::None {
        signals.extend(region_spectra(comm, cube, analysis, &labels)?);
    }
    let summary = CubeSummary {
        name: cube.info().id.clone(),
        shape: cube.shape(),
        energy: EnergySummary::of(cube),
        ignored: cube.ignored.iter().filter(|&&ignored| ignored).count(),
        methods,
        default,
        regions: summarise(&found_regions, &labels, found_shifts.as_deref(), width),
    };
    let texts = provenance(comm, config, cube, analysis, &summary)?;
    file.finish(Small { signals, texts })?;
    // The maps of summaries were made on root.
    let text = comm.broadcast(Some(serde_json::to_string(&summary)?));
    Ok(serde_json::from_str(&text)?)
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
        signals: &mut Vec<SmallSignal>,
        title: &str,
        local: &[T],
        navigate: bool,
    ) -> Result<()> {
        let [height, width] = self.cube.size();
        let name = signal_path(title);
        file.create_dataset::<T>(&name, &[height, width], &[self.chunk_rows, width])?;
        let local = ArrayView::from_shape(IxDyn(&[local.len() / width, width]), local)
            .context("a band holds whole lines")?;
        file.write(&name, &[self.start, 0], local)?;
        signals.push(parallel(title, place_axes(self.cube, navigate), ""));
        Ok(())
    }
}

pub fn parallel(title: &str, axes: Vec<Axis>, signal_type: &str) -> SmallSignal {
    SmallSignal {
        signal: Signal {
            title: title.into(),
            axes,
            signal_type: signal_type.into(),
        },
        data: Data::Parallel,
        learning_results: None,
    }
}

pub fn place_axes(cube: &Cube, navigate: bool) -> Vec<Axis> {
    [&cube.info().y, &cube.info().x]
        .map(|axis| Axis {
            navigate,
            ..axis.clone()
        })
        .to_vec()
}

/// An axis that counts things.
pub fn index_axis(name: &str, size: usize) -> Axis {
    Axis {
        name: name.into(),
        units: String::new(),
        scale: 1.0,
        offset: 0.0,
        size,
        navigate: true,
    }
}

fn summarise_score(map: &Array2<f32>, truth: Option<&[i32]>, flags: &Flags) -> ScoreSummary {
    let values: Vec<f32> = map.iter().copied().collect();
    let flagged: Vec<bool> = flags.flagged.iter().copied().collect();
    let ranked = truth.and_then(|truth| ranking(&values, truth));
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
    }
}

/// The instrument, for every signal; not the scale of the stored intensities, in which no result is.
fn about(cube: &Cube) -> About {
    let path = &cube.info().path;
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    About {
        microscope: Microscope {
            gain_factor: None,
            gain_offset: None,
            intensity_units: None,
            ..cube.microscope().clone()
        },
        original_filename: name,
        ..About::default()
    }
}

/// Where the results come from.
fn provenance(
    comm: &Comm,
    config: &Config,
    cube: &Cube,
    analysis: &Analysis,
    summary: &CubeSummary,
) -> Result<BTreeMap<String, String>> {
    let texts = [
        ("config", config.to_yaml()),
        ("version", env!("CARGO_PKG_VERSION").to_string()),
        ("revision", env!("CORELOSS_REVISION").to_string()),
        ("ranks", comm.size().to_string()),
        ("seed", config.seed.to_string()),
        ("input", cube.info().path.display().to_string()),
        ("fingerprint", cube.fingerprint(config)?),
        ("cube", serde_json::to_string(cube.info())?),
        ("microscope", serde_json::to_string(cube.microscope())?),
        ("windows", serde_json::to_string(&analysis.windows)?),
        ("summary", serde_json::to_string(summary)?),
    ];
    Ok(texts
        .into_iter()
        .map(|(name, text)| (name.to_string(), text))
        .collect())
}
