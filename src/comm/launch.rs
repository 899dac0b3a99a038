//! What Open MPI is told before it starts, where the user says nothing about it.
//!
//! Open MPI takes its parameters from the environment first, then from files of the user and of the site.

use std::fs;
use std::path::{Path, PathBuf};

/// Interfaces that Open MPI leaves out by itself.
const LEFT_OUT: &str = "127.0.0.1/8,sppp";
/// Open MPI's messaging layer.
const PML: &str = "OMPI_MCA_pml";

/// Sets Open MPI's parameters that suit this job and machine. Rank-local, before any thread runs.
pub(super) fn choose_parameters() {
    let files: Vec<String> = parameter_files().iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let in_files = |name: &str| files.iter().find_map(|text| in_file(text, name));
    // Distributions name messaging layers there, such as Debian `^ucx`: that is nobody's wish for this job.
    let given = |name: &str| std::env::var(name).ok().or_else(|| in_files(name).filter(|_| name != PML));
    let interfaces = Interfaces(PathBuf::from("/sys/class/net"));
    for (name, value) in choices(given, has_fabric(), cores(), &interfaces.own_bridges()) {
        // SAFETY: MPI is not started, and no other thread runs yet.
        unsafe { std::env::set_var(name, value) };
    }
}

/// Files of the user and of the site in which Open MPI looks for parameters; some may not exist.
fn parameter_files() -> Vec<PathBuf> {
    let name = "openmpi-mca-params.conf";
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".openmpi/mca-params.conf"));
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let library =
        maps.lines().filter_map(|line| line.split_whitespace().last()).find(|path| path.contains("/libmpi.so"));
    // An Open MPI of its own has them in PREFIX/etc, beside PREFIX/lib.
    let installed = library.into_iter().flat_map(|path| Path::new(path).ancestors().skip(2).take(2));
    let installed = installed.map(|prefix| prefix.join("etc").join(name));
    home.into_iter().chain(installed).chain([Path::new("/etc/openmpi").join(name)]).collect()
}

/// The value that a file of parameters has for the variable `name`.
fn in_file(text: &str, name: &str) -> Option<String> {
    let parameter = name.strip_prefix("OMPI_MCA_")?;
    let mut lines = text.lines().filter_map(|line| line.split_once('='));
    lines.find(|(left, _)| left.trim() == parameter).map(|(_, value)| value.trim().to_string())
}

/// Variables to set, where `given` looks up those that there are.
fn choices(
    given: impl Fn(&str) -> Option<String>,
    fabric: bool,
    cores: usize,
    own_bridges: &[String],
) -> Vec<(&'static str, String)> {
    let mut chosen = Vec::new();
    let mut choose = |name: &'static str, value: String| {
        if given(name).is_none() {
            chosen.push((name, value));
        }
    };
    if !fabric {
        // What is left where there is no fabric for the others; that they look for one takes 0.3 s.
        choose(PML, "ob1".into());
    } else if is_on_one_node(&given) {
        // Ranks of one node communicate through its memory. For `cm` Open MPI would load libraries for clusters' fabrics, of
        // which libpsm and libpsm2 spend 0.1 s each on timing the processor's clock.
        choose(PML, "^cm".into());
    }
    // Open MPI's files of shared pointers end the job where a path is long, and nothing here uses them.
    choose("OMPI_MCA_sharedfp", "^lockedfile".into());
    if local_ranks(&given).is_some_and(|ranks| ranks > cores) {
        // A rank that waits would keep its core from the one that it waits for. mpirun sees to that itself, srun does not.
        choose("OMPI_MCA_mpi_yield_when_idle", "1".into());
    }
    if !own_bridges.is_empty() && given("OMPI_MCA_btl_tcp_if_include").is_none() {
        // They have one address on every node: Open MPI would connect a rank to its own node.
        choose("OMPI_MCA_btl_tcp_if_exclude", format!("{LEFT_OUT},{}", own_bridges.join(",")));
    }
    chosen
}

/// Whether this node has a network that Open MPI reaches by a driver of its own.
fn has_fabric() -> bool {
    let is_filled = |folder: &str| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    let devices = fs::read_dir("/dev").into_iter().flatten().flatten();
    let is_one =
        |name: String| ["hfi1", "ipath", "psm", "kgni", "bxi", "cxi"].iter().any(|kind| name.starts_with(kind));
    ["/sys/class/infiniband", "/dev/infiniband", "/sys/class/cxi"].into_iter().any(is_filled)
        || devices.filter_map(|device| device.file_name().into_string().ok()).any(is_one)
}

/// The cores of this node.
fn cores() -> usize {
    // SAFETY: a query that takes a plain number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(usize::MAX)
}

/// The ranks of this node, by the launcher's environment variables.
fn local_ranks(given: impl Fn(&str) -> Option<String>) -> Option<usize> {
    if let Some(ranks) = given("OMPI_COMM_WORLD_LOCAL_SIZE") {
        return ranks.parse().ok();
    }
    let node = given("SLURM_NODEID").and_then(|node| node.parse().ok()).unwrap_or(0);
    tasks_of_node(&given("SLURM_STEP_TASKS_PER_NODE")?, node)
}

/// What Slurm says of the node number `node`, as in `2(x3),1`: two tasks on each of three nodes, then one.
fn tasks_of_node(text: &str, node: usize) -> Option<usize> {
    let mut first = 0;
    for part in text.split(',') {
        let (tasks, nodes) = match part.split_once("(x") {
            Some((tasks, nodes)) => (tasks, nodes.strip_suffix(')')?.parse().ok()?),
            None => (part, 1),
        };
        first += nodes;
        if node < first {
            return tasks.parse().ok();
        }
    }
    None
}

