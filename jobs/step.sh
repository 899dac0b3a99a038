# shellcheck shell=bash
# One Slurm step that goes on where its time limit stopped it: the jobs source it after jobs/site.sh.

# Runs the arguments on every rank and ends the job with their exit code; after exit code 75 the job is queued again.
#
# The signal of --signal=B:USR1@120 comes to this script alone, and srun hands it on to the ranks: they finish the step,
# write a checkpoint and exit with 75. Started again, coreloss goes on from there.
step() {
    local cancelled=no code=0 srun
    # From Slurm 22.05 on, srun no longer takes --cpus-per-task from the job.
    srun --mpi=pmix --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --cpu-bind=cores "$@" &
    srun=$!
    trap 'kill -USR1 "$srun"' USR1
    # Slurm sends it to every process of a job that it cancels or preempts, and knows itself whether to queue it again.
    trap 'cancelled=yes' TERM
    # A signal ends `wait` early. Within `||` and `while` a code other than 0 does not end the script.
    while kill -0 "$srun" 2>/dev/null; do
        wait "$srun" || true
    done
    wait "$srun" || code=$?
    # 138: the signal came before coreloss was up to hear it; nothing is lost.
    if [ "$cancelled" = no ] && { [ "$code" = 75 ] || [ "$code" = 138 ]; }; then
        queue_again
    fi
    exit "$code"
}

# Puts this job, or this task of an array, back into the queue, unless it was there too often.
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
