#!/usr/bin/env bash
# Runs PyTorch's NPU client, a prebuilt program built against the real CANN, on the installed emulator.
#
#   tests/clients/torch_npu/run.sh [check ...]
#
# The first run downloads about a gigabyte from PyPI into target/clients. What it needs: python3.11 (or PYTHON), gcc, cargo.
#   TORCH_NPU_VENV   a virtual environment that has torch and torch_npu already, or is to get them
#   TORCH_NPU_SWEEP  1 runs the sweep over PyTorch's table of operators too
#   ASCEND_INSTALLED an installed folder to run on, instead of a fresh one
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
root=$(cd ../../.. && pwd)
work=${CARGO_TARGET_DIR:-$root/target}/clients
venv=${TORCH_NPU_VENV:-$work/venv}
python=$venv/bin/python
mkdir -p "$work"

if ! "$python" -c 'import importlib.metadata as m; m.version("torch"), m.version("torch_npu")' 2>/dev/null; then
  "${PYTHON:-python3.11}" -m venv "$venv"
  pip=("$python" -m pip install --quiet)
  # The published torch wants CUDA packages, which nothing here uses: they are left out, and empty stand-ins linked below.
  "${pip[@]}" --no-deps torch==2.9.1 torch_npu==2.9.1
  "${pip[@]}" typing_extensions sympy==1.14.0 networkx jinja2 fsspec filelock "numpy<2.3" pyyaml "setuptools<81"
fi

stubs=$work/cuda-stand-ins
if [ ! -e "$stubs/done" ]; then
  mkdir -p "$stubs"
  libraries=$("$python" -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])')/lib
  "$python" "$here/cuda_stubs.py" "$libraries" "$stubs"
  touch "$stubs/done"
fi

installed=${ASCEND_INSTALLED:-$work/cann}
if [ -z "${ASCEND_INSTALLED:-}" ]; then
  (cd "$root" && cargo run --quiet --release -p ascend-emulator -- install "$installed")
fi
# shellcheck disable=SC1091
. "$installed/set_env.sh"
export LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$stubs PYTHONWARNINGS=ignore TORCH_CPP_LOG_LEVEL=ERROR

failed=0
run() {
  echo "== $*"
  env "$@" || failed=1
}
run "$python" runtime.py "$@"
run "$python" ops.py "$@"
run "$python" attention.py "$@"
run "$python" training.py "$@"
run "$python" graphs.py "$@"
for ranks in 2 4 8; do
  run RANKS=$ranks "$python" distributed.py "$@"
done
run "$python" distributed_faults.py
# Ways to launch: phase 2 on the caller's thread, on the queue's thread (the default), both phases there, and synchronously.
for mode in TASK_QUEUE_ENABLE=0 TASK_QUEUE_ENABLE=1 TASK_QUEUE_ENABLE=2 ASCEND_LAUNCH_BLOCKING=1; do
  run "$mode" "$python" runtime.py tensors_travel streams_and_events
  run "$mode" "$python" training.py gradients_of_a_transformer mlp_by_adam
done
for mode in TASK_QUEUE_ENABLE=0 ASCEND_LAUNCH_BLOCKING=1; do
  run "$mode" "$python" runtime.py errors_of_shapes
done
# PyTorch's own table of operators: half an hour.
if [ "${TORCH_NPU_SWEEP:-0}" = 1 ]; then
  run "$python" opinfo.py
fi
exit "$failed"
