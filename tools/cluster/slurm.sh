#!/bin/bash
#SBATCH --job-name=mura
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
# Train on two nodes as one, each with all its GPUs:
#
#     sbatch --export=ALL,DATA=/data/MURA-v1.1,RUN=/scratch/runs/humerus tools/cluster/slurm.sh --study-type XR_HUMERUS --seed 1
#
# Arguments after the script's name are passed to mura.py. The checkout with its .venv, DATA and RUN are on a disk shared by all
# nodes. Two minutes before the time limit Slurm sends SIGTERM: the state is saved, and the job is requeued and resumes.
# After an error the same command resumes. Without GPUs: sbatch --gpus-per-node=0 ...
set -euo pipefail
: "${DATA:?set DATA to the folder that MURA unpacks to}" "${RUN:?set RUN to the run folder to create}"
cd "${SLURM_SUBMIT_DIR:-.}"
export KERAS_BACKEND=jax

if [[ -e $RUN/run.json ]]; then
    arguments=(--out "$RUN" --data "$DATA" --resume)
else
    arguments=(--out "$RUN" --data "$DATA" "$@")
fi
# --kill-on-bad-exit: if one host fails, Slurm stops the others.
srun --kill-on-bad-exit=1 .venv/bin/python mura.py --hosts slurm "${arguments[@]}"

if grep -q '"finished": null' "$RUN/run.json"; then
    scontrol requeue "$SLURM_JOB_ID"
else
    .venv/bin/python model_test.py "$RUN"
fi
