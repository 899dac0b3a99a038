//! `archive.train_without` and `archive.verdicts`: leaves out of the training what an earlier run flagged, and what people
//! called real.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ndarray::{Array2, ArrayView2, s};

use crate::comm::Comm;
use crate::config::Config;
use crate::invalid::Invalid;
use crate::output::read_text;
use crate::results::titles::REGIONS;
use crate::results::verdicts::Verdicts;
use crate::results::{SetAside, cube_path, read_map};
use crate::stream::Cube;

/// Pixels around a flagged one that are left out too: the rim of an anomaly is often below the threshold.
const MARGIN: usize = 2;
/// The user is warned if more than this share of a cube is left out.
const MUCH: f64 = 0.5;

/// Excludes from the training the pixels of `cubes` that the run in the folder `earlier` flagged, and those around them.
///
/// # Collective
/// # Errors
/// A folder that is the output folder or lies in it. A named cube that has no results there, or those of another file, or no
/// pixel left to train on; no cube left.
pub fn leave_out(
    comm: &Comm,
    config: &Config,
    earlier: &Path,
    cubes: &mut Vec<Cube>,
    set_aside: &mut SetAside,
) -> Result<()> {
    comm.on_root(|| check_folder(&config.output.dir, earlier))?;
    for mut cube in std::mem::take(cubes) {
        match comm.agree(mark(comm, config, earlier, &mut cube)) {
            Ok(()) => cubes.push(cube),
            Err(error) => set_aside.push(comm, &cube, error)?,
        }
    }
    ensure!(!cubes.is_empty(), "none of the inputs can be trained on: {}", set_aside.reasons());
    Ok(())
}

/// Refuses an earlier folder in the output folder: this run may remove what is there.
fn check_folder(output: &Path, earlier: &Path) -> Result<()> {
    let (Ok(own), Ok(theirs)) = (fs::canonicalize(output), fs::canonicalize(earlier)) else {
        // A folder that does not exist cannot lie in another.
        return Ok(());
    };
    if theirs.starts_with(own) {
        return Err(Invalid(format!(
            "archive.train_without: {} lies in the output {}, whose results this run writes anew: choose another `output`",
            earlier.display(),
            output.display()
        ))
        .into());
    }
    Ok(())
}

/// Excludes the flagged pixels of one cube. Rank-local; root logs how many they are.
fn mark(comm: &Comm, config: &Config, earlier: &Path, cube: &mut Cube) -> Result<()> {
    let input = cube.info().path.display().to_string();
    let path = cube_path(earlier, &cube.info().id);
    let refused = || {
        format!(
            "archive.train_without: {} tells nothing of {input}: score it there first, with `output: {}`",
            earlier.display(),
            earlier.display()
        )
    };
    let labels = read_map(&path, REGIONS).with_context(refused)?;
    let theirs = read_text(&path, "fingerprint").with_context(refused)?;
    ensure!(
        is_of_one_file(&theirs, &cube.fingerprint(config)?),
        "archive.train_without: {} is of {}, not of {input} as it is now: score it there again, with `output: {}`",
        path.display(),
        read_text(&path, "input").unwrap_or_default(),
        earlier.display()
    );
    let size = cube.ignored.dim();
    ensure!(
        labels.dim() == size,
        "{}: its map of regions is of {:?} pixels, not {size:?}",
        path.display(),
        labels.dim()
    );
    let shown = earlier.display();
    let advice = format!(
        "archive.train_without: {shown} leaves none of its pixels to train on: choose another score.threshold there, or leave the \
         key out"
    );
    exclude(comm, &input, labels.view(), cube, &advice, &format!("the flags in {shown}"))
}

