//! One cube scored by every method: the 3D-CVAE's reconstruction and those of a few principal components.

use anyhow::Result;
use ndarray::{Array2, Array3, ArrayView2, s};

use super::baselines::{self, Fitted};
use super::clock::Clock;
use super::lines::sum_lines;
use super::reconstructions::{scaled_mean, score_cvae, score_rebuilt};
use crate::comm::Comm;
use crate::config::{Auto, Config, PcaFit, Window, Windows};
use crate::gpu::device;
use crate::model::Tiles;
use crate::results::{Method, ScoredCube};
use crate::score::{LineScorer, rx};
use crate::spectrum::{find_windows, whole_axis};
use crate::stream::{Band, Cube, CubeStatistics};
use crate::train::Model;

/// Scores one cube by every method.
///
/// `trained`: what the linear baselines were fitted to, where that is not the cube.
///
/// # Collective
/// # Errors
/// Unreadable data.
pub fn analyse<'a>(
    comm: &Comm,
    config: &Config,
    cube: &'a Cube,
    statistics: &CubeStatistics,
    model: Option<&Model>,
    trained: Option<&Fitted>,
    clock: &mut Clock,
) -> Result<ScoredCube<'a>> {
    let blocks = cube.blocks();
    let lines = blocks.band(comm.rank(), comm.size());
    let tiles = match model {
        Some(model) => Some(Tiles::new(
            &model.spec,
            &model.parameters,
            device::choose(comm, config.train.device)?,
            &model.mean,
            cube.size(),
        )),
        None => None,
    };
    let halo = tiles.as_ref().map_or(lines.clone(), |tiles| tiles.halo(&lines));
    let held = Band::open(cube, statistics.noise, lines, halo, config.io.memory_mib << 20);
    let band = comm.agree(held)?;
    let (sum, totals) = sum_lines(comm, &band, statistics.bound, |_, _| true)?;
    let pixels = sum[cube.energy.size];
    let sums = &sum[..cube.energy.size];
    let mean: Vec<f64> = sums.iter().map(|&sum| sum / pixels.max(1.0)).collect();
    let thickness = thickness(comm, config, &band)?;
    let windows = windows(config, cube, &mean);
    let scorer = LineScorer::new(&cube.energy, &windows, &mean)?;
    describe(comm, cube, &scorer);
    clock.lap("read");

    let mut methods = Vec::new();
    let mut latent = None;
    if let (Some(tiles), Some(model)) = (&tiles, model) {
        let mut codes = Array3::from_elem((model.spec.latent, band.lines.len(), cube.size()[1]), f32::NAN);
        let scores = score_cvae(comm, &scorer, &band, tiles, statistics.bound, &mut codes)?;
        methods.push(Method { name: "cvae".into(), scores, rx: None });
        latent = Some(codes);
        clock.lap("score");
    }
    let own = match (trained, config.pca.fit) {
        (Some(_), PcaFit::Training) => None,
        _ => Some(Fitted::to_cube(comm, config, &band, sums, pixels)?),
    };
    // What the file keeps comes first.
    let mut fits = own.iter().map(|own| (own, "")).collect::<Vec<_>>();
    let robust = match &own {
        Some(own) if config.pca.robust => Some(own.trimmed(comm, config, &band, statistics.bound)?),
        _ => None,
    };
    fits.extend(robust.iter().map(|robust| (robust, "_robust")));
    fits.extend(trained.map(|trained| (trained, if own.is_some() { "_bulk" } else { "" })));
    let decomposition = fits[0].0.decomposition.clone();
    let loadings = baselines::loadings(comm, &band, &decomposition)?;
    clock.lap("pca");
    for (fitted, suffix) in fits {
        let of_others;
        let own = if fitted.decomposition == decomposition {
            &loadings
        } else {
            of_others = baselines::loadings(comm, &band, &fitted.decomposition)?;
            &of_others
        };
        let linear = score_linear(comm, config, (&scorer, &band, statistics.bound), fitted, (own, &totals))?;
        methods.extend(linear.into_iter().map(|method| Method { name: method.name + suffix, ..method }));
    }
    clock.lap("score");
    Ok(ScoredCube {
        band,
        blocks,
        mean,
        totals,
        thickness,
        windows,
        methods,
        decomposition,
        loadings,
        latent,
        tiles,
        bound: statistics.bound,
    })
}

