//! Mutated files for tests of readers, which must neither panic nor hang.
//!
//! A test tries a few thousand mutants; `scripts/fuzz.sh N` tries N on each reader. Files that once broke something
//! have tests of their own, beside the reader.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Longer than any of these small files takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most seeds that are gathered on the way.
const MOST_SEEDS: usize = 512;
/// Numbers that mutation puts into a file, besides pieces of the seeds.
const WORDS: [u64; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, u64::MAX];

/// Calls `attempt` with mutants of `seeds`, and of those mutants that got an answer not seen before.
///
/// `tokens` are put in too: the syntax of a text format.
pub fn fuzz(mut seeds: Vec<Vec<u8>>, tokens: &[&str], mut attempt: impl FnMut(&[u8]) -> Result<()>) {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let runs = number("CORELOSS_FUZZ_RUNS").unwrap_or(2000);
    let mut random = ChaCha8Rng::seed_from_u64(number("CORELOSS_FUZZ_SEED").unwrap_or(1));
    let whole = seeds.len();
    let mut answers = HashSet::new();
    let (mut accepted, began) = (0, Instant::now());
    for run in 0..runs {
        let mutant = mutant(&seeds, whole, tokens, &mut random);
        let since = Instant::now();
        let answered = catch_unwind(AssertUnwindSafe(|| attempt(&mutant)));
        let took = since.elapsed();
        if answered.is_err() || took > PATIENCE {
            let path = std::env::temp_dir().join(format!("coreloss-fuzz-{run}"));
            std::fs::write(&path, &mutant).unwrap();
            panic!("run {run}: panicked, or took {took:?}: {}", path.display());
        }
        let answer = match answered.unwrap() {
            Ok(()) => {
                accepted += 1;
                String::new()
            }
            // Answers that differ only in numbers and names are the same.
            Err(error) => format!("{error:#}").chars().filter(|c| c.is_alphabetic() || *c == ' ').take(100).collect(),
        };
        if answers.insert(answer) && seeds.len() < MOST_SEEDS {
            seeds.push(mutant);
        }
    }
    println!("{runs} mutants: {accepted} accepted, {} answers, {:.0} s", answers.len(), began.elapsed().as_secs_f64());
}

/// One of `seeds`, the first `whole` of which are whole files, with one to four changes.
fn mutant(seeds: &[Vec<u8>], whole: usize, tokens: &[&str], random: &mut ChaCha8Rng) -> Vec<u8> {
    // Half of them of a whole file, which gets further into the reader.
    let among = match random.random() {
        true => whole,
        false => seeds.len(),
    };
    let mut bytes = seeds[random.random_range(0..among)].clone();
    for _ in 0..random.random_range(1..=4) {
        let place = random.random_range(0..=bytes.len());
        let end = (place + random.random_range(1..=16)).min(bytes.len());
        match random.random_range(0..9) {
            0 if place < bytes.len() => bytes[place] ^= 1 << random.random_range(0..8),
            1 if place < bytes.len() => bytes[place] = random.random(),
            2 => bytes.truncate(place),
            3 => drop(bytes.drain(place..end)),
            4 => {
                let piece = bytes[place..end].to_vec();
                let to = random.random_range(0..=bytes.len());
                bytes.splice(to..to, piece);
            }
            // A length or count, in either byte order.
            5 | 6 => {
                let word = WORDS[random.random_range(0..WORDS.len())];
                let size = [1, 2, 4, 8][random.random_range(0..4)];
                let word = match random.random() {
                    true => word.to_le_bytes()[..size].to_vec(),
                    false => word.to_be_bytes()[8 - size..].to_vec(),
                };
                let end = (place + size).min(bytes.len());
                bytes.splice(place..end, word);
            }
            7 => {
                let other = &seeds[random.random_range(0..seeds.len())];
                let from = random.random_range(0..=other.len());
                let to = (from + random.random_range(1..=64)).min(other.len());
                bytes.splice(place..end, other[from..to].iter().copied());
            }
            8 if !tokens.is_empty() => {
                let token = tokens[random.random_range(0..tokens.len())];
                bytes.splice(place..end.min(place + random.random_range(0..=4)), token.bytes());
            }
            _ => (),
        }
    }
    bytes
}
