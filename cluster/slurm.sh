#!/bin/bash
# The pipeline as a Slurm job on one node or several: `sbatch cluster/slurm.sh` in the project's folder, which all nodes
# see. docs/several-gpus.md says which `launcher` belongs to it. Options of sbatch go before the file's name, those of
# `dvc repro` after it.
#SBATCH --job-name=dvc-repro
#SBATCH --ntasks-per-node=1
#SBATCH --time=24:00:00
#SBATCH --output=slurm-%j.log
#SBATCH --open-mode=append
# Two minutes before its time is over, the job is told; it saves its checkpoint and goes back into the queue.
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
set -euo pipefail

# Only `make results` before the job and `dvc push` after it talk to the remote; the code that runs here needs no keys,
# unless it streams its shards (docs/large-data.md).
if [[ -z ${SHARDS_FROM:-} ]]; then
    unset "${!AWS_@}" "${!AZURE_@}" "${!GOOGLE_@}"
fi

export PATH=$PWD/${VENV:-.venv}/bin:$PATH
# Where torchrun's processes of several nodes meet.
MASTER_ADDR=$(scontrol show hostnames "${SLURM_JOB_NODELIST:?start this by sbatch}" | head --lines 1)
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))

again=no
tell_training() {
    echo "slurm.sh: told to stop; training saves its checkpoint"
    # The training that DVC started on this node, of this job alone; and all that srun started. DVC passes no signal on.
    pkill -TERM --session 0 --full '^[^ ]*python[^ ]* .*stages\.train' || true
    scancel --quiet --signal=TERM "$SLURM_JOB_ID" || true
}
trap 'again=yes; tell_training' USR1
# `scancel`, or another job that takes the nodes: Slurm decides what becomes of this one.
trap tell_training TERM

dvc repro "$@" &
pipeline=$!
# A signal ends `wait`, though not what it waits for.
while kill -0 "$pipeline" 2>/dev/null; do wait "$pipeline" && status=0 || status=$?; done
if [[ $again == yes && $status != 0 ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
