# shellcheck shell=bash
# What differs between clusters. Edit it once. The jobs source it; source it yourself, in bash, before sbatch:
#
#   . jobs/site.sh
#   sbatch jobs/run.sbatch configs/demo.yaml
#
# Then sbatch knows account and partition, and you may submit from any folder. Paths in a configuration are relative to it.

# In place of --account, --partition and --qos. They override what a script says.
#export SBATCH_ACCOUNT=myproject
#export SBATCH_PARTITION=standard
#export SBATCH_QOS=normal

# The modules that coreloss was built with: Open MPI 4.1 with PMIx, its parallel HDF5, and CUDA's driver on GPU nodes.
#module purge
#module load gcc openmpi hdf5

# A job that reaches its time limit is queued again, at most this many times.
export CORELOSS_MAX_REQUEUES=${CORELOSS_MAX_REQUEUES:-50}

# ---- a site changes nothing below this line ----

CORELOSS_JOBS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export CORELOSS_JOBS
# A coreloss that is in the path already comes first, then the one built here.
command -v coreloss >/dev/null || export PATH="$CORELOSS_JOBS/../target/release:$PATH"
# coreloss starts --cpus-per-task threads on each rank by itself; libraries must not add more.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# Lustre and NFS mounted without locks refuse those of HDF5.
export HDF5_USE_FILE_LOCKING=${HDF5_USE_FILE_LOCKING:-BEST_EFFORT}
