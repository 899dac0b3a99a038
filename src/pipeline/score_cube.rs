//! One cube scored by every method: the 3D-CVAE, those given from outside, the linear blind spot and the linear baselines.

use anyhow::Result;
use ndarray::{Array3, s};

use super::clock::Clock;
use super::excess::{Fitted, Floor};
use super::given::Given;
use super::linear_fit::{LinearFit, LinearFits};
use super::part_edges::cube_edges;
use super::score_context::score_context;
use super::score_linear::score_linear;
use super::score_reconstruction::{Fit, Scoring};
use super::sum_cube::{SpectrumSum, sum_cube};
use crate::comm::Comm;
use crate::config::{Config, Window, Windows};
use crate::gpu::device;
use crate::model::Tiles;
use crate::results::{ENSEMBLE, Method, ScoredCube, WithoutNetwork};
use crate::score::{Basis, Scores};
use crate::spectrum::{whole_axis, windows_of};
use crate::stream::{Band, Cube, CubeStatistics};
use crate::train::Model;

/// Scores one cube by every method.
///
/// `baselines` are those fitted to the training cubes; where there are none, or the configuration asks for both, they are
/// fitted to the cube itself. What was found `earlier` without the network is not done again.
///
/// # Collective
/// # Errors
/// Unreadable data.
pub fn score_cube<'a>(
    comm: &Comm,
    config: &Config,
    cube: &'a Cube,
    statistics: &CubeStatistics,
    (model, baselines): (Option<&Model>, Option<&LinearFit>),
    earlier: Option<WithoutNetwork>,
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
    clock.lap("read");
    let fits = LinearFits::new(comm, config, &band, &sum, bound, baselines)?;
    let windows = windows(comm, config, &band, bound, &mean)?;
    let basis = Basis::new(&cube.energy, &windows, &mean, &fits.named()[0].0.variations)?;
    log_windows(comm, cube, &basis);
    clock.lap("pca");

    let scoring = Scoring { comm, basis: &basis, band: &band };
    let floor = Floor::new(&scoring, fits.named()[0].0, &sum)?;
    let without_network = match earlier {
        Some(earlier) => earlier,
        None => {
            let found = score_without_network(config, &scoring, &sum, &fits, &floor)?;
            log_excess(comm, cube, &found.methods);
            found
        }
    };
    let mut methods = Vec::new();
    let mut latent = None;
    if let (Some(tiles), Some(model)) = (&tiles, model) {
        let mut codes = Array3::from_elem((model.spec.latent(), band.lines.len(), cube.size()[1]), f32::NAN);
        let fit = scoring.score_cvae(tiles, &mut codes, &without_network.surroundings)?;
        methods.push(method("cvae", fit, &floor, Fitted::Elsewhere));
        latent = Some(codes);
    }
    log_excess(comm, cube, &methods);
    methods.extend(without_network.methods);
    if config.methods.ensemble {
        let ensemble = ensemble(config, &methods);
        methods.splice(0..0, ensemble);
    }
    clock.lap("score");
    Ok(ScoredCube {
        mean,
        totals: sum.totals,
        thickness,
        windows,
        methods,
        surroundings: without_network.surroundings,
        decomposition: without_network.decomposition,
        loadings: without_network.loadings,
        latent,
        tiles,
        bound,
        band,
    })
}

/// Scores one cube by what needs no network: what is given, the linear blind spot and the linear baselines.
///
/// # Collective
fn score_without_network(
    config: &Config,
    scoring: &Scoring,
    sum: &SpectrumSum,
    fits: &LinearFits,
    floor: &Floor,
) -> Result<WithoutNetwork> {
    let linear = score_linear(config, scoring, sum, fits, floor)?;
    let mut methods = Vec::new();
    for (name, path) in &config.methods.given {
        let given = scoring.comm.agree(Given::open(path, scoring.band.cube))?;
        methods.push(method(name, scoring.score_given(&given)?, floor, Fitted::Elsewhere));
    }
    let mut surroundings = Vec::new();
    if config.methods.context {
        let (fit, fitted, predicted) = score_context(config, scoring, sum, fits, &linear)?;
        methods.push(method("context", fit, floor, fitted));
        surroundings = predicted;
    }
    methods.extend(linear.methods);
    Ok(WithoutNetwork { methods, surroundings, decomposition: linear.decomposition, loadings: linear.loadings })
}

/// All of `methods` but those given from outside, which are to be compared, as one; none of a single one.
fn ensemble(config: &Config, methods: &[Method]) -> Option<Method> {
    let own = methods.iter().filter(|method| !config.methods.given.contains_key(&method.name));
    let scores: Vec<&Scores> = own.map(|method| &method.scores).collect();
    let several = scores.len() > 1;
    several.then(|| Method { name: ENSEMBLE.into(), scores: Scores::ensemble(&scores), excess_nats: None, rx: None })
}

/// A method that has no scores of its own.
fn method(name: &str, fit: Fit, floor: &Floor, fitted: Fitted) -> Method {
    Method { name: name.into(), excess_nats: Some(floor.excess(fit.squares, fitted)), scores: fit.scores, rx: None }
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

/// The windows that are scored: those given, or those of the edges found; without an edge all energies are one.
///
/// # Collective
fn windows(comm: &Comm, config: &Config, band: &Band, bound: f64, mean: &[f64]) -> Result<Vec<Window>> {
    let energy = &band.cube.energy;
    let windows = match &config.score.windows {
        Windows::List(windows) => windows.clone(),
        Windows::Auto => windows_of(energy, cube_edges(comm, band, bound, mean)?),
    };
    Ok(if windows.is_empty() { vec![whole_axis(energy)] } else { windows })
}

fn log_excess(comm: &Comm, cube: &Cube, methods: &[Method]) {
    for Method { name, excess_nats, .. } in methods.iter().filter(|_| comm.is_root()) {
        if let Some(nats) = excess_nats {
            log::info!("{}: {name} is {nats:.1} nats a pixel above the noise floor", cube.info().id);
        }
    }
}

fn log_windows(comm: &Comm, cube: &Cube, basis: &Basis) {
    if !comm.is_root() {
        return;
    }
    for window in basis.windows() {
        let [low, high] = window.range_ev;
        log::info!("{}: window {} {low:.1}-{high:.1} eV", cube.info().id, window.name);
    }
}
