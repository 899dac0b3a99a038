# shellcheck shell=bash
# What slurm_sandbox.sh and slurm_nodes.sh share: packages, keys and configuration of a Slurm in one folder. They source it, and
# bring `say` and `die`.

# Seconds that daemons and nodes have to start, and to stop.
patience=30

have() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null; }

# Runs the arguments every 0.2 s until they succeed; fails after $patience.
wait_until() {
    local tries=$((patience * 5))
    until "$@"; do
        [ "$((tries -= 1))" -gt 0 ] || return 1
        sleep 0.2
    done
}

install_packages() {
    local missing=()
    { have slurmctld && have slurmd && have sbatch; } || missing+=(slurm-wlm)
    have munged || missing+=(munge)
    [ "${#missing[@]}" -gt 0 ] || return 0
    have apt-get || die "missing: ${missing[*]} (Debian's names); install Slurm and munge"
    say "installing ${missing[*]}"
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
}

# Makes a key in folder $1, which has the folder munge, and sets `munge_options` to what munged then needs.
munge_key() {
    local munge=$1/munge
    (umask 077 && head -c 1024 /dev/urandom >"$munge/key")
    # --force: munged objects that others may write to the folder's parents. On one's own machine that does not matter.
    # shellcheck disable=SC2034  # those who source this file use it
    munge_options=(--force --num-threads=2 --key-file="$munge/key" --socket="$munge/socket" --pid-file="$munge/pid"
        --seed-file="$munge/seed" --log-file="$munge/log")
}

memory_mib() { echo $(($(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo) / 1024)); }

# Prints what slurm.conf says wherever nodes are: state in folder $1, slurmctld on host $2 at address $3.
slurm_configuration() {
    cat <<CONF
ClusterName=coreloss
SlurmctldHost=$2($3)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# cred_expire is also how long a requeued job waits; Slurm's default is 120 s.
AuthInfo=socket=$1/munge/socket,cred_expire=5
StateSaveLocation=$1/slurmctld
SlurmctldPidFile=$1/slurmctld.pid
SlurmctldLogFile=$1/slurmctld.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=pmix
JobRequeue=1
OverTimeLimit=0
KillWait=10
ReturnToService=2
SchedulerParameters=batch_sched_delay=1,sched_interval=5,bf_interval=5
# Do not drain nodes because they have fewer real cores than CPUs.
SlurmdParameters=config_overrides
PartitionName=sandbox Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
}
