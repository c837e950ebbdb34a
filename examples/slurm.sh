#!/bin/bash
# Distil a recipe on several machines of a slurm cluster, one torchrun on each of them.
#
#     sbatch examples/slurm.sh recipes/minilm_english.yaml runs/mine
#
# When its time is nearly over, slurm signals this script: the run saves a checkpoint and ends, the
# job is queued again, and resumes from there. The same holds for a job that makes room for others
# where the cluster signals such jobs (PreemptParameters=send_user_signal in slurm.conf). Recipe,
# data and run folder lie on a disk that all machines share.
#SBATCH --job-name=limbeck
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@180
# USR1 goes to this script alone (B:), 180 seconds before the end: enough for a step, a checkpoint,
# and the 30 seconds that torchrun gives its processes.
set -euo pipefail
recipe=$1 run=$2

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# On slurm's signal: end the step, whose processes save a checkpoint, and queue the job again.
again= step=
trap 'again=yes; kill -TERM "$step" 2>/dev/null || true' USR1

# The id differs after a requeue, so that no old torchrun joins a new one.
srun --kill-on-bad-exit=1 torchrun \
  --nnodes "$SLURM_JOB_NUM_NODES" \
  --nproc-per-node "${SLURM_GPUS_ON_NODE:-1}" \
  --rdzv-backend c10d \
  --rdzv-endpoint "$head:${MASTER_PORT:-29500}" \
  --rdzv-id "$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" \
  -m limbeck distill "$recipe" -o "$run" &
step=$!

# A signal ends `wait` before the step has ended.
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do
  code=0
  wait "$step" || code=$?
done
if [ -n "$again" ] && [ "$code" != 0 ]; then
  echo "stopped by slurm; the job is queued again and resumes from the last checkpoint"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
