# shellcheck shell=bash
# What differs between clusters: edit it once. The jobs source it; source it yourself before sbatch, in bash:
#
#   . jobs/site.sh
#   sbatch jobs/run.sbatch configs/demo.yaml
#
# Then account and partition count, and you may submit from any folder (paths in a configuration are relative to it).

# In place of --account, --partition and --qos; these win over what a script says.
#export SBATCH_ACCOUNT=myproject
#export SBATCH_PARTITION=standard
#export SBATCH_QOS=normal

# The modules that coreloss was built with: Open MPI 4.1 with PMIx, HDF5 for it, and CUDA's driver on GPU nodes.
#module purge
#module load gcc openmpi hdf5

# A job that its time limit ends goes on by itself, at most this many times.
export CORELOSS_MAX_REQUEUES=${CORELOSS_MAX_REQUEUES:-50}

# ---- below is nothing that a site changes ----

CORELOSS_JOBS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export CORELOSS_JOBS
# A coreloss that a module or you put in the path comes first, then the one built here.
command -v coreloss >/dev/null || export PATH="$CORELOSS_JOBS/../target/release:$PATH"
# coreloss has threads of its own, --cpus-per-task of them on each rank; libraries add none.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# Lustre and NFS without locks refuse HDF5's.
export HDF5_USE_FILE_LOCKING=${HDF5_USE_FILE_LOCKING:-BEST_EFFORT}
