#!/usr/bin/env bash
# Runs the workloads W1, W2, W5 and W6 in one process and on a local cluster, beside a hand-written loop, checks their
# digests and prints what they took; then kills leaders and prints how long the next acknowledged write takes.
#
# usage: scripts/bench.sh [option of tidemill-bench...]    (`make bench` builds the release binaries first)
#   BENCH_KILLS   how many leaders are killed, default 10
#   BENCH_DIR     where text, output and cluster go, default $CARGO_TARGET_DIR/bench; the text is kept and used again
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
release=$target/release

"$release/tidemill-bench" --bin-dir "$release" --dir "${BENCH_DIR:-$target/bench}" "$@"
echo "== leader kills"
"$release/tidemill-failover" --kills "${BENCH_KILLS:-10}"
