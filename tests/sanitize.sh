#!/usr/bin/env bash
# Sanitizers over the emulator path: tests/sanitize.sh [address] [thread] [valgrind], the first without an argument.
# Needs a nightly toolchain (`rustup toolchain install nightly`), and valgrind for the last.
set -euo pipefail
cd "$(dirname "$0")/.."

host=x86_64-unknown-linux-gnu
[ "$(uname -m)" = aarch64 ] && host=aarch64-unknown-linux-gnu
# A build of its own for each sanitizer: everything is instrumented. Debug information would double the time.
export CARGO_PROFILE_DEV_DEBUG=line-tables-only

address() {
  # Leaks are looked for at the end of each process, too.
  RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS=detect_leaks=1 \
    cargo +nightly test --target "$host" --target-dir target/address \
    --test ascend_layer --test faults --test properties --test devices
}

thread() {
  # The standard library is not instrumented: rust-src and -Zbuild-std would do that. Its locks are inlined atomics, which are.
  RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" TSAN_OPTIONS=halt_on_error=1 \
    cargo +nightly test --target "$host" --target-dir target/thread --test ascend_layer
}

memcheck() {
  # The training of the fault tests without a fault: everything that touches the device, in one short process.
  local test
  test=$(cargo test --test faults --no-run 2>&1 | grep -o 'target/debug/deps/faults-[0-9a-f]*' | tail -1)
  ASCEND_TENSOR_FAULT_ROLE=record valgrind --quiet --error-exitcode=9 \
    --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect \
    "$test" --exact every_call_may_fail --nocapture
}

for what in "${@:-address}"; do
  case "$what" in
    address) address ;;
    thread) thread ;;
    valgrind) memcheck ;;
    *) echo "unknown: $what"; exit 1 ;;
  esac
done
