//! The ranking of a survey: cubes and regions by how surprising they are, whatever their size and kind.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::catalogue::{Catalogue, Entry};
use super::distribute::map_over_ranks;
use super::kinds::{Member, kinds};
use super::ranked::{Ranked, RankedRegion};
use super::tables::{cube_table, kind_table, region_table};
use crate::archive::Microscope;
use crate::comm::Comm;
use crate::config::{Config, ResidualSpectrum};
use crate::durable;
use crate::output::{read_text, write_csv, write_tables};
use crate::report::{KindMember, RankedCube, RankedKind, ranking_html};
use crate::results::verdicts::{Judged, Recognised, Verdicts};
use crate::results::{
    CubeSummary, Thumbnail, cube_path, read_json, read_residuals, read_thumbnail, scored_before, surprise,
};
use crate::stream::Cube;

/// What the ranking needs of a scored cube.
#[derive(Serialize, Deserialize)]
pub struct Found {
    /// As JSON, since maps have no fixed layout between ranks.
    summary: String,
    /// The highest score outside of what verdicts set apart.
    highest: f32,
    /// Pixels that are not ignored.
    pixels: usize,
    /// What verdicts say of each region.
    verdicts: Vec<Option<Recognised>>,
    /// Residual spectra of the first regions.
    residuals: Vec<ResidualSpectrum>,
    /// The day of its recording.
    date: Option<String>,
}

/// Regions of a cube that are grouped into kinds across cubes.
const GROUPED: usize = 5;
/// Kinds that the page shows, and regions of each.
const SHOWN_KINDS: usize = 30;
const STRONGEST: usize = 10;

/// All verdicts that count for the ranking.
///
/// # Collective
/// # Errors
/// Files that are no verdicts.
pub fn verdicts(comm: &Comm, config: &Config) -> Result<Verdicts> {
    let of_training = Verdicts::on_all(comm, "archive.verdicts", &config.archive.verdicts)?;
    Ok(of_training.and(Verdicts::on_all(comm, "survey.verdicts", &config.survey.verdicts)?))
}

/// Reads the results of each cube of `catalogue`, and what `verdicts` say of them; sets aside those that cannot be read.
///
/// # Collective
pub fn read(comm: &Comm, config: &Config, catalogue: &mut Catalogue, verdicts: &Verdicts) -> Vec<Found> {
    let found = map_over_ranks(comm, &catalogue.entries, |entry| {
        read_one(config, entry, verdicts).map_err(|error| format!("{error:#}"))
    });
    catalogue.keep(found)
}

/// Reads the results of one cube. Rank-local.
fn read_one(config: &Config, entry: &Entry, verdicts: &Verdicts) -> Result<Found> {
    let path = entry.source.path.display();
    let cube = Cube::open(&entry.source, config)?;
    let summary = scored_before(config, &cube)
        .with_context(|| format!("{path}: its results are gone; start the survey again"))?;
    let Thumbnail { score, labels, .. } = read_thumbnail(config, &summary)?;
    let result = cube_path(&config.output.dir, &summary.name);
    let fingerprint = read_text(&result, "fingerprint")?;
    let microscope: Microscope = read_json(&result, "microscope")?;
    let mut residuals = read_residuals(&result)?;
    let said = summary.regions.iter().enumerate().map(|(i, region)| {
        verdicts.on(&Judged { cube: &summary.name, fingerprint: &fingerprint, region, residual: residuals.get(i) })
    });
    let verdicts: Vec<Option<Recognised>> = said.collect();
    residuals.truncate(GROUPED);
    let is_apart = |label: i32| {
        let place = summary.regions.iter().position(|region| region.label == label);
        place.and_then(|place| verdicts[place].as_ref()).is_some_and(Recognised::is_set_apart)
    };
    let outside = score.iter().zip(&labels).filter(|(_, label)| !is_apart(**label));
    Ok(Found {
        highest: outside.map(|(score, _)| *score).fold(0.0, f32::max),
        pixels: score.iter().filter(|score| !score.is_nan()).count(),
        summary: serde_json::to_string(&summary)?,
        verdicts,
        residuals,
        date: microscope.date,
    })
}

/// Writes `ranking.csv`, `regions.csv`, `set_apart.csv`, `kinds.csv`, `ranking.h5` and `ranking.html` into the output folder,
/// from what was `found` in each cube of `catalogue`.
///
/// # Collective
/// # Errors
/// A folder that cannot be written.
pub fn write(comm: &Comm, config: &Config, catalogue: &Catalogue, found: &[Found]) -> Result<()> {
    comm.on_root(|| {
        let mut ranked = rank(catalogue, found)?;
        let kinds = group(&mut ranked);
        write_on_root(config, catalogue, &ranked, &kinds)
    })
}

