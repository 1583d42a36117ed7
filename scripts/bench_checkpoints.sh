#!/usr/bin/env bash
# What checkpoints cost: W2 with exactly-once checkpoints each second (on the heap and in RocksDB) and without, in turn; the latencies of W6 with and
# without, at a million and at ten million keys (the longest one bounds the pause that a snapshot makes); and on a cluster
# with 100 MB of state, how soon output goes on after a task manager was killed, savepoints, and starts from them.
#
# usage: scripts/bench_checkpoints.sh    (`make bench-checkpoints` builds the release binaries first)
#   REPETITIONS   how often each is run, default 5
#   BENCH_DIR     where checkpoints go, default $CARGO_TARGET_DIR/bench
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
workloads=$target/release/examples/workloads
folder=${BENCH_DIR:-$target/bench}/checkpoints
repetitions=${REPETITIONS:-5}
results=$(mktemp)
trap 'rm -f "$results"' EXIT
checkpoints=(-D execution.checkpointing.interval="1 s" -D execution.checkpointing.dir="$folder")

run() { # name, arguments...
    local name=$1
    shift
    rm -rf "$folder"
    "$workloads" "$@" -p 2 | sed "s/^/$name /" | tee -a "$results"
}

for _ in $(seq "$repetitions"); do
    run w2-none w2
    run w2-checkpoints w2 "${checkpoints[@]}"
    run w2-rocksdb w2 "${checkpoints[@]}" -D state.backend.type=rocksdb
done
for keys in 1000000 10000000; do
    run "w6-none-$keys" w6 --seconds 15 --keys "$keys"
    run "w6-checkpoints-$keys" w6 --seconds 15 --keys "$keys" "${checkpoints[@]}"
done

recovery=$("$target/release/tidemill-bench-recovery" --repetitions $((2 * repetitions)) | tee /dev/stderr |
    sed -n 's/^summary: //p')

# The median of a figure of the runs of a name.
median() { # name, figure
    grep "^$1 " "$results" | sed "s/.*\"$2\":\([0-9.]*\).*/\1/" | sort -n |
        awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'
}

none=$(median w2-none events_per_cpu_s)
with=$(median w2-checkpoints events_per_cpu_s)
loss=$(awk -v a="$none" -v b="$with" 'BEGIN {printf "%.1f", (1 - b / a) * 100}')
echo "summary: w2 events per CPU second (median of $repetitions) $none without, $with with checkpoints each second, loss $loss %;" \
    "events per second in rocksdb $(median w2-rocksdb events_per_s);" \
    "resident $(median w2-none rss_mb) and $(median w2-checkpoints rss_mb) MB;" \
    "w6 p99/max ms at 10^6 keys $(median w6-none-1000000 p99_ms)/$(median w6-none-1000000 max_ms) without," \
    "$(median w6-checkpoints-1000000 p99_ms)/$(median w6-checkpoints-1000000 max_ms) with;" \
    "at 10^7 keys $(median w6-none-10000000 p99_ms)/$(median w6-none-10000000 max_ms) without," \
    "$(median w6-checkpoints-10000000 p99_ms)/$(median w6-checkpoints-10000000 max_ms) with;" \
    "$recovery"
