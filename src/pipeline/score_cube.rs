//! One cube scored by every method: the 3D-CVAE, those given from outside, the linear blind spot and the linear baselines.

use anyhow::Result;
use ndarray::{Array3, s};

use super::clock::Clock;
use super::given::Given;
use super::linear_fit::LinearFit;
use super::score_context::score_context;
use super::score_linear::score_linear;
use super::score_reconstruction::Scoring;
use super::sum_cube::sum_cube;
use crate::comm::Comm;
use crate::config::{Config, Window, Windows};
use crate::gpu::device;
use crate::model::Tiles;
use crate::results::{Method, ScoredCube};
use crate::score::LineScorer;
use crate::spectrum::{find_windows, whole_axis};
use crate::stream::{Band, Cube, CubeStatistics};
use crate::train::Model;

/// Scores one cube by every method.
///
/// `baselines` are those fitted to the training cubes; where there are none, or the configuration asks for both, they are
/// fitted to the cube itself.
///
/// # Collective
/// # Errors
/// Unreadable data.
pub fn score_cube<'a>(
    comm: &Comm,
    config: &Config,
    cube: &'a Cube,
    statistics: &CubeStatistics,
    model: Option<&Model>,
    baselines: Option<&LinearFit>,
    clock: &mut Clock,
) -> Result<ScoredCube<'a>> {
    let bound = statistics.bound;
    let tiles = model.map(|model| tiles(comm, config, model, cube)).transpose()?;
    let lines = cube.blocks().band(comm.rank(), comm.size());
    let halo = tiles.as_ref().map_or(lines.clone(), |tiles| tiles.halo(&lines));
    let opened = Band::open(cube, statistics.noise, lines, halo, config.io.memory_mib << 20);
    let band = comm.agree(opened)?;
    let sum = sum_cube(comm, &band, bound, |_, _| true)?;
    let mean = sum.mean();
    let thickness = thickness(comm, config, &band)?;
    let windows = windows(config, cube, &mean);
    let scorer = LineScorer::new(&cube.energy, &windows, &mean)?;
    log_windows(comm, cube, &scorer);
    clock.lap("read");

    let scoring = Scoring { comm, scorer: &scorer, band: &band, bound };
    let mut methods = Vec::new();
    let mut latent = None;
    if let (Some(tiles), Some(model)) = (&tiles, model) {
        let mut codes = Array3::from_elem((model.spec.latent(), band.lines.len(), cube.size()[1]), f32::NAN);
        let scores = scoring.score_cvae(tiles, &mut codes)?;
        methods.push(Method { name: "cvae".into(), scores, rx: None });
        latent = Some(codes);
        clock.lap("score");
    }
    for (name, path) in &config.methods.given {
        let given = comm.agree(Given::open(path, cube))?;
        methods.push(Method { name: name.clone(), scores: scoring.score_given(&given)?, rx: None });
        clock.lap("score");
    }
    let linear = score_linear(config, &scoring, &sum, baselines, clock)?;
    let of_context = match config.methods.context {
        true => Some(score_context(config, &scoring, &sum, &linear)?),
        false => None,
    };
    methods.extend(linear.methods);
    methods.extend(of_context.map(|scores| Method { name: "context".into(), scores, rx: None }));
    clock.lap("score");
    Ok(ScoredCube {
        mean,
        totals: sum.totals,
        thickness,
        windows,
        methods,
        decomposition: linear.decomposition,
        loadings: linear.loadings,
        latent,
        tiles,
        bound,
        band,
    })
}

/// The network on its device, to reconstruct `cube` tile by tile.
///
/// # Collective
fn tiles(comm: &Comm, config: &Config, model: &Model, cube: &Cube) -> Result<Tiles> {
    let device = device::choose(comm, config.train.device)?;
    Ok(Tiles::new(&model.spec, &model.parameters, device, &model.mean, cube.size()))
}

/// t/lambda of this rank's pixels; none without a zero-loss peak.
///
/// # Collective
fn thickness(comm: &Comm, config: &Config, band: &Band) -> Result<Option<Vec<f32>>> {
    if !config.preprocess.thickness {
        return Ok(None);
    }
    let Some(low_loss) = comm.agree(band.cube.low_loss(config))? else {
        return Ok(None);
    };
    let ignored = band.cube.ignored.slice(s![band.lines.clone(), ..]);
    low_loss.thickness(comm, band.lines.clone(), ignored).map(Some)
}

/// The windows that are scored: those given, or those found in the mean spectrum; without an edge all energies are one.
fn windows(config: &Config, cube: &Cube, mean: &[f64]) -> Vec<Window> {
    let windows = match &config.score.windows {
        Windows::List(windows) => windows.clone(),
        Windows::Auto => find_windows(&cube.energy, mean),
    };
    if windows.is_empty() { vec![whole_axis(&cube.energy)] } else { windows }
}

fn log_windows(comm: &Comm, cube: &Cube, scorer: &LineScorer) {
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
