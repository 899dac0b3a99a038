//! Scores and principal components of made cubes: how well anomalies are found, and that no bit depends on the number
//! of ranks. The test runs itself under `mpirun`.

use std::fmt::Write as _;
use std::time::Duration;

use coreloss::comm::{self, Comm, ExactSum};
use coreloss::config::{Rule, Window};
use coreloss::cube::Axis;
use coreloss::evaluate::{detection, ranking};
use coreloss::pca::{Scatter, Spectra};
use coreloss::score::{Basis, LineFeatures, Meaning, Scores, flag, regions};
use coreloss::spectrum::find_windows;
use ndarray::{Array1, Array2, Array3, ArrayView2, s};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Poisson};
use sha2::{Digest, Sha256};

use crate::common::{finish, this_test, told};

const LIMIT: Duration = Duration::from_secs(300);
const HEIGHT: usize = 64;
const WIDTH: usize = 72;
/// Electrons of a raw pixel, before the 3 x 3 mean.
const DOSE: f64 = 85_000.0;

fn energy() -> Axis {
    Axis::energy_loss(420.0, 1.25, 320)
}

/// Electrons per channel of one raw pixel: O K and Fe L drifted by `drift`, Fe L shifted by `iron_shift` (eV) besides.
fn spectrum(drift: f64, iron_shift: f64, oxygen_share: f64) -> Array1<f64> {
    let background = |e: f64| (e / 420.0f64).powf(-2.9);
    let line = |e: f64, at: f64, sd: f64| (-0.5 * ((e - at) / sd).powi(2)).exp();
    let step = |e: f64, at: f64| 1.0 / (1.0 + (-(e - at)).exp());
    let oxygen = |e: f64| {
        let lines = 0.3 * line(e, 531.0, 1.0) + 0.6 * line(e, 537.0, 2.0) + 0.4 * line(e, 543.0, 3.0);
        0.9 * background(532.0) * (step(e, 532.0) * (e / 532.0).powi(-3) + lines)
    };
    let iron = |e: f64| {
        let steps = step(e, 709.5) * 2.0 / 3.0 + step(e, 722.6) / 3.0;
        let white = 0.5 * line(e, 708.6, 1.2) + 0.6 * line(e, 710.3, 1.2) + 0.4 * line(e, 722.8, 1.5);
        0.35 * background(708.0) * (steps * (e / 708.0).powi(-3) + 3.2 * white)
    };
    let shape = |e: f64| background(e) + oxygen_share * oxygen(e - drift) + iron(e - drift - iron_shift);
    // Every pixel is scaled like the normal spectrum, so less oxygen means fewer electrons.
    let normal: f64 = energy().values().iter().map(|&e| background(e) + oxygen(e) + iron(e)).sum();
    energy().values().iter().map(|&e| DOSE / normal * shape(e)).collect()
}

/// A cube, its mask of anomalies, and the spectrum without drift.
struct Scene {
    /// `[y, x, E]`, 3 x 3 means of electrons.
    counts: Array3<f32>,
    truth: Vec<i32>,
    model: Array1<f64>,
}

impl Scene {
    /// Discs of anomalous pixels with sharp borders, as in the paper: the change is added after the 3 x 3 mean.
    fn new(seed: u64, shift_ev: f64, oxygen: f64) -> Scene {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let jitter = Normal::new(0.0, 0.05).unwrap();
        let size = energy().size;
        let mut raw = Array3::<f32>::zeros((HEIGHT + 2, WIDTH + 2, size));
        let mut drifts = Vec::new();
        for mut row in raw.outer_iter_mut() {
            let drift = 0.5 * (drifts.len() as f64 / 9.0).sin() + jitter.sample(&mut random);
            drifts.push(drift);
            let expected = spectrum(drift, 0.0, 1.0);
            for mut pixel in row.outer_iter_mut() {
                for (n, &mean) in pixel.iter_mut().zip(&expected) {
                    *n = Poisson::new(mean).unwrap().sample(&mut random) as f32;
                }
            }
        }
        let mut counts = Array3::zeros((HEIGHT, WIDTH, size));
        let mut truth = vec![0; HEIGHT * WIDTH];
        let discs = [(14.0, 15.0), (40.0, 50.0), (52.0, 12.0)];
        for y in 0..HEIGHT {
            let normal = spectrum(drifts[y + 1], 0.0, 1.0);
            let change = spectrum(drifts[y + 1], shift_ev, oxygen) - &normal;
            for x in 0..WIDTH {
                let around = raw.slice(s![y..y + 3, x..x + 3, ..]);
                let mean = around.sum_axis(ndarray::Axis(0)).sum_axis(ndarray::Axis(0)) / 9.0;
                let inside = discs.iter().any(|(cy, cx)| (y as f64 - cy).hypot(x as f64 - cx) < 2.9);
                let anomalous = inside && (shift_ev != 0.0 || oxygen != 1.0);
                truth[y * WIDTH + x] = i32::from(anomalous);
                let pixel = match anomalous {
                    true => mean + change.mapv(|v| v as f32),
                    false => mean,
                };
                counts.slice_mut(s![y, x, ..]).assign(&pixel.mapv(|v| v.max(0.0)));
            }
        }
        Scene { counts, truth, model: spectrum(0.0, 0.0, 1.0) }
    }