/// The cubes from the most surprising down.
fn rank<'a>(catalogue: &'a Catalogue, found: &'a [Found]) -> Result<Vec<Ranked<'a>>> {
    let mut ranked = Vec::with_capacity(found.len());
    for (entry, found) in catalogue.entries.iter().zip(found) {
        let summary: CubeSummary = serde_json::from_str(&found.summary)?;
        let regions =
            summary.regions.iter().zip(&found.verdicts).enumerate().map(|(i, (region, verdict))| RankedRegion {
                residual: found.residuals.get(i).cloned(),
                kind: 0,
                surprise: surprise::of_region(region.mean_score, region.area, found.pixels),
                summary: region.clone(),
                verdict: verdict.clone(),
            });
        let is_apart = |region: &RankedRegion| region.verdict.as_ref().is_some_and(Recognised::is_set_apart);
        let (apart, regions): (Vec<_>, Vec<_>) = regions.partition(is_apart);
        let strongest = regions.iter().map(|region| region.surprise).reduce(f64::max);
        ranked.push(Ranked {
            entry,
            surprise: strongest.unwrap_or_else(|| surprise::of_nothing(found.highest.into(), found.pixels)),
            regions,
            apart,
            date: found.date.as_deref(),
            summary,
        });
    }
    ranked.sort_by(|a, b| b.surprise.total_cmp(&a.surprise));
    Ok(ranked)
}

/// Groups the regions of all cubes into kinds, and numbers these in the regions.
fn group(cubes: &mut [Ranked]) -> Vec<RankedKind> {
    let regions = cubes.iter().enumerate().flat_map(|(cube, ranked)| {
        ranked.regions.iter().enumerate().filter_map(move |(region, found)| {
            let residual = found.residual.as_ref()?;
            Some(Member { cube, region, surprise: found.surprise, residual, date: ranked.date })
        })
    });
    let (mut places, mut all) = (Vec::new(), Vec::new());
    for (i, kind) in kinds(regions.collect()).iter().enumerate() {
        places.extend(kind.members.iter().map(|member| (member.cube, member.region, i + 1)));
        let strongest = kind.members.iter().take(STRONGEST).map(|member| {
            let cube = &cubes[member.cube];
            KindMember {
                rank: member.cube,
                cube: cube.summary.name.clone(),
                region: cube.regions[member.region].summary.clone(),
                surprise: member.surprise,
            }
        });
        all.push(RankedKind {
            cubes: kind.cubes(),
            share: kind.cubes() as f64 / cubes.len() as f64,
            regions: kind.members.len(),
            is_everywhere: kind.is_everywhere(cubes.len()),
            first_seen: kind.first_seen().map(str::to_owned),
            mean: kind.mean(),
            strongest: strongest.collect(),
        });
    }
    for (cube, region, kind) in places {
        cubes[cube].regions[region].kind = kind;
    }
    all
}

fn write_on_root(config: &Config, catalogue: &Catalogue, cubes: &[Ranked], kinds: &[RankedKind]) -> Result<()> {
    let folder = &config.output.dir;
    let path = |name: &str| folder.join(name);
    write_csv(&path("ranking.csv"), &cube_table(cubes))?;
    let regions = || region_table(cubes, |cube| &cube.regions);
    let apart = || region_table(cubes, |cube| &cube.apart);
    write_csv(&path("regions.csv"), &regions())?;
    write_csv(&path("set_apart.csv"), &apart())?;
    write_csv(&path("kinds.csv"), &kind_table(kinds))?;
    let tables =
        [("cubes", cube_table(cubes)), ("regions", regions()), ("set_apart", apart()), ("kinds", kind_table(kinds))];
    write_tables(&path("ranking.h5"), &tables)?;
    let mut shown = Vec::new();
    for (i, ranked) in cubes.iter().enumerate() {
        let (entry, summary) = (ranked.entry, &ranked.summary);
        let result = cube_path(folder, &summary.name);
        let is_shown = i < config.survey.shown;
        shown.push(RankedCube {
            fingerprint: if is_shown { read_text(&result, "fingerprint")? } else { String::new() },
            residuals: if is_shown { read_residuals(&result)? } else { Vec::new() },
            name: summary.name.clone(),
            group: entry.group.clone(),
            input: entry.source.path.display().to_string(),
            output: format!("{}.coreloss.hspy", summary.name),
            shape: summary.shape,
            surprise: ranked.surprise,
            maps: is_shown.then(|| read_thumbnail(config, summary)).transpose()?,
            regions: ranked.regions.iter().map(|region| (region.summary.clone(), region.surprise)).collect(),
            apart: ranked.apart.iter().filter_map(|r| Some((r.summary.clone(), r.verdict.clone()?))).collect(),
        });
    }
    let kinds = &kinds[..kinds.len().min(SHOWN_KINDS)];
    let page = ranking_html(&format!("Survey: {}", folder.display()), &shown, kinds, catalogue.set_aside.list())?;
    durable::write(&path("ranking.html"), page)?;
    for (rank, cube) in shown.iter().take(10).enumerate() {
        println!("{:>3}  {:>8.1}  {} regions  {}", rank + 1, cube.surprise, cube.regions.len(), cube.name);
    }
    let apart: usize = shown.iter().map(|cube| cube.apart.len()).sum();
    if apart > 0 {
        println!("set apart by verdicts: {apart} regions: {}", path("set_apart.csv").display());
    }
    for failed in catalogue.set_aside.list() {
        println!("set aside: {}: {}", failed.path, failed.reason);
    }
    println!("ranking of {} cubes: {}", shown.len(), path("ranking.html").display());
    Ok(())
}
