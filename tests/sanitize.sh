#!/usr/bin/env bash
# Sanitizers over the emulator path: tests/sanitize.sh [address] [thread] [valgrind], all of them without an argument.
# Needs a nightly toolchain (`rustup toolchain install nightly`), and valgrind for the last.
set -euo pipefail
cd "$(dirname "$0")/.."

host=x86_64-unknown-linux-gnu
[ "$(uname -m)" = aarch64 ] && host=aarch64-unknown-linux-gnu
# A build of its own for each sanitizer: everything is instrumented. Debug information would double the time.
export CARGO_PROFILE_DEV_DEBUG=line-tables-only

address() {
  # Leaks are looked for at the end of each process, too. Fewer trials than usual: each is some times slower.
  RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS=detect_leaks=1 LSAN_OPTIONS=suppressions=tests/leaks.txt \
    cargo +nightly test --target "$host" --target-dir target/address \
    --test ascend_layer --test faults --test properties --test devices "$@"
}

thread() {
  # The standard library is not instrumented: rust-src and -Zbuild-std would do that. Its locks are inlined atomics, which are.
  RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" TSAN_OPTIONS=halt_on_error=1 \
    cargo +nightly test --target "$host" --target-dir target/thread --test ascend_layer "$@"
}

memcheck() {
  cargo build --release --example quickstart
  valgrind --quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite \
    target/release/examples/quickstart --device emulator --epochs 1
}

for what in "${@:-address}"; do
  case "$what" in
    address) address ;;
    thread) thread ;;
    valgrind) memcheck ;;
    *) echo "unknown: $what"; exit 1 ;;
  esac
done
