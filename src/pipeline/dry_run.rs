//! `coreloss run --dry-run`: what a run would do, take and need; nothing is written.

use std::time::Instant;

use anyhow::{Context, Result};

use super::clock::Clock;
use super::energy_axis;
use super::inputs::{self, Inputs};
use super::linear_fit::MOST_AUTO;
use super::score_cube::score_cube;
use crate::comm::Comm;
use crate::config::{Align, Auto, Config, PcaFit, Reconstruction};
use crate::ending::Ending;
use crate::memory::LIBRARIES_MIB;
use crate::results::folder;
use crate::shard::{Extent, LanePlan};
use crate::stream::{Cube, CubeStatistics, electron_bound, measure_statistics};
use crate::train::{Rehearsal, rehearse};

/// Steps that are measured, after one that warms up.
const STEPS: usize = 3;
/// Scoring is measured on the smallest cube, unless that has more voxels than this.
const MOST_VOXELS: usize = 1 << 26;

/// Prints shapes, patches, lanes, steps, memory per rank, size of the output and a guess at the time.
///
/// Reads the headers of all cubes and the smallest of them whole; takes a few steps on that.
///
/// # Collective
/// # Errors
/// Whatever would end the run before its first result.
pub fn dry_run(comm: &Comm, config: &Config) -> Result<Ending> {
    comm.on_root(|| folder::check(&config.output.dir))?;
    let mut inputs = inputs::open(comm, config, true)?;
    let begun = Instant::now();
    let (smallest, statistics) = read_smallest(comm, config, &mut inputs)?;
    let reading_s = begun.elapsed().as_secs_f64();

    let training = inputs.training.as_deref().unwrap_or(&inputs.cubes);
    let sample = std::slice::from_ref(&training[smallest]);
    let pixels: usize = training.iter().map(|cube| cube.ignored.len()).sum();
    // The patch that suits all cubes: the smallest alone would get another.
    let mut config = config.clone();
    config.model.patch = Some(config.model.patch_for(training.iter().map(Cube::shape)));
    let config = &config;
    let rehearsal = rehearse(comm, config, sample, &statistics, pixels, STEPS)?;
    let mut scoring_s = None;
    if voxels(&sample[0]) <= MOST_VOXELS {
        let begun = Instant::now();
        score_cube(comm, config, &sample[0], &statistics, (Some(&rehearsal.model), None), None, &mut Clock::start())?;
        scoring_s = Some(begun.elapsed().as_secs_f64());
    }
    // From the smallest cube to all.
    let scored: usize = inputs.cubes.iter().map(voxels).sum();
    let share = scored as f64 / voxels(&sample[0]).max(1) as f64;
    let training_s = rehearsal.seconds_per_step * rehearsal.length.steps as f64;
    let cubes_s = scoring_s.map(|scoring_s| (reading_s + scoring_s) * share);
    if comm.is_root() {
        describe_cubes(&inputs, pixels);
        describe_training(config, &rehearsal, training);
        describe_time(comm, training_s, cubes_s);
        describe_output(config, &rehearsal, &inputs.cubes);
        println!("nothing was written");
    }
    Ok(inputs.set_aside.ending())
}

fn voxels(cube: &Cube) -> usize {
    cube.shape().iter().product()
}

/// Reads the smallest cube to train on, and brings all cubes to one axis. Gives the index of that cube and its statistics.
///
/// # Collective
fn read_smallest(comm: &Comm, config: &Config, inputs: &mut Inputs) -> Result<(usize, CubeStatistics)> {
    let cubes = inputs.training.as_mut().unwrap_or(&mut inputs.cubes);
    let sizes = cubes.iter().map(voxels).enumerate();
    let place = sizes.min_by_key(|(_, size)| *size).map_or(0, |(i, _)| i);
    let reference = cubes[0].dispersion();
    let mut sample = vec![cubes.remove(place)];
    let mut found = measure_statistics(comm, &mut sample, config, |_, error| Err(error))?;
    for mut cube in sample {
        energy_axis::align(comm, config, &mut cube, &found, reference)?;
        cubes.insert(place, cube);
    }
    // The energies of the others are those of their headers, without shifts.
    let path = cubes[place].info().path.clone();
    let (training, rebin) = (inputs.training.as_mut(), config.preprocess.rebin);
    let (cubes, set_aside) = (&mut inputs.cubes, &mut inputs.set_aside);
    let axis = energy_axis::common(comm, training, cubes, rebin, set_aside)?;
    let lists = inputs.training.iter_mut().chain([cubes]);
    lists.flatten().for_each(|cube| cube.conform(&axis));
    let cubes = inputs.training.as_ref().unwrap_or(&inputs.cubes);
    let place = cubes.iter().position(|cube| cube.info().path == path);
    let place = place.with_context(|| inputs.set_aside.reasons())?;
    found.bound = electron_bound(&cubes[place..=place], &found.noise);
    Ok((place, found))
}

const MIB: f64 = (1 << 20) as f64;

fn describe_cubes(inputs: &Inputs, pixels: usize) {
    const SHOWN: usize = 10;
    let training = inputs.training.as_ref().unwrap_or(&inputs.cubes);
    println!(
        "cubes      {} to score, {} to train on ({pixels} pixels), {} set aside",
        inputs.cubes.len(),
        training.len(),
        inputs.set_aside.list().len()
    );
    let energy = &inputs.cubes[0].energy;
    println!("energy     {} channels, {:.1} to {:.1} eV", energy.size, energy.value(0), energy.value(energy.size - 1));
    for cube in inputs.cubes.iter().take(SHOWN) {
        let [y, x, channels] = cube.shape();
        println!("           {y} x {x} x {channels}  {}", cube.info().id);
    }
    if inputs.cubes.len() > SHOWN {
        println!("           and {} more", inputs.cubes.len() - SHOWN);
    }
}

