#!/usr/bin/env bash
# Runs a one-node Slurm on this machine's loopback, to try jobs/ with: as root, on Debian or Ubuntu.
#
#   scripts/slurm_sandbox.sh start          starts it (installs slurm-wlm and munge first where they are missing)
#   eval "$(scripts/slurm_sandbox.sh env)"  points sbatch, srun, squeue and scontrol of this shell to it
#   scripts/slurm_sandbox.sh stop           ends its jobs and daemons and removes its folder
#
# It keeps everything in one folder: $CORELOSS_SLURM_STATE, or coreloss-slurm in the folder for temporary files. With another
# folder a second Slurm runs beside the first. `start` does nothing if it runs already, nor `stop` if it does not.
set -euo pipefail

state=${CORELOSS_SLURM_STATE:-${TMPDIR:-/tmp}/coreloss-slurm}

say() { echo "slurm_sandbox: $*" >&2; }

die() {
    say "$@"
    exit 1
}

# shellcheck source=scripts/slurm_daemons.sh
. "$(dirname "${BASH_SOURCE[0]}")/slurm_daemons.sh"

not() { ! "$@"; }

# Asks this folder's Slurm, for a few seconds at most.
ask() { SLURM_CONF=$state/slurm.conf timeout 5 "$@"; }

node_is_up() { ask sinfo -h -o %T 2>/dev/null | grep -Eqx 'idle|mixed|allocated|completing'; }

# A port that nobody listens on, below those that the kernel uses for outgoing connections.
free_port() {
    local port
    while :; do
        port=$((10000 + (RANDOM * 32768 + RANDOM) % 22000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

write_configuration() {
    local node cpus
    node=$(hostname -s)
    # At least four, so that arrays and jobs of two tasks run on a small machine too.
    cpus=$(nproc)
    [ "$cpus" -ge 4 ] || cpus=4
    slurm_configuration "$state" "$node" 127.0.0.1
    cat <<CONF
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmdSpoolDir=$state/slurmd
SlurmdPidFile=$state/slurmd.pid
SlurmdLogFile=$state/slurmd.log
NodeName=$node NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$(memory_mib)
CONF
}

# Starts a daemon, marked by CORELOSS_SANDBOX, which `members` looks for. It must not hold the lock (descriptor 9).
daemon() {
    (
        cd "$state"
        PATH=$PATH:/usr/sbin:/sbin SLURM_CONF=$state/slurm.conf CORELOSS_SANDBOX=$state "$@" 9>&- </dev/null >>"$state/start.log" 2>&1
    ) || die_with_log "$1 did not start" "$state/start.log"
}

die_with_log() {
    tail -n 15 "$2" >&2 || true
    die "$1; see $2"
}

start() {
    [ "$(id -u)" = 0 ] || die "needs root: Slurm's daemons start jobs as other users"
    install_packages
    mkdir -p "$state"
    chmod 755 "$state"
    exec 9>"$state/lock"
    flock -w 120 9 || die "another start or stop of $state does not end"
    if node_is_up; then
        say "runs already in $state"
        return
    fi
    end_all
    find "$state" -mindepth 1 -maxdepth 1 ! -name lock -exec rm -rf {} +
    mkdir "$state/munge" "$state/slurmctld" "$state/slurmd"
    munge_key "$state"
    write_configuration >"$state/slurm.conf"
    daemon munged "${munge_options[@]}"
    daemon slurmctld -f "$state/slurm.conf"
    daemon slurmd -f "$state/slurm.conf"
    wait_until node_is_up || die_with_log "the node did not come up in $patience s" "$state/slurmctld.log"
    say "runs in $state; now: eval \"\$(scripts/slurm_sandbox.sh env)\""
}

# The processes of this folder's Slurm: daemons and slurmstepd by their mark, jobs by job number and configuration.
members() {
    local environ pid
    for environ in /proc/[0-9]*/environ; do
        pid=${environ#/proc/}
        pid=${pid%/environ}
        [ "$pid" != "$$" ] || continue
        { tr '\0' '\n' <"$environ"; } 2>/dev/null | awk -v state="$state" '
            $0 == "CORELOSS_SANDBOX=" state { daemon = 1 }
            $0 == "SLURM_CONF=" state "/slurm.conf" { ours = 1 }
            /^SLURM_JOB_ID=/ { job = 1 }
            END { exit !(daemon || ours && job) }' && echo "$pid"
    done
    return 0
}

none_left() { [ -z "$(members)" ]; }

no_jobs() { [ -z "$(ask squeue -h 2>/dev/null)" ]; }

signal_all() {
    local pids
    mapfile -t pids < <(members)
    [ "${#pids[@]}" = 0 ] || kill "-$1" "${pids[@]}" 2>/dev/null || true
}

# Ends jobs as Slurm does, then the daemons, then everything that is left.
end_all() {
    [ ! -e "$state/slurm.conf" ] || none_left || {
        if ask scontrol ping >/dev/null 2>&1; then
            # Pending jobs first, so that none starts when a running one ends.
            ask scancel --state=PENDING || true
            ask scancel --state=RUNNING || true
            wait_until no_jobs || say "some jobs do not end"
        fi
        signal_all TERM
        wait_until none_left || signal_all KILL
        wait_until none_left || die "these processes do not end: $(members | tr '\n' ' ')"
    }
}

stop() {
    if [ ! -d "$state" ]; then
        say "nothing runs in $state"
        return
    fi
    exec 9>"$state/lock"
    flock -w 120 9 || die "another start or stop of $state does not end"
    [ -e "$state/slurm.conf" ] || [ -z "$(find "$state" -mindepth 1 ! -name lock)" ] ||
        die "$state is no folder of this script: left alone"
    end_all
    rm -rf "$state"
    say "stopped"
}

environment() {
    node_is_up || die "does not run in $state: scripts/slurm_sandbox.sh start"
    # Unset what an allocation or the settings of another Slurm left in this shell.
    compgen -A export | sed -n '/^S\(LURM\|BATCH\|RUN\)_/s/^/unset /p'
    printf 'export SLURM_CONF=%q\n' "$state/slurm.conf"
}

case ${1:-} in
    start) start ;;
    env) environment ;;
    stop) stop ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" ;;
    *)
        say "usage: scripts/slurm_sandbox.sh start|env|stop"
        exit 2
        ;;
esac
