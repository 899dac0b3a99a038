//! Checks of ranks, threads, memory, GPUs and libtorch, from what the processes themselves know.

use std::cmp::Reverse;
use std::fs;
use std::path::Path;

use super::{Finding, Verdict};
use crate::comm::{Comm, node_name};
use crate::config::{self, Config};
use crate::gpu::device;
use crate::memory::LIBRARIES_MIB;

/// Variables in which launchers give the number of processes that they started together.
const LAUNCHED: [&str; 4] = ["SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS"];

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Whether srun started this process without any interface to MPI.
pub fn started_by_srun_without_pmi() -> bool {
    let told = |name: &str| std::env::var_os(name).is_some();
    told("SLURM_STEP_NUM_TASKS") && !["PMIX_RANK", "PMI_RANK", "PMI_FD", "OMPI_COMM_WORLD_SIZE"].into_iter().any(told)
}

/// Whether this process is to print: of processes that each think they are alone, only the first is.
pub fn is_first_of_many_alone() -> bool {
    number("SLURM_PROCID").is_none_or(|process| process == 0) || number("SLURM_STEP_NUM_TASKS").is_none()
}

/// Whether the processes that were started together found each other. Rank-local.
pub fn ranks(comm: &Comm) -> Finding {
    let size = comm.size();
    let launched = LAUNCHED.into_iter().find_map(number).unwrap_or(size);
    verdict_on_ranks(size, launched, number("SLURM_NTASKS"))
}

fn verdict_on_ranks(size: usize, launched: usize, allocated: Option<usize>) -> Finding {
    let check = "ranks";
    if launched > size {
        return Finding::of(
            Verdict::Bad,
            check,
            format!("{launched} processes were started together and each thinks that it is one of {size}"),
            "their launcher and MPI do not know each other: use `srun --mpi=pmix` (`srun --mpi=list` shows what there \
             is), or the mpirun of the Open MPI that coreloss was built with (`ldd` names it)",
        );
    }
    match allocated {
        Some(tasks) if tasks > size => Finding::of(
            Verdict::Warning,
            check,
            format!("{size} of the {tasks} tasks of this Slurm job run"),
            "start it with `srun --mpi=pmix`, as jobs/run.sbatch does",
        ),
        _ => Finding::good(check, format!("{size}, found by MPI")),
    }
}

/// Whether each thread has a core.
///
/// # Collective
pub fn threads(comm: &Comm) -> Finding {
    let threads = rayon::current_num_threads();
    let local = comm.local_size();
    let mine = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let online = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let online = online.lines().filter(|line| line.starts_with("processor"));
    let node = online.count().max(1);
    // The rank with the most threads per core counts.
    let short = |threads: usize, cores: usize| comm.max_u64((threads * 100 / cores) as u64) > 100;
    let bound = mine < node;
    let few = if bound { short(threads, mine) } else { short(threads * local, node) };
    let most_local = comm.max_u64(local as u64);
    let fewest = comm.all_gather(&mine).into_iter().min().unwrap_or(mine);
    let found =
        format!("{threads} per rank, {most_local} ranks on a node of {node} cores, {fewest} of them open to a rank");
    if comm.any(few) {
        Finding::of(
            Verdict::Warning,
            "threads",
            found,
            "more threads than cores: give --cpus-per-task to sbatch and srun, `mpirun --bind-to none`, or set \
             CORELOSS_THREADS",
        )
    } else {
        Finding::good("threads", found)
    }
}

/// Whether a node has the memory that the configuration gives to its ranks.
///
/// # Collective
pub fn memory(comm: &Comm, config: &Config) -> Finding {
    let local = comm.local_size();
    let wanted = (config.io.memory_mib + LIBRARIES_MIB) * local as u64;
    // Of every rank: ranks, memory, and the share of it that is wanted, in thousandths.
    let limit = memory_limit_mib();
    let all: Vec<(usize, u64, u64)> = comm.all_gather(&(local, limit, wanted * 1000 / limit.max(1)));
    let worst = (0..all.len()).max_by_key(|&rank| (all[rank].2, Reverse(rank))).unwrap_or(0);
    let (local, limit, share) = all[worst];
    let node = &comm.all_gather(&node_name())[worst];
    let found = format!(
        "io.memory_mib {} and {LIBRARIES_MIB} MiB of libraries on {local} ranks of {node}, which has {limit} MiB for them",
        config.io.memory_mib
    );
    if share > 1000 {
        Finding::of(
            Verdict::Warning,
            "memory",
            found,
            "set io.memory_mib lower, run fewer ranks on a node, or ask for more with --mem",
        )
    } else {
        Finding::good("memory", found)
    }
}

