//! `comm`: how ranks talk to one another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How ranks talk to one another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CommOptions {
    /// How gradients travel between GPUs: `mpi` through the hosts, which works everywhere; `nccl` where each rank has a
    /// GPU of its own; `auto` uses NCCL where that is so and its library is found. Between CPUs it is always MPI.
    pub backend: Backend,
    /// Seconds after which a waiting rank logs what it waits for; 0 for never.
    pub watchdog_s: u64,
    /// Seconds after which the job ends, with exit code 75, when a rank is out of reach or no rank does any work; 0 for never.
    pub abort_s: u64,
}

impl Default for CommOptions {
    fn default() -> Self {
        CommOptions { backend: Backend::Auto, watchdog_s: 120, abort_s: 300 }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    #[default]
    Auto,
    Mpi,
    Nccl,
}