    fn lines(&self, comm: &Comm) -> std::ops::Range<usize> {
        // Uneven on purpose. The last of four ranks has no line.
        let cuts = match comm.size() {
            1 => vec![0, HEIGHT],
            2 => vec![0, 11, HEIGHT],
            3 => vec![0, 30, 31, HEIGHT],
            _ => vec![0, 20, 50, HEIGHT, HEIGHT],
        };
        cuts[comm.rank()]..cuts[comm.rank() + 1]
    }

    fn line(&self, y: usize) -> ArrayView2<'_, f32> {
        self.counts.slice(s![y, .., ..])
    }
}

/// The columns of a line that count. The first two are masked, to test masks.
fn valid() -> Vec<bool> {
    (0..WIDTH).map(|x| x > 1).collect()
}

fn mean(comm: &Comm, lines: impl Iterator<Item = Array2<f32>>) -> Vec<f64> {
    let size = energy().size;
    let mut sum = ExactSum::new(size, 1e12);
    for line in lines {
        let counts = line.slice(s![2.., ..]).mapv(f64::from);
        sum.add(&counts.sum_axis(ndarray::Axis(0)).to_vec());
    }
    let pixels = (HEIGHT * (WIDTH - 2)) as f64;
    sum.total(comm).unwrap().iter().map(|s| s / pixels).collect()
}

fn scores(
    comm: &Comm,
    scene: &Scene,
    windows: &[Window],
    mean_counts: &[f64],
    reconstruct: impl Fn(ArrayView2<f32>) -> Array2<f32>,
) -> Scores {
    let basis = Basis::new(&energy(), windows, mean_counts, &[]).unwrap();
    let lines = scene.lines(comm);
    let features: Vec<LineFeatures> =
        lines.map(|y| basis.line(scene.line(y), reconstruct(scene.line(y)).view(), &valid(), &[1.0; WIDTH])).collect();
    basis.scores(comm, WIDTH, features, &[]).unwrap()
}

/// Adds root's line about one map to `out`: how well it finds the truth, and its digest.
fn report(comm: &Comm, name: &str, local: &[f32], truth: &[i32], out: &mut String) {
    let Some(map) = comm.gather_bands(local) else {
        return;
    };
    assert_eq!(map.len(), HEIGHT * WIDTH);
    assert!((0..map.len()).all(|i| map[i].is_nan() == (i % WIDTH < 2)), "{name}: NaN only where masked");
    let mut digest = Sha256::new();
    for value in &map {
        digest.update(value.to_le_bytes());
    }
    let best = ranking(&map, truth).map_or(f64::NAN, |r| r.best_f1);
    let view = ArrayView2::from_shape((HEIGHT, WIDTH), &map).unwrap();
    // The scene is not blurred, so neighbours of a pixel say nothing about it.
    let meaning = if name.ends_with("pcc") { Meaning::Distance } else { Meaning::Odds };
    let f1 = |rule: Rule| {
        let flagged = flag(rule, meaning, view, 1).flagged.into_raw_vec_and_offset().0;
        detection(&map, truth, &flagged).map_or(f64::NAN, |d| d.f1)
    };
    let (auto, otsu, pot) = (f1(Rule::Auto), f1(Rule::Otsu), f1(Rule::Pot));
    let flags = flag(Rule::Auto, meaning, view, 1);
    let num_flagged = flags.flagged.iter().filter(|&&flag| flag).count();
    let flagged = num_flagged as f64 / map.iter().filter(|v| !v.is_nan()).count() as f64;
    let (areas, _) = regions(view, flags.flagged.view());
    let hex = format!("{:.16x}", digest.finalize());
    writeln!(
        out,
        "FIGURE {name} best {best:.3} auto {auto:.3} otsu {otsu:.3} pot {pot:.3} flagged {flagged:.5} regions {} sha {hex}",
        areas.len()
    )
    .unwrap();
}

