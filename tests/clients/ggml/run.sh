#!/usr/bin/env bash
# Builds ggml's backend for Ascend NPUs against the installed emulator, and runs ggml's own test of operators on it: each against
# ggml's CPU backend.
#
#   tests/clients/ggml/run.sh <folder of ggml's sources> [operator ...]
#
# What it needs: cmake, a C++ compiler, cargo (or ASCEND_INSTALLED, an installed folder). None of ggml's code is kept here.
# An operator at which the test aborts or fails makes this script fail. `known.txt` names cases that are left out, by a pattern of
# those that are run, with the reason.
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

cmake -S "$sources" -B "$work/build" -DGGML_CANN=ON -DGGML_BUILD_TESTS=ON -DGGML_BUILD_EXAMPLES=OFF -DGGML_NATIVE=OFF \
  -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS_RELEASE=-O1 -DCMAKE_CXX_FLAGS_RELEASE=-O1 >"$work/cmake.log"
make -C "$work/build" test-backend-ops >"$work/make.log"

operators=("$@")
if [ ${#operators[@]} = 0 ]; then
  mapfile -t operators < <(sed -n '/GGML_OP_NAME\[GGML_OP_COUNT\]/,/};/p; /GGML_UNARY_OP_NAME\[/,/};/p; /GGML_GLU_OP_NAME\[/,/};/p' "$sources/src/ggml.c" | grep -oE '"[A-Z0-9_]+"' | tr -d '"')
fi
failed=0
all_right=0
for operator in "${operators[@]}"; do
  log=$work/$operator.log
  status=0
  pattern=$(awk -F'\t' -v operator="$operator" '$1 == operator { print $2 }' "$here/known.txt")
  timeout 1800 "$work/build/bin/test-backend-ops" test -b CANN0 -o "$operator" ${pattern:+-p "$pattern"} >"$log" 2>&1 || status=$?
  right=$(grep -ac '): .*OK' "$log" || true)
  wrong=$(grep -ac '): .*FAIL' "$log" || true)
  refused=$(grep -ac 'not supported' "$log" || true)
  all_right=$((all_right + right))
  [ "$status" = 0 ] && [ "$right" = 0 ] && continue
  echo "$operator: $right right, $wrong wrong, $refused that the backend does not do${pattern:+, without those that known.txt names}"
  [ "$status" = 0 ] && continue
  failed=1
  echo "FAILED $operator ends with $status"
  grep -aoE 'failed with [0-9]+: .*' "$log" | head -1 || true
done
echo "$all_right cases right"
exit "$failed"