fn describe_training(config: &Config, rehearsal: &Rehearsal, cubes: &[Cube]) {
    let (spec, train) = (&rehearsal.model.spec, &config.train);
    let extents: Vec<Extent> = cubes.iter().map(Cube::extent).collect();
    let lanes = LanePlan::new(&extents, spec.patch(), train.lanes, train.validation).lanes.len();
    let pace = config.pace();
    let slots = pace.micro_batches();
    println!(
        "model      {} parameters, patches of {} x {} pixels, {} latent",
        spec.parameters(),
        spec.patch()[0],
        spec.patch()[1],
        spec.latent()
    );
    println!(
        "training   {} steps of {} patches in {slots} micro-batches (no more ranks than that train), {lanes} lanes, {} steps \
         per epoch, {:.3} s per step",
        rehearsal.length.steps, pace.global_batch, rehearsal.length.steps_per_epoch, rehearsal.seconds_per_step
    );
    let model = 4.0 * spec.parameters() as f64 * (4 + slots) as f64 / MIB;
    println!(
        "memory     {:.0} MiB per rank at most: {model:.0} for the model in training, {} for cubes (io.memory_mib), \
         {LIBRARIES_MIB} for libraries",
        model + (config.io.memory_mib + LIBRARIES_MIB) as f64,
        config.io.memory_mib
    );
}

/// `cubes_s`: reading and scoring of all cubes, where that could be measured.
fn describe_time(comm: &Comm, training_s: f64, cubes_s: Option<f64>) {
    let training = duration(training_s);
    match cubes_s {
        Some(cubes_s) => println!(
            "time       about {}: training {training}, reading and scoring {} (on {} ranks of {} threads, from {STEPS} steps \
             and the smallest cube)",
            duration(training_s + cubes_s),
            duration(cubes_s),
            comm.size(),
            rayon::current_num_threads()
        ),
        None => println!("time       training about {training}; the smallest cube is too large to guess at scoring"),
    }
}

fn describe_output(config: &Config, rehearsal: &Rehearsal, cubes: &[Cube]) {
    let (spec, pixels) = (&rehearsal.model.spec, cubes.iter().map(|cube| cube.ignored.len()).sum::<usize>());
    // Weights and both moments, of the last checkpoints and the best.
    let kept = config.train.keep_checkpoints + 1;
    let checkpoints = (12 * kept * spec.parameters()) as f64 / MIB;
    let maps = (pixels * bytes_per_pixel(config, spec.latent(), cubes[0].energy.size)) as f64 / MIB;
    println!(
        "output     at most {maps:.1} MiB of maps before compression, {checkpoints:.1} MiB of checkpoints, below {}",
        config.output.dir.display()
    );
}

/// Bytes of the maps of one pixel: the scores of each method with their masks, latent codes, loadings, counts, labels,
/// estimated shifts, and what else the configuration asks for.
fn bytes_per_pixel(config: &Config, latent: usize, channels: usize) -> usize {
    let pca = &config.pca;
    let fits = match pca.fit {
        PcaFit::Cube | PcaFit::Training => 1,
        PcaFit::Both => 2,
    } + usize::from(pca.robust && pca.fit != PcaFit::Training);
    let components = pca.components.as_slice();
    // Principal components have two Reed-Xiaoli scores beside the scores of every method.
    let others = config.methods.given.len() + usize::from(config.methods.context);
    // An ensemble has no reconstruction, and so no `pcc`.
    let ensemble = 3 * usize::from(config.methods.ensemble);
    let scores = ensemble + 4 * (1 + others) + fits * (6 * components.len() + 4 * usize::from(pca.mean));
    let counts = components.iter().map(|count| match count {
        Auto::Given(count) => *count,
        Auto::Auto => MOST_AUTO,
    });
    let most = counts.max().unwrap_or(0);
    let preprocess = &config.preprocess;
    let maps = 3
        + usize::from(preprocess.thickness)
        + usize::from(preprocess.align != Align::None)
        + match config.output.reconstruction {
            Reconstruction::Window => channels,
            Reconstruction::Regions | Reconstruction::None => 0,
        };
    scores * (4 + 1) + 4 * latent + 8 * most + 4 * maps
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_map_is_counted() {
        let bytes = |set: &str| {
            let set: Vec<String> = set.split(' ').map(str::to_owned).collect();
            bytes_per_pixel(&Config::parse("test", "", &set).unwrap(), 8, 100)
        };
        // Three scores of the ensemble, four of CVAE, context and the mean, and six of each PCA with masks, codes, five loadings;
        // counts, regions, shift, thickness.
        let usual = 33 * 5 + 8 * 4 + 5 * 8 + 4 * 4;
        assert_eq!(bytes("seed=1"), usual);
        assert_eq!(bytes("pca.mean=false"), usual - 4 * 5);
        assert_eq!(bytes("methods.ensemble=false"), usual - 3 * 5);
        assert_eq!(bytes("methods.context=false"), usual - 4 * 5);
        assert_eq!(bytes("methods.given={\"mine\":\"a.npy\"}"), usual + 4 * 5);
        assert_eq!(bytes("pca.robust=true pca.fit=both"), usual + 2 * 22 * 5);
        assert_eq!(bytes("pca.robust=true pca.fit=training"), usual);
        assert_eq!(bytes("output.reconstruction=window preprocess.align=edge"), usual + 404);
    }
}
