#!/usr/bin/env bash
# Counts the words of a generated text, embedded in one process and on a local cluster, and prints what each took;
# then kills leaders and prints how long the next acknowledged write takes.
#
# usage: scripts/bench.sh    (`make bench` builds the release binaries first)
#   BENCH_BYTES   how much text, default 500000000
#   BENCH_KILLS   how many leaders are killed, default 10
#   BENCH_DIR     where text, output and cluster go, default $CARGO_TARGET_DIR/bench; the text is kept and used again
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
bytes=${BENCH_BYTES:-500000000}
folder=${BENCH_DIR:-$target/bench}
release=$target/release
cores=$(nproc)
text=$folder/text-$bytes.txt
cluster=$folder/cluster

mkdir -p "$folder"
if [ ! -e "$text" ]; then
  echo "generating $bytes bytes of text" >&2
  "$release/examples/generate_text" "$bytes" "$text.partial"
  mv "$text.partial" "$text"
fi

TIMEFORMAT='wall %R s, cpu of this process: user %U s, system %S s'

echo "== embedded, parallelism $cores"
rm -rf "$folder/counts-embedded"
time "$release/examples/word_count" "$text" "$folder/counts-embedded" -p "$cores"

echo "== local cluster of 3 coordinators and 2 task managers, parallelism $cores"
rm -rf "$cluster" "$folder/counts-cluster"
stop() { "$release/tidemill" cluster stop --dir "$cluster" >/dev/null || true; }
trap stop EXIT
started=$("$release/tidemill" cluster start --coordinators 3 --taskmanagers 2 --slots "$cores" --dir "$cluster")
coordinators=$(grep -o -m 1 -e '--coordinators [^ ]*' <<<"$started" | cut -d ' ' -f 2)
resident() { awk '/^VmRSS/ { printf "%.1f MB", $2 / 1000 }' "/proc/$1/status"; }
while read -r name pid _; do
  [[ $pid =~ ^[0-9]+$ ]] && echo "idle $name: $(resident "$pid") resident"
done <<<"$started"
time "$release/examples/word_count" "$text" "$folder/counts-cluster" -p "$cores" --coordinators "$coordinators"

echo "== both counted the same"
counts() { find "$1" -type f -exec cat {} + | LC_ALL=C sort | sha256sum; }
[ "$(counts "$folder/counts-embedded")" = "$(counts "$folder/counts-cluster")" ] || { echo "they did not" >&2; exit 1; }

echo "== leader kills"
stop
"$release/tidemill-failover" --kills "${BENCH_KILLS:-10}"