/// How many ranks each node has, whatever was asked for.
///
/// # Collective
pub fn nodes(comm: &Comm) -> Finding {
    verdict_on_nodes(&comm.all_gather(&node_name()))
}

/// `nodes` has the node of each rank.
fn verdict_on_nodes(nodes: &[String]) -> Finding {
    let mut ranks: Vec<(&str, usize)> = Vec::new();
    for node in nodes {
        match ranks.iter_mut().find(|(name, _)| name == node) {
            Some((_, count)) => *count += 1,
            None => ranks.push((node, 1)),
        }
    }
    let counts = || ranks.iter().map(|(_, count)| *count);
    let (fewest, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
    if fewest == most {
        return Finding::good("nodes", format!("{}, with {most} ranks each", ranks.len()));
    }
    let names: Vec<String> = ranks.iter().take(8).map(|(node, count)| format!("{count} on {node}")).collect();
    let more = if ranks.len() > names.len() { ", ..." } else { "" };
    // A number of ranks that the nodes cannot share evenly is no oversight.
    let verdict = if most - fewest > 1 { Verdict::Warning } else { Verdict::Good };
    let found = format!("{}, with unequal numbers of ranks: {}{more}", ranks.len(), names.join(", "));
    match verdict {
        Verdict::Warning => {
            Finding::of(verdict, "nodes", found, "give --ntasks-per-node to sbatch, which -n alone does not")
        }
        _ => Finding::good("nodes", found),
    }
}

/// The memory of this node, or the limit of the job's control group if that is lower, MiB. Rank-local.
fn memory_limit_mib() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let total = total.and_then(|kib| kib.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let mut least = total.map_or(u64::MAX, |kib| kib >> 10);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for group in groups.lines().filter_map(|line| line.rsplit(':').next()) {
        // The limit may be set on any group above.
        for folder in Path::new(group).ancestors() {
            let below = folder.strip_prefix("/").unwrap_or(folder);
            for file in ["", "memory"].map(|kind| Path::new("/sys/fs/cgroup").join(kind)) {
                for name in ["memory.max", "memory.limit_in_bytes"] {
                    let text = fs::read_to_string(file.join(below).join(name)).unwrap_or_default();
                    if let Ok(bytes) = text.trim().parse::<u64>() {
                        least = least.min(bytes >> 20);
                    }
                }
            }
        }
    }
    least
}

/// Whether each rank has a GPU, if there are any.
///
/// # Collective
pub fn gpus(comm: &Comm, config: &Config) -> Finding {
    let check = "gpu";
    let local = comm.local_size();
    let mine = match device::gpus() {
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error:#}")),
    };
    let driver = Path::new("/dev/nvidiactl").exists();
    let all: Vec<(usize, Result<usize, String>, bool)> = comm.all_gather(&(local, mine, driver));
    let ranks = || all.iter().enumerate();
    if let Some((rank, (.., Err(why), _))) = ranks().find(|(_, found)| found.1.is_err() && found.2) {
        return Finding::of(
            Verdict::Bad,
            check,
            format!("the node of rank {rank} has a GPU that libtorch cannot use: {why}"),
            "run scripts/setup.sh --cuda, or export the LIBTORCH of a PyTorch 2.11 with CUDA",
        );
    }
    let without = ranks().filter(|(_, found)| found.1.is_err()).count();
    if without == all.len() {
        let wanted = config.train.device == config::Device::Cuda;
        let found = "none: everything runs on the CPU".to_string();
        return match wanted {
            true => Finding::of(
                Verdict::Bad,
                check,
                found,
                "train.device: cuda asks for one: request it with --gpus-per-node, or leave train.device at auto",
            ),
            false => Finding::good(check, found),
        };
    }
    if without > 0 {
        return Finding::of(
            Verdict::Warning,
            check,
            format!("{without} of {} ranks have none", all.len()),
            "ask for nodes of one kind; --gpus-per-node counts on each",
        );
    }
    let shared = ranks().find(|(_, (local, gpus, _))| gpus.as_ref().is_ok_and(|gpus| local > gpus));
    match shared {
        Some((_, (local, gpus, _))) => Finding::of(
            Verdict::Warning,
            check,
            format!("{local} ranks of a node share {} GPUs", gpus.as_ref().unwrap_or(&0)),
            "--ntasks-per-node equal to --gpus-per-node, and no --gpus-per-task: every rank sees all of its node's",
        ),
        None => Finding::good(check, "one for each rank".into()),
    }
}

/// Whether all ranks loaded the libtorch that coreloss was built for.
///
/// # Collective
pub fn libtorch(comm: &Comm) -> Finding {
    let check = "libtorch";
    let all: Vec<(String, String)> = comm.all_gather(&loaded_libtorch());
    let (path, version) = &all[0];
    if let Some(rank) = all.iter().position(|(_, other)| other != version) {
        return Finding::of(
            Verdict::Bad,
            check,
            format!("{version} on rank 0 and {} on rank {rank}", all[rank].1),
            "install one libtorch for all nodes, on a shared file system, and export LIBTORCH in jobs/site.sh",
        );
    }
    if !version.is_empty() && !version.starts_with(device::LIBTORCH_VERSION) {
        return Finding::of(
            Verdict::Bad,
            check,
            format!("{path} is version {version}, coreloss is built for {}", device::LIBTORCH_VERSION),
            "LD_LIBRARY_PATH leads to another libtorch: `. scripts/env.sh`, or unset it",
        );
    }
    let version = if version.is_empty() { "of unknown version" } else { version };
    Finding::good(check, format!("{version}, {path}"))
}

/// Path and version of the libtorch in this process; empty where unknown. Rank-local.
fn loaded_libtorch() -> (String, String) {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let path =
        maps.lines().filter_map(|line| line.split_whitespace().last()).find(|path| path.ends_with("/libtorch_cpu.so"));
    let path = path.unwrap_or_default().to_string();
    let root = Path::new(&path).ancestors().nth(2).unwrap_or(Path::new(""));
    // A libtorch archive has the first file, a PyTorch wheel the second.
    let zip = fs::read_to_string(root.join("build-version")).ok();
    let wheel = || {
        let text = fs::read_to_string(root.join("version.py")).ok()?;
        let line = text.lines().find(|line| line.starts_with("__version__"))?;
        Some(line.split('\'').nth(1)?.to_string())
    };
    let version = zip.or_else(wheel).unwrap_or_default();
    (path, version.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_with_unequal_numbers_of_ranks_are_told() {
        let nodes = |text: &str| verdict_on_nodes(&text.split(' ').map(String::from).collect::<Vec<_>>());
        assert_eq!(nodes("a b a b").found, "2, with 2 ranks each");
        let uneven = nodes("a a a b");
        assert_eq!(
            (uneven.verdict, &uneven.found[..]),
            (Verdict::Warning, "2, with unequal numbers of ranks: 3 on a, 1 on b")
        );
        assert_eq!(nodes("a b a").verdict, Verdict::Good);
    }

    #[test]
    fn ranks_that_did_not_find_each_other_are_bad() {
        let alone = verdict_on_ranks(1, 4, Some(4));
        assert_eq!(alone.verdict, Verdict::Bad);
        assert!(alone.mend.contains("srun --mpi=pmix"));
        assert_eq!(verdict_on_ranks(4, 4, Some(4)).verdict, Verdict::Good);
        assert_eq!(verdict_on_ranks(1, 1, Some(4)).verdict, Verdict::Warning);
        assert_eq!(verdict_on_ranks(1, 1, None).verdict, Verdict::Good);
    }
}
