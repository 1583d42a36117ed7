#!/usr/bin/env bash
# What checkpoints cost: W2 with exactly-once checkpoints each second and without, in turn, and in RocksDB with less memory
# than the state has; the latencies of W6 with and without, at a million and at ten million keys (the longest one bounds
# the pause that a snapshot makes); how much of its state W6 in RocksDB writes for a checkpoint; and on a cluster with 100 MB
# of state, how soon output goes on after a task manager was killed, savepoints, and starts from them.
#
# usage: scripts/bench_checkpoints.sh    (`make bench-checkpoints` builds the release binaries first)
#   REPETITIONS   how often W2 is run, default 5
#   BENCH_DIR     where checkpoints go, default $CARGO_TARGET_DIR/bench
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
workloads=$target/release/examples/workloads
folder=${BENCH_DIR:-$target/bench}/checkpoints
repetitions=${REPETITIONS:-5}
results=$(mktemp)
sizes=$(mktemp)
trap 'rm -f "$results" "$sizes"' EXIT
checkpoints=(-D execution.checkpointing.interval="1 s" -D execution.checkpointing.dir="$folder")
# Half of the keys fit into what the slots have, together with the index of what is there.
rocksdb=("${checkpoints[@]}" -D state.backend.type=rocksdb -D state.backend.rocksdb.memory.fixed-per-slot="64 mb")

run() { # name, arguments...
    local name=$1
    shift
    rm -rf "$folder"
    "$workloads" "$@" -p 2 | sed "s/^/$name /" | tee -a "$results"
}

# Writes down, while a process runs, which files there are: when, the checkpoint that wrote it, its path, its size.
watch_sizes() { # process
    local poll=0
    while kill -0 "$1" 2>/dev/null; do
        find "$folder" -type f ! -name '*#*' -printf '%P %s\n' 2>/dev/null |
            awk -v poll="$poll" '{split($1, part, "/"); if (part[2] ~ /^[0-9]+$/) print poll, part[2], $1, $2}' >>"$sizes" || true
        poll=$((poll + 1))
        sleep 0.2
    done
}

# The medians of what a checkpoint added and of what there was at a time, in megabytes.
written() {
    awk '{if ($4 > size[$3]) {added[$2] += $4 - size[$3]; size[$3] = $4} all[$1] += $4; polls = $1; if ($2 > last) last = $2}
        END {for (id in added) if (id + 0 > last / 2 && id + 0 < last) print "added", added[id]
             for (poll in all) if (poll + 0 > polls / 2) print "all", all[poll]}' "$sizes" | sort -k1,1 -k2,2n |
        awk '{value[$1, ++count[$1]] = $2}
            END {printf "%.1f of %.1f", value["added", int((count["added"] + 1) / 2)] / 1e6, value["all", int((count["all"] + 1) / 2)] / 1e6}'
}

for _ in $(seq "$repetitions"); do
    run w2-none w2
    run w2-checkpoints w2 "${checkpoints[@]}"
    run w2-rocksdb w2 --n 5000000 "${rocksdb[@]}"
done
for keys in 1000000 10000000; do
    run "w6-none-$keys" w6 --seconds 15 --keys "$keys"
    run "w6-checkpoints-$keys" w6 --seconds 15 --keys "$keys" "${checkpoints[@]}"
done
run w6-rocksdb w6 --seconds 15 "${rocksdb[@]}" &
watch_sizes $!
wait $!

# The pause that the default begins with; it grows with each failure.
pause=(-D restart-strategy.type=fixed-delay -D restart-strategy.fixed-delay.attempts=1000 -D restart-strategy.fixed-delay.delay="100 ms")
recovery=$("$target/release/tidemill-bench-recovery" "${pause[@]}" --repetitions $((2 * repetitions)) | tee >(cat >&2) |
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
    "resident $(median w2-none rss_mb) and $(median w2-checkpoints rss_mb) MB;" \
    "in rocksdb $(median w2-rocksdb events_per_s) events per second, $(median w2-rocksdb events_per_cpu_s) per CPU second," \
    "resident $(median w2-rocksdb rss_mb) MB;" \
    "w6 p99/max ms at 10^6 keys $(median w6-none-1000000 p99_ms)/$(median w6-none-1000000 max_ms) without," \
    "$(median w6-checkpoints-1000000 p99_ms)/$(median w6-checkpoints-1000000 max_ms) with;" \
    "at 10^7 keys $(median w6-none-10000000 p99_ms)/$(median w6-none-10000000 max_ms) without," \
    "$(median w6-checkpoints-10000000 p99_ms)/$(median w6-checkpoints-10000000 max_ms) with;" \
    "in rocksdb at 10^6 keys $(median w6-rocksdb p99_ms)/$(median w6-rocksdb max_ms), a checkpoint adds $(written) MB;" \
    "$recovery"
