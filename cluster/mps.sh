#!/usr/bin/env bash
# NVIDIA's MPS on this machine, with which the kernels of several trials on one GPU (resources.gpus_per_worker below 1) run
# side by side instead of in turns. Where there is no GPU, no MPS, or it does not start, it says so, and trials run without.
# usage: mps.sh [COMMAND ...]      COMMAND: what to run then, in place of this script
set -euo pipefail
pipe=${CUDA_MPS_PIPE_DIRECTORY:-/tmp/nvidia-mps-$UID}
export CUDA_MPS_PIPE_DIRECTORY=$pipe CUDA_MPS_LOG_DIRECTORY=$pipe/log
control=nvidia-cuda-mps-control
if ! command -v "$control" >/dev/null || ! nvidia-smi --list-gpus >/dev/null 2>&1; then
    echo "MPS: not on $(hostname), trials on one GPU take turns"
elif ! { (umask 077 && mkdir -p "$pipe/log") && [ -O "$pipe" ]; }; then
    echo "MPS: $pipe on $(hostname) is another user's, trials on one GPU take turns"
elif "$control" <<<get_server_list >/dev/null 2>&1; then
    echo "MPS: runs on $(hostname) already"
elif "$control" -d; then
    echo "MPS: started on $(hostname)"
else
    echo "MPS: does not start on $(hostname), trials on one GPU take turns"
fi
[ $# -eq 0 ] || exec "$@"
