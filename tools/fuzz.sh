#!/usr/bin/env bash
# usage: tools/fuzz.sh [seconds per target]
# Runs the fuzz targets of fuzz/ (by cargo-fuzz, put into target/tools where it is not installed) and
# the tests on garbage and on generated input (`prop_*`, `garbage_*`) with many more cases than
# `make test` gives them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-60}
export RINGSPAN_SCALE=20 PROPTEST_CASES=${PROPTEST_CASES:-20000}
export RINGSPAN_SEED=${RINGSPAN_SEED:-$RANDOM$RANDOM}
echo "seed $RINGSPAN_SEED (set RINGSPAN_SEED to repeat)"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --features failpoints --lib --tests -- prop_ garbage_ 2>&1 | tee "$log"
if ! grep -q '^test result: ok\. [1-9]' "$log"; then
    echo "no test is named prop_* or garbage_*" >&2
    exit 1
fi
[ -d fuzz/fuzz_targets ] || exit 0
export PATH="$PWD/target/tools/bin:$PATH"
if ! cargo fuzz --version >/dev/null 2>&1 &&
    ! cargo install --locked --root target/tools cargo-fuzz; then
    echo "fuzz targets not run: install cargo-fuzz (cargo install cargo-fuzz)" >&2
    exit 1
fi
export RUSTC_BOOTSTRAP=1 # the sanitizer flags need it on a stable compiler
for target in $(cargo fuzz list); do
    cargo fuzz run "$target" -- -max_total_time="$seconds" -max_len=4096
done
