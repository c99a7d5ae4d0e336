#!/bin/bash
# Workers of one study as a SLURM job array. On a machine that the compute nodes reach:
#
#     paretune serve STUDY.yaml --host ADDRESS       # prints the URL and the token's file
#
# and on the login node, with what it printed:
#
#     export PARETUNE_SERVER=http://ADDRESS:8765 PARETUNE_TOKEN_FILE=FILE
#     sbatch --array=0-7 slurm.sh
#
# Where compute nodes reach nobody, task N of the array takes bundle N, from 1 on:
#
#     paretune pack STUDY.yaml --output part.zip --bundles 8
#     PARETUNE_BUNDLE=part sbatch --array=1-8 slurm.sh
#     paretune merge part-*-results --output studies/NAME
#
# Each task is one worker: it takes runs until none is left, or none would end in time. Two minutes
# before the limit SLURM sends SIGUSR1: what is in hand is saved and given back, and the task is
# queued again, where this run or any other goes on. Lines with two ## are options that are off.
#
#SBATCH --job-name=paretune
#SBATCH --array=0-7
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=8G
#SBATCH --time=02:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=paretune-%A_%a.log
##SBATCH --gres=gpu:1
##SBATCH --constraint=a100

set -euo pipefail
# Seconds before the limit at which SLURM sends SIGUSR1, and at which a worker ends by itself.
margin_seconds=120
# A task that is queued again without an end has another trouble than its limit.
max_restarts=${PARETUNE_MAX_RESTARTS:-20}

# A worker's folder is on the node's own disk: SQLite does not work on the cluster's file system.
scratch=${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/paretune-$UID-$SLURM_JOB_ID
results=
mkdir -p "$scratch"
if [ -n "${PARETUNE_BUNDLE:-}" ]; then
    results=$PARETUNE_BUNDLE-$SLURM_ARRAY_TASK_ID-results
    if [ -d "$results" ]; then cp -a "$results/." "$scratch"; fi
    work=(--bundle "$PARETUNE_BUNDLE-$SLURM_ARRAY_TASK_ID.zip")
else
    : "${PARETUNE_SERVER:?the URL that paretune serve printed}"
    : "${PARETUNE_TOKEN_FILE:?the file with the token that paretune serve made}"
    work=(--server "$PARETUNE_SERVER" --token-file "$PARETUNE_TOKEN_FILE")
fi

end=${SLURM_JOB_END_TIME:-}
if [ -z "$end" ]; then # older versions of SLURM do not say it to the job
    end=$(date --date="$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%e)" +%s)
fi
minutes=$(((end - $(date +%s) - margin_seconds) / 60))
if [ "$minutes" -lt 1 ]; then
    echo "slurm.sh: less than a minute is left before the last $margin_seconds s: give more --time" >&2
    exit 2
fi

# The shell gets the signal (B:) and hands it on. Bash runs a trap between two commands, so the
# worker is in the background. A wait that the signal has ended says so in its status, not how the
# worker ended, which may be over by then; so it is asked once more.
signalled=0
trap 'signalled=1; kill -USR1 "${worker:-$!}" 2>/dev/null || true' USR1 TERM
paretune work "${work[@]}" --folder "$scratch" --minutes "$minutes" --workers 1 \
    --threads "${SLURM_CPUS_PER_TASK:-1}" "$@" &
worker=$!
while
    signalled=0
    code=0
    wait "$worker" || code=$?
    [ "$signalled" -eq 1 ]
do :; done

if [ -n "$results" ]; then # of a bundle: what was done so far, whole at every moment
    rm -rf "$results.part"
    cp -a "$scratch" "$results.part"
    rm -rf "$results"
    mv "$results.part" "$results"
fi
rm -rf "$scratch"

# 130: its time was up, and runs are left. 138 and 143: the signal came before paretune had begun,
# on a slow or busy node.
if [ "$code" -eq 130 ] || [ "$code" -eq 138 ] || [ "$code" -eq 143 ]; then
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "$max_restarts" ]; then
        echo "slurm.sh: queued again $max_restarts times, and the study is not done" >&2
        exit 1
    fi
    # The number of the job alone means the whole array.
    job=$SLURM_JOB_ID
    if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID; fi
    scontrol requeue "$job"
    exit 0
fi
exit "$code"
