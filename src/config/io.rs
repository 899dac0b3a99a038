//! `io`: reading, and how much memory it may take.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;

/// Reading, and how much memory it may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Io {
    /// Memory in MiB that one rank may use for cubes.
    pub memory_mib: u64,
}

impl Default for Io {
    fn default() -> Self {
        Io { memory_mib: 2048 }
    }
}

/// As much as an address has bits for.
const MOST_MEMORY_MIB: u64 = 1 << 26;

impl Io {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems
            .require((64..=MOST_MEMORY_MIB).contains(&self.memory_mib), "io.memory_mib: from 64 to 67108864 (64 TiB)");
    }
}