/// Scores the first `num_cases` scenes; root prints a line about every map.
fn one_rank(num_cases: usize) {
    let session = comm::init().unwrap();
    let comm = session.comm();
    tch::set_num_threads(1);
    let mut out = String::new();
    let cases = [
        ("clean", 0.0, 1.0),
        ("shift0.9", 0.9, 1.0),
        ("shift2.4", 2.4, 1.0),
        ("shift5.4", 5.4, 1.0),
        ("shift-5.4", -5.4, 1.0),
        ("oxygen70", 0.0, 0.7),
    ];
    for (seed, (name, shift, oxygen)) in (1..).zip(cases).take(num_cases) {
        let scene = Scene::new(seed, shift, oxygen);
        let lines = scene.lines(&comm);
        let mean_counts = mean(&comm, lines.clone().map(|y| scene.line(y).to_owned()));
        let windows = find_windows(&energy(), &mean_counts);
        let truth = &scene.truth;
        let model = |line: ArrayView2<f32>| {
            Array2::from_shape_fn(line.dim(), |(x, e)| {
                let total: f64 = line.row(x).iter().map(|&n| f64::from(n)).sum();
                (scene.model[e] / scene.model.sum() * total) as f32
            })
        };
        let of_model = scores(&comm, &scene, &windows, &mean_counts, model);
        report(&comm, &format!("{name} mean/shift"), &of_model.shift, truth, &mut out);
        report(&comm, &format!("{name} mean/composition"), &of_model.composition, truth, &mut out);
        report(&comm, &format!("{name} mean/combined"), &of_model.combined, truth, &mut out);
        report(&comm, &format!("{name} mean/pcc"), of_model.pcc.as_ref().unwrap(), truth, &mut out);
        if let Some(map) = comm.gather_bands(&of_model.estimated_shift_ev()) {
            let found: Vec<f32> =
                (0..map.len()).filter(|&i| truth[i] > 0).map(|i| map[i]).filter(|shift| shift.is_finite()).collect();
            if !found.is_empty() {
                let mean = found.iter().sum::<f32>() / found.len() as f32;
                writeln!(out, "SHIFT {name} {mean:.2}").unwrap();
            }
        }

        let sums = mean_counts.iter().map(|m| m * (HEIGHT * (WIDTH - 2)) as f64);
        let spectra = Spectra::new(&sums.collect::<Vec<f64>>(), true);
        let mut scatter = Scatter::new(&spectra);
        for y in lines {
            scatter.add_block(scene.line(y).slice(s![2.., ..])).unwrap();
        }
        let pixels = (HEIGHT * (WIDTH - 2)) as u64;
        let pca = scatter.decompose(&comm, pixels, 8).unwrap();
        let of_pca = scores(&comm, &scene, &windows, &mean_counts, |line| pca.reconstruct(line, 3));
        report(&comm, &format!("{name} pca3/shift"), &of_pca.shift, truth, &mut out);
        report(&comm, &format!("{name} pca3/composition"), &of_pca.composition, truth, &mut out);
    }
    if comm.is_root() {
        println!("\n{out}");
    }
}

/// The lines that `ranks` ranks print about the first `cases` scenes.
fn run(ranks: usize, cases: usize) -> Vec<String> {
    let name = "analysis::shifts_are_found_alike_on_any_number_of_ranks";
    let mut command = this_test(ranks, name, &cases.to_string());
    let threads = if ranks == 1 { "2" } else { "1" };
    command.env("CORELOSS_THREADS", threads).env("RAYON_NUM_THREADS", threads);
    let ended = finish(command, LIMIT);
    let lines = ended.succeeded().stdout.lines();
    lines.filter(|l| l.starts_with("FIGURE") || l.starts_with("SHIFT")).map(str::to_owned).collect()
}

/// The figure `key` in the line about the map `name`.
fn figure(lines: &[String], name: &str, key: &str) -> f64 {
    let prefix = format!("FIGURE {name} ");
    let line = lines.iter().find(|l| l.starts_with(&prefix)).expect(name);
    let mut words = line.split(' ').skip_while(|w| *w != key);
    words.nth(1).expect(key).parse().expect("a number")
}

#[test]
fn shifts_are_found_alike_on_any_number_of_ranks() {
    if let Some(cases) = told() {
        return one_rank(cases.parse().expect("a number of scenes"));
    }
    let one = run(1, 6);
    println!("{}", one.join("\n"));
    for name in ["shift2.4", "shift5.4", "shift-5.4"] {
        let name = format!("{name} mean/shift");
        assert!(figure(&one, &name, "best") >= 0.98, "{name}");
        assert!(figure(&one, &name, "auto") >= 0.98, "{name}");
    }
    assert!(figure(&one, "shift0.9 mean/shift", "auto") >= 0.95);
    assert!(figure(&one, "clean mean/shift", "flagged") <= 0.001);
    assert!(figure(&one, "clean mean/composition", "flagged") <= 0.001);
    assert!(figure(&one, "clean pca3/shift", "flagged") <= 0.001);
    assert!(figure(&one, "oxygen70 mean/composition", "auto") >= 0.95);
    for ranks in [2, 3, 4] {
        let some = run(ranks, 2);
        assert_eq!(one[..some.len()], some, "{ranks} ranks");
    }
}
