#!/usr/bin/env bash
# Everything worth knowing of a GPU in at most 8 minutes: one table, and gpu.json beside it.
#
#   bench/gpu.sh                         # full size, on the GPU that is there
#   bench/gpu.sh --small --device cpu    # the same from end to end with small networks, as it was tried
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=.:bench${PYTHONPATH:+:$PYTHONPATH} YOLO_OFFLINE=true HF_HUB_OFFLINE=1 PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
exec timeout --signal=INT 480 "${PYTHON:-python}" bench/gpu.py "$@"
