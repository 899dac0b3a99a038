#!/usr/bin/env bash
# Rehearses a cluster on this machine, as root on Debian or Ubuntu: a Slurm of several nodes, with TCP between them alone.
#
#   scripts/slurm_nodes.sh start [N]            starts N nodes (2), called node1, node2, ...: installs Slurm where it is missing
#   scripts/slurm_nodes.sh on NODE COMMAND...   runs a command there; jobs are submitted on `head`: on head sbatch JOB
#   scripts/slurm_nodes.sh rsh NODE LINE...     the same for mpirun, on head: --mca plm_rsh_agent "scripts/slurm_nodes.sh rsh"
#   scripts/slurm_nodes.sh unplug|plug NODE     takes out its network cable, or puts it back
#   scripts/slurm_nodes.sh kill|boot NODE       takes away its power, or gives it back; its disk stays as it is
#   scripts/slurm_nodes.sh stop                 ends jobs, daemons and nodes, and removes their folder
#
# A node has its own network, host name, processes, shared memory and /tmp. All else is this machine's, as if on a file system
# that nodes share: so are the folders below /tmp that CORELOSS_NODES_SHARED names, apart by colons.
# CORELOSS_NODES_STATE is the folder of all this (coreloss-nodes in the folder for temporary files), CORELOSS_NODES_CPUS what
# each node offers to Slurm (4), CORELOSS_NODES_PATIENCE the seconds until Slurm gives up a silent node (30).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
state=${CORELOSS_NODES_STATE:-${TMPDIR:-/tmp}/coreloss-nodes}
net=10.66.0
export PATH=$PATH:/usr/sbin:/sbin SLURM_CONF=$state/slurm.conf
# Nodes share the machine's cores, which none of them knows: a rank that waits gives its core away.
export OMPI_MCA_mpi_yield_when_idle=${OMPI_MCA_mpi_yield_when_idle:-1}

say() { echo "slurm_nodes: $*" >&2; }

die() {
    say "$@"
    exit 1
}

# shellcheck source=scripts/slurm_daemons.sh
. "$here/slurm_daemons.sh"

address() { echo "$net.$((10 + ${1#node}))"; }

# The process that a node's other processes descend from; it keeps the node's namespaces.
first_process() { cat "$state/$1/pid" 2>/dev/null || die "$1 is not up"; }

# Runs a command in the network of a node, with this machine's files.
in_network() {
    local first
    first=$(first_process "$1")
    nsenter --target "$first" --net -- "${@:2}"
}

# Becomes a command on a node, in this folder.
on() {
    local first kinds=(--net --uts --mount)
    first=$(first_process "$1")
    [ "$1" = head ] || kinds+=(--ipc --pid)
    exec nsenter --target "$first" "${kinds[@]}" --wdns="$PWD" -- "${@:2}"
}

