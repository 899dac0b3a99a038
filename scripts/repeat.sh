#!/usr/bin/env bash
# Repeats a short training on two rehearsed nodes and counts the results that differ from the first in any bit. As root.
#
#   scripts/repeat.sh [N] [WAY] [FOLDER]     N trainings (100) by WAY: srun (the default), bound (srun, each rank bound to a
#                                            core), mpirun; keeps those that differ in FOLDER (a new one)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/env.sh
[ -n "${LIBTORCH:-}" ] || . scripts/env.sh
times=${1:-100} way=${2:-srun} folder=${3:-$(mktemp -d)}
coreloss=${CARGO_TARGET_DIR:-$PWD/target}/release/coreloss
mkdir -p "$folder"
programs=$(dirname "$coreloss")
export CORELOSS_NODES_STATE=$folder/nodes CORELOSS_NODES_SHARED=$folder:$PWD:$programs:$LIBTORCH CORELOSS_THREADS=1
trap 'scripts/slurm_nodes.sh stop' EXIT
scripts/slurm_nodes.sh start 2
cat >"$folder/config.yaml" <<CONFIG
archive: {inputs: ['$folder/archive/*.hspy']}
train: {device: cpu, steps: 5}
simulate: {dir: '$folder/archive', cubes: [{name: cube, scene: {shape: [32, 32, 64], dispersion_ev: 3.3}}]}
CONFIG
"$coreloss" simulate "$folder/config.yaml" >/dev/null 2>&1

train() {
    local words=("$coreloss" train "$folder/config.yaml" --set "output=$1")
    # shellcheck disable=SC2016  # the ranks' shells know their number
    case $way in
        srun) words=(srun --mpi=pmix -N2 -n2 "${words[@]}") ;;
        bound) words=(srun --mpi=pmix -N2 -n2 sh -c 'exec taskset -c $((SLURM_PROCID % $(nproc))) "$@"' sh "${words[@]}") ;;
        mpirun) words=(mpirun -H "node1,node2" --bind-to none --mca plm_rsh_agent "$PWD/scripts/slurm_nodes.sh rsh" "${words[@]}") ;;
        *) echo "repeat: no way $way: srun, bound or mpirun" >&2 && exit 2 ;;
    esac
    timeout 120 scripts/slurm_nodes.sh on head "${words[@]}" >"$1.log" 2>&1
}

losses() { sed 's/"patches_per_s":[^,}]*//' "$1/metrics.jsonl"; }

differ=0
for ((i = 0; i < times; i++)); do
    train "$folder/$i" || { cat "$folder/$i.log" >&2 && exit 1; }
    cmp -s <(losses "$folder/0") <(losses "$folder/$i") || {
        differ=$((differ + 1))
        echo "$folder/$i differs:" && diff <(losses "$folder/0") <(losses "$folder/$i") | sed -n '2p;/^>/{p;q}'
        continue
    }
    [ "$i" = 0 ] || rm -r "${folder:?}/$i" "$folder/$i.log"
done
echo "$way: $differ of $times differ"
