//! `comm`: how ranks talk to one another.

use serde::{Deserialize, Serialize};

/// How ranks talk to one another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommOptions {
    /// How gradients travel between GPUs: `mpi` over the hosts, which works everywhere; `nccl` where each rank has a GPU of
    /// its own; `auto` takes NCCL where that is so and its library is there. Between CPUs it is always MPI.
    pub backend: Backend,
    /// Seconds after which a rank says in the log what it waits in; 0 for never.
    pub watchdog_s: u64,
}

impl Default for CommOptions {
    fn default() -> Self {
        CommOptions { backend: Backend::Auto, watchdog_s: 120 }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    #[default]
    Auto,
    Mpi,
    Nccl,
}
