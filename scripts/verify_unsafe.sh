#!/usr/bin/env bash
# Runs the tests of the code that has `unsafe` under valgrind's memcheck, children included.
#
# usage: scripts/verify_unsafe.sh    (`make verify-unsafe` calls it)
set -euo pipefail
cd "$(dirname "$0")/.."

# File, and the crate and the tests that run it.
guarded=(
  "dataflow/src/runtime/process/descriptor.rs tidemill-dataflow runtime::process"
  "dataflow/src/state/prefetch.rs tidemill-dataflow state::"
  "jepsen/src/disk/power.rs tidemill-jepsen disk::power"
  "jepsen-shim/src/lib.rs tidemill-chaos tests"
)

command -v valgrind >/dev/null || { echo "valgrind is missing: apt-get install valgrind, then try again" >&2; exit 1; }

# A new place with `unsafe` must be added above.
known=$(printf '%s\n' "${guarded[@]}" | cut -d ' ' -f 1 | sort)
found=$(grep -rlE '^[^/]*unsafe (\{|fn|impl)' --include='*.rs' */src | sort)
if [ "$known" != "$found" ]; then
  printf 'the files with unsafe code are not the ones that this script knows:\n%s\n' "$found" >&2
  exit 1
fi

for entry in "${guarded[@]}"; do
  read -r _ crate tests <<<"$entry"
  test_binary=$(cargo test --quiet -p "$crate" --lib --no-run --message-format json |
    grep -o '"executable":"[^"]*"' | tail -n 1 | cut -d '"' -f 4)
  valgrind --quiet --error-exitcode=9 --trace-children=yes --fair-sched=try "$test_binary" "$tests" --test-threads=1
done