/// Whether all ranks of the job share a node, by the launcher's environment variables, which `given` looks up.
fn is_on_one_node(given: impl Fn(&str) -> Option<String>) -> bool {
    if let Some(ranks) = given("OMPI_COMM_WORLD_SIZE") {
        return given("OMPI_COMM_WORLD_LOCAL_SIZE") == Some(ranks);
    }
    match given("SLURM_STEP_NUM_NODES") {
        Some(nodes) => nodes == "1",
        // Without a launcher there is one process.
        None => given("PMIX_RANK").or(given("PMI_RANK")).is_none(),
    }
}

/// The kernel's folder of network interfaces.
struct Interfaces(PathBuf);

impl Interfaces {
    /// Bridges that end in this machine, as those of containers and virtual machines do, if there are other interfaces.
    fn own_bridges(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        let is_own = |name: &String| self.0.join(name).join("bridge").is_dir() && !self.reaches_device(name);
        let (bridges, others): (Vec<_>, Vec<_>) = names.into_iter().partition(is_own);
        let is_network = |name: &String| name != "lo" && self.0.join(name).join("address").exists();
        if others.iter().any(is_network) { bridges } else { Vec::new() }
    }

    /// Whether an interface is, or is made of, a device.
    fn reaches_device(&self, name: &str) -> bool {
        let folder: &Path = &self.0.join(name);
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        folder.join("device").exists()
            || names.any(|entry| entry.strip_prefix("lower_").is_some_and(|lower| self.reaches_device(lower)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given<'a>(variables: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.to_string())
    }

    #[test]
    fn the_ranks_of_a_node_are_counted() {
        assert_eq!(local_ranks(given(&[("OMPI_COMM_WORLD_LOCAL_SIZE", "4")])), Some(4));
        let slurm = |node| local_ranks(given(&[("SLURM_STEP_TASKS_PER_NODE", "12(x2),3"), ("SLURM_NODEID", node)]));
        assert_eq!(["0", "1", "2", "3"].map(slurm), [Some(12), Some(12), Some(3), None]);
        assert_eq!(local_ranks(given(&[("PMIX_RANK", "0")])), None);
    }

    #[test]
    fn one_node_is_distinguished_from_many() {
        assert!(is_on_one_node(given(&[])));
        let mpirun =
            |local| is_on_one_node(given(&[("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_LOCAL_SIZE", local)]));
        assert!(mpirun("4") && !mpirun("2"));
        let slurm = |nodes| is_on_one_node(given(&[("SLURM_STEP_NUM_NODES", nodes), ("PMIX_RANK", "0")]));
        assert!(slurm("1") && !slurm("2"));
        assert!(!is_on_one_node(given(&[("PMI_RANK", "3")])));
    }

    #[test]
    fn what_the_user_says_stays() {
        let bridges = ["docker0".to_string()];
        let crowded = [("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_LOCAL_SIZE", "4")];
        let chosen = choices(given(&crowded), false, 2, &bridges);
        let expected = [
            ("OMPI_MCA_pml", "ob1".to_string()),
            ("OMPI_MCA_sharedfp", "^lockedfile".into()),
            ("OMPI_MCA_mpi_yield_when_idle", "1".into()),
            ("OMPI_MCA_btl_tcp_if_exclude", "127.0.0.1/8,sppp,docker0".into()),
        ];
        assert_eq!(chosen, expected);
        let told = expected.each_ref().map(|(name, _)| (*name, "theirs"));
        assert_eq!(choices(given(&[&crowded[..], &told].concat()), false, 2, &bridges), []);
        let chosen = choices(given(&[("OMPI_MCA_btl_tcp_if_include", "ib0")]), true, 2, &bridges);
        assert_eq!(chosen.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["OMPI_MCA_pml", "OMPI_MCA_sharedfp"]);
    }

    #[test]
    fn files_of_parameters_are_read() {
        let text = "# btl_tcp_if_include = eth9\n\nbtl_tcp_if_include = ib0\npml=ucx";
        assert_eq!(in_file(text, "OMPI_MCA_btl_tcp_if_include"), Some("ib0".into()));
        assert_eq!(in_file(text, "OMPI_MCA_pml"), Some("ucx".into()));
        assert_eq!(in_file(text, "OMPI_MCA_btl_tcp_if_exclude"), None);
        assert_eq!(in_file(text, "pml"), None);
    }

    #[test]
    fn bridges_without_a_device_are_of_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let make = |path: &str| fs::create_dir_all(folder.path().join(path)).unwrap();
        for path in ["lo/address", "docker0/bridge", "docker0/lower_veth1", "veth1/address"] {
            make(path);
        }
        make("br0/bridge");
        make("br0/lower_bond0");
        make("bond0/lower_eth0");
        assert_eq!(Interfaces(folder.path().into()).own_bridges(), ["br0", "docker0"]);
        make("eth0/device");
        assert_eq!(Interfaces(folder.path().into()).own_bridges(), ["docker0"]);
        let alone = tempfile::tempdir().unwrap();
        fs::create_dir_all(alone.path().join("docker0/bridge")).unwrap();
        assert!(Interfaces(alone.path().into()).own_bridges().is_empty());
    }
}
