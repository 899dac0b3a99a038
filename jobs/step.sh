# shellcheck shell=bash
# A Slurm step that continues after its time limit. The jobs source this file after jobs/site.sh.

# Runs its arguments on every rank and ends the job with their exit code. After exit code 75 the job is queued again.
#
# Slurm sends the signal of --signal=B:USR1@120 to this script alone, and srun passes it on to the ranks. They finish the
# training step, write a checkpoint and exit with 75. When coreloss is started again, it continues from there.
step() {
    local cancelled=no code launched srun
    # When Slurm cancels or preempts a job, it sends SIGTERM to all its processes and decides itself whether to queue it again.
    trap 'cancelled=yes' TERM
    launch "$@"
    # What PMIx left on a node that lost its power keeps the job, queued again, from being launched there. Another step has names
    # of its own.
    if [ "$launched" = no ] && [ "$cancelled" = no ]; then
        echo "the job could not be launched on all nodes: it is launched once more" >&2
        launch "$@"
    fi
    # 138: SIGUSR1 came before coreloss handled it. Nothing is lost.
    if [ "$cancelled" = no ] && { [ "$code" = 75 ] || [ "$code" = 138 ]; }; then
        queue_again
    fi
    exit "$code"
}

# Runs its arguments on every rank; sets `code` to their exit code, and `launched` to whether they were all started.
launch() {
    local said
    code=0 launched=yes
    said=$(mktemp)
    # From Slurm 22.05 on, srun no longer takes --cpus-per-task from the job. What it says is kept; no signal ends the keeper.
    srun --mpi=pmix --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --cpu-bind=cores "$@" \
        2> >(trap '' TERM USR1 && exec tee "$said" >&2) &
    srun=$!
    trap 'kill -USR1 "$srun"' USR1
    # A signal ends `wait` early, so wait until srun has ended. `|| true` keeps `set -e` from ending the script.
    while kill -0 "$srun" 2>/dev/null; do
        wait "$srun" || true
    done
    wait "$srun" || code=$?
    if grep -q '^srun: error: task.* launch failed' "$said"; then
        launched=no
        # srun may call that a success.
        [ "$code" != 0 ] || code=1
    fi
    rm -f "$said"
}

# Queues this job, or this task of an array, again, unless that happened too often.
queue_again() {
    local job=$SLURM_JOB_ID restarts=${SLURM_RESTART_COUNT:-0}
    if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then
        job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
    fi
    if [ "$restarts" -ge "${CORELOSS_MAX_REQUEUES:-50}" ]; then
        echo "job $job was queued again $restarts times: submit it once more, or raise CORELOSS_MAX_REQUEUES" >&2
        return
    fi
    echo "job $job is queued again and goes on from its checkpoint" >&2
    scontrol requeue "$job" || echo "job $job cannot be queued again: submit it once more, and it goes on" >&2
}