# The first process of a node: makes it what it is from inside, and stays.
live() {
    local node=$1 shared path
    hostname "$node"
    ip link set lo up
    mount --make-rprivate /
    mount --bind "$state/hosts" /etc/hosts
    if [ "$node" != head ]; then
        IFS=: read -ra shared <<<"$state:${CORELOSS_NODES_SHARED:-}"
        for path in "${shared[@]}"; do
            case $path in
                /tmp/*) mkdir -p "$state/$node$path" && mount --rbind "$path" "$state/$node$path" ;;
            esac
        done
        mount --rbind "$state/$node/tmp" /tmp
        mount -t tmpfs tmpfs /dev/shm
        # Else /sys would have the interfaces of this machine. Slurm wants its control groups there too.
        mkdir -p "$state/$node/cgroup"
        mount --rbind /sys/fs/cgroup "$state/$node/cgroup"
        mount -t sysfs sysfs /sys
        mount --rbind "$state/$node/cgroup" /sys/fs/cgroup
    fi
    touch "$state/$node/ready"
    # Nobody waits for the processes that it inherits.
    trap '' CHLD
    exec sleep infinity
}

boot() {
    local node=$1 folder=$state/$1 kinds=(--net --uts --mount) outer
    [ ! -e "$folder/pid" ] || die "$node is up already"
    [ "$node" = head ] || kinds+=(--ipc --pid --mount-proc)
    rm -rf "$folder/ready" "$folder/tmp" "$folder/slurmd.pid"
    mkdir -p "$folder/tmp" "$folder/spool"
    setsid unshare "${kinds[@]}" --fork --kill-child "$BASH" "$here/slurm_nodes.sh" live "$node" </dev/null >>"$folder/log" 2>&1 &
    outer=$!
    wait_until test -e "$folder/ready" || die "$node does not come up; see $folder/log"
    pgrep -P "$outer" >"$folder/pid"
    if [ "$node" = head ]; then
        in_network head ip link add switch type bridge
        in_network head ip addr add "$net.1/24" dev switch
        in_network head ip link set switch up
        return
    fi
    in_network head ip link add "$node" type veth peer name eth0 netns "$(first_process "$node")"
    in_network head ip link set "$node" master switch up
    in_network "$node" ip addr add "$(address "$node")/24" dev eth0
    in_network "$node" ip link set eth0 up
    (on "$node" slurmd -f "$SLURM_CONF") </dev/null >>"$folder/log" 2>&1
    wait_until test -e "$folder/slurmd.pid" || die "$node has no Slurm; see $folder/slurmd.log"
}

write_configuration() {
    local i
    slurm_configuration "$state" head "$net.1"
    cat <<CONF
SlurmdSpoolDir=$state/%n/spool
SlurmdPidFile=$state/%n/slurmd.pid
SlurmdLogFile=$state/%n/slurmd.log
SlurmdTimeout=${CORELOSS_NODES_PATIENCE:-30}
CONF
    for i in $(seq "$1"); do
        echo "NodeName=node$i NodeAddr=$(address "node$i") CPUs=${CORELOSS_NODES_CPUS:-4} RealMemory=$(memory_mib)"
    done
}

all_are_idle() { [ "$( (on head sinfo -h -N -o %T) 2>/dev/null | grep -cx idle)" = "$1" ]; }

start() {
    local i
    [ "$(id -u)" = 0 ] || die "needs root: nodes are namespaces"
    [ ! -e "$state" ] || die "there is $state already: scripts/slurm_nodes.sh stop"
    install_packages
    mkdir -p "$state/munge" "$state/slurmctld"
    chmod 755 "$state"
    printf '%s\n' "127.0.0.1 localhost" "$net.1 head" >"$state/hosts"
    for i in $(seq "$1"); do echo "$(address "node$i") node$i" >>"$state/hosts"; done
    write_configuration "$1" >"$SLURM_CONF"
    boot head
    munge_key "$state"
    (on head munged "${munge_options[@]}") </dev/null >>"$state/head/log" 2>&1
    (on head slurmctld -f "$SLURM_CONF") </dev/null >>"$state/head/log" 2>&1
    for i in $(seq "$1"); do boot "node$i"; done
    wait_until all_are_idle "$1" || die "the nodes do not come up; see $state/slurmctld.log"
}

power_off() {
    [ -e "$state/$1/pid" ] || return 0
    kill -9 "$(first_process "$1")" || true
    rm "$state/$1/pid"
}

stop() {
    local file
    [ -d "$state" ] || return 0
    [ -e "$SLURM_CONF" ] || die "$state is no folder of this script: left alone"
    for file in "$state"/node*/pid; do
        [ ! -e "$file" ] || power_off "$(basename "$(dirname "$file")")"
    done
    for file in "$state/slurmctld.pid" "$state/munge/pid"; do
        [ ! -e "$file" ] || kill -9 "$(cat "$file")" || true
    done
    power_off head
    # What the nodes had mounted there is gone when their last process is.
    wait_until rm -rf --one-file-system "$state" || die "$state cannot be removed"
}

case ${1:-} in
    start) start "${2:-2}" ;;
    live | boot | on) "$@" ;;
    rsh) (on "$2" sh -c "${*:3}") ;;
    unplug) in_network head ip link set "$2" down ;;
    plug) in_network head ip link set "$2" up ;;
    kill) power_off "$2" ;;
    stop) stop ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" ;;
    *)
        say "usage: scripts/slurm_nodes.sh start|on|rsh|unplug|plug|kill|boot|stop"
        exit 2
        ;;
esac
