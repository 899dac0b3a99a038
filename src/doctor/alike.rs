//! Whether all ranks run the same program with the same arguments; others would wait for each other for ever.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::comm::Comm;
use crate::invalid::Invalid;

/// Number of blocks of the program's file that are compared, and bytes of each: another build differs almost
/// everywhere.
const BLOCKS: u64 = 256;
const BYTES: usize = 4096;

/// Refuses ranks with different programs or arguments.
///
/// # Collective
/// # Errors
/// [`Invalid`]: the first rank that differs from rank 0, and how.
pub fn refuse_others(comm: &Comm) -> Result<()> {
    let program = comm.agree(program())?;
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    let all = comm.all_gather(&(program, arguments.join(" ")));
    let (program, arguments) = &all[0];
    for (rank, (other, theirs)) in all.iter().enumerate() {
        if other != program {
            bail!(Invalid(format!(
                "rank {rank} runs another program than rank 0 ({other}, not {program}): start the same file on all nodes"
            )));
        }
        if theirs != arguments {
            bail!(Invalid(format!(
                "rank {rank} was started with `{theirs}` and rank 0 with `{arguments}`: give all ranks the same arguments"
            )));
        }
    }
    Ok(())
}

/// Version, revision and a hash of this program's file. Rank-local.
fn program() -> Result<String> {
    let file = File::open("/proc/self/exe").context("cannot read this program's own file")?;
    let length = file.metadata()?.len();
    let mut hash = Sha256::new_with_prefix(length.to_le_bytes());
    let mut bytes = [0; BYTES];
    for block in 0..BLOCKS {
        let read = file.read_at(&mut bytes, block * length / BLOCKS)?;
        hash.update(&bytes[..read]);
    }
    let (version, revision) = (env!("CARGO_PKG_VERSION"), env!("CORELOSS_REVISION"));
    Ok(format!("{version} {revision} {:.12x}", hash.finalize()))
}
