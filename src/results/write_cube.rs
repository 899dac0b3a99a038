//! Writes what was found in one cube: `ID.coreloss.hspy`, with thresholds, regions and metrics.

use std::collections::BTreeMap;

use anyhow::Result;
use ndarray::{Array2, s};

use super::cube_file::CubeFile;
use super::earlier::set_cube_apart;
use super::energy_summary::EnergySummary;
use super::region_spectra::write_region_spectra;
use super::region_table::region_table;
use super::score_maps::{flag_map, score_maps, summarise_score};
use super::scored_cube::ScoredCube;
use super::set_aside::Failure;
use super::stored::{IDENTITY, cube_path, is_of};
use super::summary::{Choice, CubeSummary, SCORING, ScoreSummary};
use super::titles::{COUNTS, ENERGY_SHIFT, REGIONS, SHIFT, THICKNESS, map_title, mask_title};
use crate::archive;
use crate::comm::Comm;
use crate::config::{Config, Reconstruction};
use crate::score::{Region, regions};
use crate::stream::{Cube, Identity, Use};

/// The scores of methods by name.
type Methods = BTreeMap<String, BTreeMap<String, ScoreSummary>>;

/// Writes the file of a scored cube; gives its summary, the same on all ranks.
///
/// # Collective
/// An output that cannot be written any more ends the job.
/// # Errors
/// A truth map of another size, values that cannot be read; an output that cannot be begun or finished.
pub fn write_cube(comm: &Comm, config: &Config, scored: &ScoredCube) -> Result<CubeSummary, Failure> {
    let cube = scored.band.cube;
    // What may fail for the cube's own fault comes before there is a file, which all ranks have to close together.
    let truth = comm.on_root(|| archive::truth(&cube.info().path, cube.size()));
    let truth: Option<Vec<i32>> = truth.map_err(Failure::Source)?.map(|truth| truth.into_iter().collect());
    let fingerprint = comm.agree(cube.fingerprint(config)).map_err(Failure::Source)?;
    let identity = comm.from_root(|| Ok(serde_json::to_string(&Identity::of(cube, config, Use::Scoring)?)?));
    let identity: String = identity.map_err(Failure::Source)?;
    let path = cube_path(&config.output.dir, &cube.info().id);
    let is_stale = comm.on_root(|| Ok(path.exists() && !is_of(&path, cube, config)?)).map_err(Failure::Source)?;
    let mut file = CubeFile::create(comm, &path, scored).map_err(Failure::Fatal)?;
    let summary = match write_signals(comm, config, scored, truth.as_deref(), &mut file) {
        Ok(summary) => summary,
        Err(Failure::Source(error)) => return Err(Failure::Source(error)),
        // To drop the file would be to close it: on a full disk a rank may never come back from that.
        Err(Failure::Fatal(error)) => comm.fail(&error),
    };
    // Root alone has seen whole maps. As text: the summary's maps have no fixed layout.
    let text = comm.broadcast(Some(serde_json::to_string(&summary).expect("a summary has plain types")));
    let texts = comm.agree(provenance(comm, config, scored, [fingerprint, identity], &text)).map_err(Failure::Fatal)?;
    comm.on_root(|| if is_stale { set_apart(config, cube) } else { Ok(()) }).map_err(Failure::Fatal)?;
    file.finish(texts).map_err(Failure::Fatal)?;
    serde_json::from_str(&text).map_err(|error| Failure::Source(error.into()))
}

/// Sets results apart that are of `cube` as it was before. Root only.
fn set_apart(config: &Config, cube: &Cube) -> Result<()> {
    let apart = set_cube_apart(&config.output.dir, &cube.info().id)?;
    let path = cube.info().path.display();
    log::warn!("{path} has changed since it was scored: what was found before is in {}", apart.display());
    Ok(())
}

/// Writes maps, arrays and spectra; gives the summary, whole on root.
///
/// # Collective
/// # Errors
/// Values that cannot be read; an output that cannot be written.
fn write_signals(
    comm: &Comm,
    config: &Config,
    scored: &ScoredCube,
    truth: Option<&[i32]>,
    file: &mut CubeFile,
) -> Result<CubeSummary, Failure> {
    let cube = scored.band.cube;
    write_properties(scored, file).map_err(Failure::Fatal)?;
    let default = Choice { method: scored.methods[0].name.clone(), score: "combined".into() };
    let (methods, regions, labels) =
        write_scores(comm, config, scored, &default, truth, file).map_err(Failure::Fatal)?;
    let kind_of = write_arrays(comm, scored, file).map_err(Failure::Fatal)?;
    if config.output.reconstruction == Reconstruction::Window {
        file.reconstruction()?;
    }
    file.mean_spectrum();
    let sums = match config.output.reconstruction {
        Reconstruction::None => Vec::new(),
        _ => write_region_spectra(comm, scored, &labels, file).map_err(Failure::Source)?,
    };
    let kinds = (&scored.methods[0].scores.kinds[..], kind_of.as_deref());
    Ok(CubeSummary {
        name: cube.info().id.clone(),
        shape: cube.shape(),
        energy: EnergySummary::of(cube),
        problems: cube.problems().to_vec(),
        ignored: cube.ignored.iter().filter(|&&ignored| ignored).count(),
        methods,
        excess_nats: scored
            .methods
            .iter()
            .filter_map(|method| Some((method.name.clone(), method.excess_nats?)))
            .collect(),
        default,
        regions: region_table(scored, &regions, &labels, kinds, &sums),
    })
}