/// The linear baselines: as many principal components as each of `pca.components` says, and the mean spectrum.
///
/// # Collective
fn score_linear(
    comm: &Comm,
    config: &Config,
    (scorer, band, bound): (&LineScorer, &Band, f64),
    fitted: &Fitted,
    (loadings, totals): (&Array2<f64>, &[f32]),
) -> Result<Vec<Method>> {
    let decomposition = &fitted.decomposition;
    let width = band.cube.size()[1];
    let mut methods = Vec::new();
    for count in config.pca.components.as_slice() {
        let (name, k) = match count {
            Auto::Given(k) => (format!("pca{k}"), *k),
            Auto::Auto => ("pca_auto".into(), fitted.significant),
        };
        if comm.is_root() && *count == Auto::Auto {
            log::info!("{}: pca_auto has {k} components", band.cube.info().id);
        }
        let rebuild = |line: ArrayView2<f32>| decomposition.reconstruct(line, k);
        let scores = score_rebuilt(comm, scorer, band, bound, rebuild)?;
        let shares = shares(loadings, totals, k);
        let rx = rx(comm, shares.view(), width, band.lines.start)?;
        methods.push(Method { name, scores, rx: Some(rx) });
    }
    if config.pca.mean {
        let rebuild = |line: ArrayView2<f32>| scaled_mean(&fitted.mean, line);
        methods.push(Method {
            name: "mean".into(),
            scores: score_rebuilt(comm, scorer, band, bound, rebuild)?,
            rx: None,
        });
    }
    Ok(methods)
}

/// The first `k` loadings of pixels with these electrons, per electron: thickness does not count.
fn shares(loadings: &Array2<f64>, totals: &[f32], k: usize) -> Array2<f64> {
    let mut shares = loadings.slice(s![.., ..k.min(loadings.ncols())]).to_owned();
    for (mut pixel, &total) in shares.outer_iter_mut().zip(totals) {
        let total = f64::from(total).max(1e-3);
        pixel.mapv_inplace(|value| value / total);
    }
    shares
}

/// # Collective
fn thickness(comm: &Comm, config: &Config, band: &Band) -> Result<Option<Vec<f32>>> {
    if !config.preprocess.thickness {
        return Ok(None);
    }
    let cube = band.cube;
    let Some(low_loss) = comm.agree(cube.low_loss(config))? else {
        return Ok(None);
    };
    let ignored = cube.ignored.slice(s![band.lines.clone(), ..]);
    low_loss.thickness(comm, band.lines.clone(), ignored).map(Some)
}

fn windows(config: &Config, cube: &Cube, mean: &[f64]) -> Vec<Window> {
    let windows = match &config.score.windows {
        Windows::List(windows) => windows.clone(),
        Windows::Auto => find_windows(&cube.energy, mean),
    };
    if windows.is_empty() { vec![whole_axis(&cube.energy)] } else { windows }
}

fn describe(comm: &Comm, cube: &Cube, scorer: &LineScorer) {
    if !comm.is_root() {
        return;
    }
    for (i, window) in scorer.windows().enumerate() {
        let [low, high] = window.range_ev;
        let drift = match scorer.reference(i) {
            Some(reference) => format!("lines aligned on {}", reference.name),
            None => "no edge to align lines on".into(),
        };
        log::info!("{}: window {} {low:.1}-{high:.1} eV, {drift}", cube.info().id, window.name);
    }
}
