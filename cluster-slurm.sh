#!/usr/bin/env bash
#SBATCH --job-name=medvision
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --output=medvision-%j.log
#
# A Ray cluster inside one Slurm allocation, and a study on it. From this folder, on a file system that all nodes share, after
# `make setup`:
#   sbatch cluster-slurm.sh ablations/full.yaml --set storage=/scratch/me/runs
# Five minutes before the time is over the trials write their checkpoints; the same sbatch goes on from there. No GPUs:
# remove the line with --gpus-per-node. Options on sbatch's line take precedence over those above:
#   sbatch --account=PROJECT --partition=gpu --nodes=1 --gpus-per-node=2 cluster-slurm.sh ablations/full.yaml
# Several trials on a GPU (resources.gpus_per_worker below 1) side by side, with NVIDIA's MPS: MPS=1 sbatch cluster-slurm.sh ...
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
# module load python/3.12 # where nodes do not inherit it: the one of `make setup`
# shellcheck source=/dev/null
source "${VENV:-.venv}/bin/activate"

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
# A command once on each of so many nodes. Called in subshells only, so that `kill` reaches srun itself.
on() { exec srun --overlap --ntasks="$1" --nodes="$1" --nodelist="$2" "${@:3}"; }
address=$(on 1 "${nodes[0]}" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 10000)) # jobs may share a node: this one's dashboard is at 10000 more, Ray's client at 20000

# A token for this job alone, handed on by srun; nobody else on the nodes can use the cluster.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_TMPDIR="/tmp/ray-$SLURM_JOB_ID" RAY_worker_maximum_startup_concurrency=32
start=(ray start)
# in the steps of Ray itself, because Slurm ends with a step what it has started
[ "${MPS:-0}" = 0 ] || start=(env CUDA_MPS_PIPE_DIRECTORY="/tmp/mps-$SLURM_JOB_ID" bash cluster/mps.sh ray start)
size=(--num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --disable-usage-stats --block)

on 1 "${nodes[0]}" "${start[@]}" --head --node-ip-address="$address" --port="$port" --dashboard-host=127.0.0.1 \
    --dashboard-port=$((port + 10000)) --ray-client-server-port=$((port + 20000)) --resources='{"lane": 10000}' "${size[@]}" &
for _ in $(seq 120); do
    if ray health-check --address "$address:$port" >/dev/null 2>&1; then break; fi
    sleep 1
done
if ((${#nodes[@]} > 1)); then
    others=$(IFS=,; echo "${nodes[*]:1}")
    on $((${#nodes[@]} - 1)) "$others" "${start[@]}" --address="$address:$port" "${size[@]}" &
fi

python -m orchestrator.run "$@" --address "$address:$port" &
driver=$!
trap 'kill -TERM "$driver"' TERM INT # the lanes write their checkpoints before the driver ends
code=0
wait "$driver" || code=$?
while kill -0 "$driver" 2>/dev/null; do # a signal ended `wait`, not yet the driver
    code=0
    wait "$driver" || code=$?
done
jobs -p | xargs -r kill 2>/dev/null || true
wait || true
exit "$code"