/// What was measured of each pixel before it was scored.
///
/// # Collective
fn write_properties(scored: &ScoredCube, file: &mut CubeFile) -> Result<()> {
    file.map(COUNTS, &scored.totals)?;
    if let Some(shifts) = &scored.band.cube.shifts {
        let local: Vec<f32> = shifts.map.slice(s![scored.band.lines.clone(), ..]).iter().copied().collect();
        file.map(ENERGY_SHIFT, &local)?;
    }
    if let Some(thickness) = &scored.thickness {
        file.map(THICKNESS, thickness)?;
    }
    Ok(())
}

/// The maps and masks of all scores, and the regions of the default one.
///
/// Gives, on root, the figures of each score and the regions; on all ranks the label of each pixel's region, 0 for none.
///
/// # Collective
fn write_scores(
    comm: &Comm,
    config: &Config,
    scored: &ScoredCube,
    default: &Choice,
    truth: Option<&[i32]>,
    file: &mut CubeFile,
) -> Result<(Methods, Vec<Region>, Vec<i32>)> {
    let [height, width] = scored.band.cube.size();
    let mut methods = Methods::new();
    let mut found = Vec::new();
    let mut labels = vec![0i32; height * width];
    for method in &scored.methods {
        for (score, meaning, local) in score_maps(method) {
            let mut mask = vec![0u8; height * width];
            if let Some(values) = comm.gather_bands(local) {
                let map = Array2::from_shape_vec((height, width), values).expect("a map has a value for each pixel");
                let flags = flag_map(config, score, meaning, &map);
                mask = flags.flagged.iter().map(|&flag| flag as u8).collect();
                if default.is(&method.name, score) {
                    let (regions, map) = regions(map.view(), flags.flagged.view());
                    found = regions;
                    labels = map.into_raw_vec_and_offset().0;
                }
                let scores = methods.entry(method.name.clone()).or_default();
                scores.insert(score.into(), summarise_score(&map, &flags, truth));
            }
            comm.broadcast_into(&mut mask);
            file.map(&map_title(&method.name, score), local)?;
            file.mask(&mask_title(&method.name, score), &mask)?;
        }
    }
    comm.broadcast_into(&mut labels);
    file.map(REGIONS, scored.band_of(&labels))?;
    Ok((methods, found, labels))
}

/// The shift of each pixel, the latent code and the decomposition. Gives root the kind that each pixel belongs to.
///
/// # Collective
fn write_arrays(comm: &Comm, scored: &ScoredCube, file: &mut CubeFile) -> Result<Option<Vec<f32>>> {
    let default = &scored.methods[0].scores;
    file.map(SHIFT, &default.estimated_shift_ev())?;
    let kind_of = comm.gather_bands(&default.kind_of);
    file.latent()?;
    file.decomposition()?;
    Ok(kind_of)
}

/// Where the results come from.
fn provenance(
    comm: &Comm,
    config: &Config,
    scored: &ScoredCube,
    [fingerprint, identity]: [String; 2],
    summary: &str,
) -> Result<BTreeMap<String, String>> {
    let cube = scored.band.cube;
    let texts = [
        ("config", config.to_yaml()),
        ("version", env!("CARGO_PKG_VERSION").to_string()),
        ("revision", env!("CORELOSS_REVISION").to_string()),
        ("scoring", SCORING.to_string()),
        ("ranks", comm.size().to_string()),
        ("seed", config.seed.to_string()),
        ("input", cube.info().path.display().to_string()),
        ("fingerprint", fingerprint),
        (IDENTITY, identity),
        ("cube", serde_json::to_string(cube.info())?),
        ("microscope", serde_json::to_string(cube.microscope())?),
        ("noise", serde_json::to_string(scored.band.noise())?),
        ("windows", serde_json::to_string(&scored.windows)?),
        ("summary", summary.to_string()),
    ];
    Ok(texts.into_iter().map(|(name, text)| (name.to_string(), text)).collect())
}