/// Excludes from the training the regions of `cubes` that `archive.verdicts` calls real, and the pixels around them.
///
/// # Collective
/// # Errors
/// Files that are no verdicts; a verdict that does not tell the place of its region; a cube without a pixel left.
pub fn leave_out_real(comm: &Comm, config: &Config, cubes: &mut [Cube]) -> Result<()> {
    let verdicts = Verdicts::on_all(comm, "archive.verdicts", &config.archive.verdicts)?;
    for cube in cubes {
        let fingerprint = comm.agree(cube.fingerprint(config))?;
        let input = cube.info().path.display().to_string();
        let id = cube.info().id.clone();
        let mut labels = Array2::<f32>::zeros(cube.ignored.dim());
        for verdict in verdicts.real_in(&id, &fingerprint) {
            let Some((rows, columns)) = verdict.rows.zip(verdict.columns) else {
                let which = verdict.region.map_or(String::new(), |region| format!(" {region}"));
                return Err(Invalid(format!(
                    "archive.verdicts: {id}: region{which} is called real, and no rows and columns tell which pixels to leave \
                     out of the training"
                ))
                .into());
            };
            let inside = |[first, last]: [usize; 2], size: usize| first.min(size)..(last + 1).min(size);
            let (height, width) = labels.dim();
            labels.slice_mut(s![inside(rows, height), inside(columns, width)]).fill(1.0);
        }
        if labels.iter().any(|&label| label > 0.0) {
            let advice = "archive.verdicts leaves none of its pixels to train on: leave the key out";
            exclude(comm, &input, labels.view(), cube, advice, "the verdicts")?;
        }
    }
    Ok(())
}

/// Excludes the labelled pixels of `cube`, and those around them. Rank-local; root logs how many they are.
///
/// # Errors
/// A cube without a pixel left, with `advice`.
fn exclude(
    comm: &Comm,
    input: &str,
    labels: ArrayView2<f32>,
    cube: &mut Cube,
    advice: &str,
    flags: &str,
) -> Result<()> {
    let untrained = cube.untrained.get_or_insert_with(|| Array2::from_elem(labels.dim(), false));
    grow(labels, untrained);
    let count = untrained.iter().filter(|&&left_out| left_out).count();
    let mut kept = untrained.iter().zip(&cube.ignored);
    ensure!(kept.any(|(&left_out, &ignored)| !left_out && !ignored), "{input}: {advice}");
    if comm.is_root() {
        let told = format!("{input}: {count} of {} pixels are left out of the training", untrained.len());
        if count as f64 > MUCH * untrained.len() as f64 {
            log::warn!("{told}, of which little is left: look at {flags}");
        } else {
            log::info!("{told}");
        }
    }
    Ok(())
}

/// Whether two fingerprints are of one input, whatever low-loss cube was read with it.
fn is_of_one_file(one: &str, other: &str) -> bool {
    let own = |fingerprint: &str| fingerprint.split('-').next().map(str::to_owned);
    own(one) == own(other)
}

/// Marks the labelled pixels and those within [`MARGIN`] of one.
fn grow(labels: ArrayView2<f32>, untrained: &mut Array2<bool>) {
    let size = labels.dim();
    let around = |at: usize, size: usize| at.saturating_sub(MARGIN)..(at + MARGIN + 1).min(size);
    for ((y, x), _) in labels.indexed_iter().filter(|&(_, &label)| label > 0.0) {
        let beside = s![around(y, size.0), around(x, size.1)];
        untrained.slice_mut(beside).fill(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_is_left_out_with_those_around_it() {
        let mut labels = Array2::zeros((9, 12));
        labels[[4, 5]] = 1.0;
        let mut untrained = Array2::from_elem((9, 12), false);
        grow(labels.view(), &mut untrained);
        assert_eq!(untrained.iter().filter(|&&flag| flag).count(), 25);
        assert!(untrained[[2, 3]] && untrained[[6, 7]] && !untrained[[1, 5]]);
        // A corner has fewer neighbours; what was marked before stays marked.
        labels[[8, 11]] = 2.0;
        grow(labels.view(), &mut untrained);
        assert_eq!(untrained.iter().filter(|&&flag| flag).count(), 25 + 9);
    }

    #[test]
    fn a_companion_makes_no_other_file() {
        assert!(is_of_one_file("ab12-cd34", "ab12"));
        assert!(is_of_one_file("ab12-cd34", "ab12-ef56"));
        assert!(!is_of_one_file("ab12-cd34", "cd34"));
    }

    #[test]
    fn the_output_holds_no_earlier_results_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("out/first/deep")).unwrap();
        for earlier in ["out", "out/first", "out/first/../first/deep"] {
            let message = check_folder(&path("out"), &path(earlier)).unwrap_err().to_string();
            assert!(message.contains("archive.train_without"), "{message}");
        }
        check_folder(&path("out/first/deep"), &path("out/first")).unwrap();
        check_folder(&path("new"), &path("out")).unwrap();
    }
}
