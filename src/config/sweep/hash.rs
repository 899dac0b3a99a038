//! What the cubes, trainings and points of sweeps are known by.

use sha2::{Digest, Sha256};

/// Raised whenever a configuration comes to give other results, as when a default changes: a folder of cubes, trainings and
/// points must not answer for a later program than made them.
const RESULTS: u32 = 3;

/// Forty bits of SHA-256, in hexadecimal.
pub(super) fn hash(text: &str) -> String {
    format!("{:.10x}", Sha256::digest(format!("{RESULTS} {text}")))
}
