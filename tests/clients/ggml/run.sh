#!/usr/bin/env bash
# Builds ggml's backend for Ascend NPUs against the installed emulator, and runs ggml's own test of operators on it: each against
# ggml's CPU backend.
#
#   tests/clients/ggml/run.sh <folder of ggml's sources> [operator ...]
#
# What it needs: cmake, a C++ compiler, cargo (or ASCEND_INSTALLED, an installed folder). None of ggml's code is kept here.
# An operator at which the test aborts or fails makes this script fail, unless `known.txt` names it with the reason.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
sources=$(cd "$1" && pwd)
shift
work=${CARGO_TARGET_DIR:-$root/target}/clients/ggml
mkdir -p "$work"

installed=${ASCEND_INSTALLED:-$work/cann}
if [ -z "${ASCEND_INSTALLED:-}" ]; then
  (cd "$root" && cargo run --quiet --release -p ascend-emulator -- install "$installed")
fi
# shellcheck disable=SC1091
. "$installed/set_env.sh"
# The backend lets statistics that it does not read overlap, and names storages that are too short.
export ASCEND_EMULATOR_STRICT=${ASCEND_EMULATOR_STRICT:-lenient}

cmake -S "$sources" -B "$work/build" -DGGML_CANN=ON -DGGML_BUILD_TESTS=ON -DGGML_BUILD_EXAMPLES=OFF -DGGML_NATIVE=OFF \
  -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS_RELEASE=-O1 -DCMAKE_CXX_FLAGS_RELEASE=-O1 >"$work/cmake.log"
make -C "$work/build" test-backend-ops >"$work/make.log"

operators=("$@")
if [ ${#operators[@]} = 0 ]; then
  mapfile -t operators < <(sed -n '/GGML_OP_NAME\[GGML_OP_COUNT\]/,/};/p' "$sources/src/ggml.c" | grep -oE '"[A-Z0-9_]+"' | tr -d '"')
fi
failed=0
for operator in "${operators[@]}"; do
  log=$work/$operator.log
  status=0
  timeout 1800 "$work/build/bin/test-backend-ops" test -b CANN0 -o "$operator" >"$log" 2>&1 || status=$?
  right=$(grep -ac '1;32mOK' "$log" || true)
  wrong=$(grep -ac '1;31mFAIL' "$log" || true)
  [ "$status" = 0 ] && [ "$right" = 0 ] && continue
  verdict=right
  if [ "$status" != 0 ]; then
    verdict=$(grep -a "^$operator " "$here/known.txt" || echo FAILED)
    [ "$verdict" = FAILED ] && failed=1
  fi
  echo "$operator: $right right, $wrong wrong, ends with $status: $verdict"
  [ "$status" = 0 ] || grep -aoE 'failed with [0-9]+: .*' "$log" | head -1 || true
done
exit "$failed"
