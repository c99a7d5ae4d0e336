#!/bin/bash
# Shares of one study as a SLURM job array. From a folder that the compute nodes see, with the study,
# its data and its models:
#
#     sbatch --array=1-8 slurm.sh STUDY.yaml
#
# and when all tasks have ended:
#
#     paretune merge shards/*-of-8 --output studies/NAME
#     paretune run STUDY.yaml                # measures the costs, and reports
#
# Task I of N runs `paretune run STUDY.yaml --shard I/N`. Two minutes before its limit SLURM sends
# SIGUSR1: the runs in hand are saved, and the task is queued again, where they go on. Lines with
# two ## are options that are off.
#
#SBATCH --job-name=paretune
#SBATCH --array=1-8
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=02:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=paretune-%A_%a.log
##SBATCH --gres=gpu:1
##SBATCH --constraint=a100

set -euo pipefail
: "${1:?sbatch slurm.sh STUDY.yaml}"
# A task that is queued again without an end has another trouble than its limit.
max_restarts=${PARETUNE_MAX_RESTARTS:-20}
count=${PARETUNE_SHARDS:-${SLURM_ARRAY_TASK_COUNT:-1}}
index=${SLURM_ARRAY_TASK_ID:-1}

# The store is on the node's own disk while it is open: SQLite does not work on the cluster's file
# system. What was done so far is beside the study at each end, whole at every moment.
results=${PARETUNE_RESULTS:-shards}/$index-of-$count
scratch=${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/paretune-$UID-$SLURM_JOB_ID
mkdir -p "$scratch"
if [ ! -d "$results" ] && [ -d "$results.old" ]; then mv "$results.old" "$results"; fi
if [ -d "$results" ]; then cp -a "$results/." "$scratch"; fi

# The shell gets the signal (B:) and hands it on. Bash runs a trap between two commands, so paretune
# is in the background. A wait that the signal has ended says so in its status, not how paretune
# ended, which may be over by then; so it is asked once more.
signalled=0
trap 'signalled=1; kill -USR1 "${run:-$!}" 2>/dev/null || true' USR1 TERM
paretune run "$@" --shard "$index/$count" --store "$scratch" &
run=$!
while
    signalled=0
    code=0
    wait "$run" || code=$?
    [ "$signalled" -eq 1 ]
do :; done

mkdir -p "$(dirname "$results")"
rm -rf "$results.part" "$results.old"
cp -a "$scratch" "$results.part"
if [ -d "$results" ]; then mv "$results" "$results.old"; fi
mv "$results.part" "$results"
rm -rf "$results.old" "$scratch"

# 130: its time was up, and runs are left. 138 and 143: the signal came before paretune had begun,
# on a slow or busy node.
if [ "$code" -eq 130 ] || [ "$code" -eq 138 ] || [ "$code" -eq 143 ]; then
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "$max_restarts" ]; then
        echo "slurm.sh: queued again $max_restarts times, and share $index is not done" >&2
        exit 1
    fi
    # The number of the job alone means the whole array.
    job=$SLURM_JOB_ID
    if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID; fi
    scontrol requeue "$job"
    exit 0
fi
exit "$code"
