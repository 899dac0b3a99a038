//! `coreloss run --dry-run`: what a run would do, take and need; nothing is written.

use std::time::Instant;

use anyhow::Result;

use super::analyse::Analysis;
use super::components::MOST_AUTO;
use super::{inputs, Clock, Ending};
use crate::comm::Comm;
use crate::config::{Auto, Config};
use crate::doctor::BASE_MIB;
use crate::model::Spec;
use crate::shard::{Extent, Plan};
use crate::stream::{survey, Cube};
use crate::train::{rehearse, Rehearsal};

/// Steps that are measured, after one that warms up.
const STEPS: usize = 3;
/// Scoring is measured on the smallest cube where that has at most so many voxels.
const MOST_VOXELS: usize = 1 << 26;

/// Prints shapes, patches, lanes, steps, memory per rank, size of the output and a guess at the time.
///
/// Reads the headers of all cubes and the smallest of them whole; takes a few steps on that.
///
/// # Collective
/// # Errors
/// Whatever would end the run before its first result.
pub fn dry_run(comm: &Comm, config: &Config) -> Result<Ending> {
    let inputs = inputs::open(comm, config)?;
    let training = inputs.training.as_deref().unwrap_or(&inputs.cubes);
    let pixels: usize = training.iter().map(|cube| cube.ignored.len()).sum();
    let voxels = |cube: &Cube| cube.shape().iter().product::<usize>();
    let scored: usize = inputs.cubes.iter().map(voxels).sum();
    let mut lines = vec![format!(
        "cubes      {} to score, {} to train on ({pixels} pixels), {} set aside",
        inputs.cubes.len(),
        training.len(),
        inputs.set_aside.list().len()
    )];
    let energy = inputs.cubes[0].energy.clone();
    lines.push(format!(
        "energy     {} channels, {:.1} to {:.1} eV",
        energy.size,
        energy.value(0),
        energy.value(energy.size - 1)
    ));
    const SHOWN: usize = 10;
    for cube in inputs.cubes.iter().take(SHOWN) {
        let [y, x, channels] = cube.shape();
        lines.push(format!(
            "           {y} x {x} x {channels}  {}",
            cube.info().id
        ));
    }
    if inputs.cubes.len() > SHOWN {
        lines.push(format!(
            "           and {} more",
            inputs.cubes.len() - SHOWN
        ));
    }

    let spec = Spec::new(&config.model, energy.size)?;
    let extents: Vec<Extent> = training
        .iter()
        .map(|cube| Extent {
            rows: cube.size()[0],
            columns: cube.size()[1],
            chunk_rows: cube.info().chunk_rows,
        })
        .collect();
    let train = &config.train;
    let lanes = Plan::new(&extents, spec.patch, train.lanes, train.validation)
        .lanes
        .len();
    let set_aside = inputs.set_aside.list().len();
    let smallest = training.iter().map(voxels).min().unwrap_or(0);
    let place = training
        .iter()
        .position(|cube| voxels(cube) == smallest)
        .unwrap_or(0);
    let mut sample: Vec<Cube> = match inputs.training {
        Some(training) => training,
        None => inputs.cubes,
    };
    let mut sample = vec![sample.swap_remove(place)];
    let begun = Instant::now();
    let found = survey(comm, &mut sample, config, |_, error| Err(error))?;
    let read = begun.elapsed().as_secs_f64();
    let rehearsal = rehearse(comm, config, &sample, &found, pixels, STEPS)?;
    describe_training(config, &rehearsal, lanes, &mut lines);

    let mut scoring = None;
    if smallest <= MOST_VOXELS {
        let begun = Instant::now();
        let mut clock = Clock::start();
        Analysis::of(
            comm,
            config,
            &sample[0],
            &found,
            Some(&rehearsal.model),
            None,
            &mut clock,
        )?;
        scoring = Some(begun.elapsed().as_secs_f64());
    }
    let share = scored as f64 / smallest.max(1) as f64;
    let training_s = rehearsal.seconds_per_step * rehearsal.length.steps as f64;
    let total = scoring.map(|scoring| (read + scoring) * share + training_s);
    lines.push(match total {
        Some(total) => format!(
            "time       about {}: training {}, reading and scoring {} (on {} ranks of {} threads, from {STEPS} steps and \
             the smallest cube)",
            duration(total),
            duration(training_s),
            duration(total - training_s),
            comm.size(),
            rayon::current_num_threads()
        ),
        None => format!(
            "time       training about {}; the smallest cube is too large to guess at scoring",
            duration(training_s)
        ),
    });
    let pixels = scored / energy.size;
    let maps = output_bytes(config, &rehearsal, pixels);
    lines.push(format!(
        "output     at most {:.1} MiB of maps before compression, {:.1} MiB of checkpoints, below {}",
        maps as f64 / MIB,
        24.0 * rehearsal.model.spec.parameters() as f64 / MIB,
        config.output.dir.display()
    ));
    if comm.is_root() {
        lines.iter().for_each(|line| println!("{line}"));
        println!("nothing was written");
    }
    Ok(match set_aside {
        0 => Ending::Done,
        _ => Ending::SomeSetAside,
    })
}

const MIB: f64 = (1 << 20) as f64;

fn describe_training(
    config: &Config,
    rehearsal: &Rehearsal,
    lanes: usize,
    lines: &mut Vec<String>,
) {
    let spec = &rehearsal.model.spec;
    let train = &config.train;
    let slots = train.global_batch.div_ceil(train.micro_batch);
    lines.push(format!(
        "model      {} parameters, patches of {} x {} pixels, {} latent",
        spec.parameters(),
        spec.patch[0],
        spec.patch[1],
        spec.latent
    ));
    lines.push(format!(
        "training   {} steps of {} patches in {slots} micro-batches (no more ranks than that train), {lanes} lanes, {} steps \
         per epoch, {:.3} s per step",
        rehearsal.length.steps,
        train.global_batch,
        rehearsal.length.steps_per_epoch,
        rehearsal.seconds_per_step
    ));
    let model = 4.0 * spec.parameters() as f64 * (6 + slots) as f64 / MIB;
    lines.push(format!(
        "memory     {:.0} MiB per rank at most: {model:.0} for the model in training, {} for cubes (io.memory_mib), \
         {BASE_MIB} for libraries",
        model + (config.io.memory_mib + BASE_MIB) as f64,
        config.io.memory_mib
    ));
}

/// Bytes of the score files: four scores of each method with their masks, latent codes, loadings, counts and labels.
fn output_bytes(config: &Config, rehearsal: &Rehearsal, pixels: usize) -> usize {
    let components = config.pca.components.as_slice();
    let methods = 1 + components.len();
    let counts = components.iter().map(|count| match count {
        Auto::Given(count) => *count,
        Auto::Auto => MOST_AUTO,
    });
    let most = counts.max().unwrap_or(0);
    pixels * (methods * 4 * (4 + 1) + 4 * rehearsal.model.spec.latent + 8 * most + 3 * 4)
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
