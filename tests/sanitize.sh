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
  # Leaks are looked for at the end of each process, too. Requests beyond any memory are errors of the library, as without it.
  RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 \
    cargo +nightly test --target "$host" --target-dir target/address \
    --test ascend_layer --test faults --test properties --test devices --test cpu
}

thread() {
  # The locks of an uninstrumented standard library look like races: it is built along, from the sources of the toolchain.
  if [ ! -d "$(rustc +nightly --print sysroot)/lib/rustlib/src" ]; then
    echo "the thread sanitizer needs the standard library's sources: rustup component add rust-src --toolchain nightly"
    exit 1
  fi
  RUSTFLAGS="-Zsanitizer=thread" TSAN_OPTIONS=halt_on_error=1 \
    cargo +nightly test -Zbuild-std --target "$host" --target-dir target/thread --test ascend_layer
}

memcheck() {
  # The first program, on the emulator: a whole training, from the first call to the last.
  cargo build --example quickstart
  valgrind --quiet --error-exitcode=9 \
    --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect \
    target/debug/examples/quickstart --device emulator
}

for what in "${@:-address}"; do
  case "$what" in
    address) address ;;
    thread) thread ;;
    valgrind) memcheck ;;
    *) echo "unknown: $what"; exit 1 ;;
  esac
done
