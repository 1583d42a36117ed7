#!/usr/bin/env bash
# Measures the control plane on release binaries: leader kills under a running job, submissions beside puts to a
# three-member etcd on the same disk, and the takeover of a thousand jobs on simulated task managers.
#
# usage: scripts/bench_control.sh [option of tidemill-bench-control...]    (`make bench-control` builds first)
#   BENCH_DIR   where the clusters' data goes, default $CARGO_TARGET_DIR/bench-control; it decides which disk is measured
# etcd is taken from the machine (apt-get install etcd-server); without it that comparison is skipped and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
release=$target/release
echo "load before: $(cut -d ' ' -f 1-3 /proc/loadavg) on $(nproc) cores"
exec "$release/tidemill-bench-control" --bin-dir "$release" --dir "${BENCH_DIR:-$target/bench-control}" "$@"
