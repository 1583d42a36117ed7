# The only door to building, testing and trying Tidemill. `make` lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help chaos chaos-mutants demo test test-failpoints verify verify-unsafe fix sim sim-soak mutants bench bench-checkpoints bench-control bench-disk \
  soak-elections microbench golden setup build-release

# Where everything that is built goes; set it to share one folder between checkouts.
override CARGO_TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
export CARGO_TARGET_DIR

# What scripts/setup.sh found out about this machine.
ENVIRONMENT := source "$(CARGO_TARGET_DIR)/tidemill-env.sh"

# Whole-cluster tests start the binaries, which `cargo test` alone would not build.
define RUN_TESTS
cargo build --workspace --bins --examples
TIDEMILL_BIN_DIR="$(CARGO_TARGET_DIR)/debug" cargo test --workspace --no-fail-fast
endef

# Fail points are in no default build; the binaries are built once more with them, in the same folder.
define RUN_FAILPOINT_TESTS
cargo build --workspace --bins --features tidemill-tests/failpoints
TIDEMILL_BIN_DIR="$(CARGO_TARGET_DIR)/debug" cargo test -p tidemill-failpoint -p tidemill-tests \
  --features tidemill-failpoint/failpoints,tidemill-tests/failpoints --lib --test cluster_failpoints --test cluster_checkpoint_windows --test cluster_sinks
endef

help: ## This list.
	@echo "Tidemill: a distributed stream processor. What make can do here:"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "Start with 'make demo'. Before handing in a change: 'make verify'; green is done."
	@echo "The first build makes RocksDB: about 24 minutes on two idle cores, once, kept in ~/.cache/tidemill."
	@echo "To call cargo yourself: scripts/setup.sh && source $(CARGO_TARGET_DIR)/tidemill-env.sh"

demo: build-release ## A cluster of real processes, a job, a killed leader: see it work.
	$(ENVIRONMENT)
	"$(CARGO_TARGET_DIR)/release/tidemill-demo"

test: setup ## All tests: unit, integration, whole clusters, documentation.
	$(ENVIRONMENT)
	$(RUN_TESTS)

test-failpoints: setup ## Whole clusters whose servers crash, panic and fail at the worst places.
	$(ENVIRONMENT)
	$(RUN_FAILPOINT_TESTS)

verify: setup ## Everything that must hold before a change is handed in; changes no file.
	$(ENVIRONMENT)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	if cargo deny --version >/dev/null 2>&1; then
	  cargo deny check licenses bans sources
	  if cargo deny fetch db >/dev/null 2>&1; then cargo deny check advisories; else echo "skipped: advisories (their database cannot be reached)"; fi
	else
	  echo "skipped: cargo deny (not installed: cargo install cargo-deny)"
	fi
	cargo clippy --workspace --all-targets --features tidemill-tests/failpoints -- -D warnings
	$(RUN_TESTS)
	$(RUN_FAILPOINT_TESTS)
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --lib --no-deps

verify-unsafe: setup ## The tests of what little code is unsafe, under valgrind.
	$(ENVIRONMENT)
	scripts/verify_unsafe.sh

chaos: setup ## Break a cluster of real processes for three minutes and judge what it did; SEED=n for the same faults again.
	$(ENVIRONMENT)
	cargo build --workspace --bins
	cargo build -p tidemill-chaos
	"$(CARGO_TARGET_DIR)/debug/tidemill-jepsen" run --suite smoke $(if $(SEED),--seed $(SEED))

# One seed is told aloud; without one, the two hundred of the tests.
SIM_ARGUMENTS = $(if $(SCENARIO),--scenario $(SCENARIO),$(if $(SEED),--seed $(SEED),--count 200))

sim: setup ## The control plane simulated from seeds, every invariant checked; SEED=7 or SCENARIO=... for one, told aloud.
	$(ENVIRONMENT)
	cargo run -q -p tidemill-tests --bin tidemill-sim -- $(SIM_ARGUMENTS)

sim-soak: setup ## The same with 20,000 seeds, optimised; FIRST=n for others.
	$(ENVIRONMENT)
	cargo run -q --release -p tidemill-tests --bin tidemill-sim -- --first $(or $(FIRST),0) --count $(or $(COUNT),20000)

mutants: setup ## Known bugs put back one by one: which invariant finds each, with which seed.
	$(ENVIRONMENT)
	cargo run -q -p tidemill-tests --features mutants --bin tidemill-sim -- --matrix --count 1000
	is_found_by() {
	    if TIDEMILL_MUTANT=$$1 cargo test -q -p tidemill-dataflow --features mutants --lib $$2 > /dev/null 2>&1; then
	        echo "$$1 SURVIVED"; exit 1
	    fi
	    echo "$$1 is found by the test $$2"
	}
	is_found_by sink-commits-at-barrier what_is_restored_goes_on_exactly_where_the_checkpoint_was
	is_found_by sink-aborts-on-checkpoint-abort what_is_restored_goes_on_exactly_where_the_checkpoint_was
	is_found_by rename-without-sync no_part_is_renamed_before_it_is_on_the_disk
	is_found_by source-offset-off-by-one what_is_restored_goes_on_exactly_where_the_checkpoint_was
	is_found_by foreign-key-group what_is_restored_goes_on_exactly_where_the_checkpoint_was
	is_found_by in-flight-forgotten what_was_in_flight_at_an_unaligned_checkpoint_comes_again

chaos-mutants: setup ## Known bugs put back in real processes, one by one: does the checker named for each find it?
	$(ENVIRONMENT)
	servers="-p tidemill-coordinator -p tidemill-taskmanager --bins --features tidemill-coordinator/raft"
	cargo build $$servers --features tidemill-coordinator/mutants,tidemill-taskmanager/mutants
	mkdir -p "$(CARGO_TARGET_DIR)/mutants"
	cargo build -p tidemill-jepsen --bins --features tidemill-jepsen/mutants
	cargo build -p tidemill-chaos
	cp "$(CARGO_TARGET_DIR)"/debug/{tidemill-{coordinator,taskmanager,jepsen,jepsen-job},libtidemill_chaos.so} "$(CARGO_TARGET_DIR)/mutants/"
	"$(CARGO_TARGET_DIR)/mutants/tidemill-jepsen" mutants

fix: setup ## Formatting and what Clippy can repair by itself.
	$(ENVIRONMENT)
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all

bench: build-release ## The workloads W1, W2, W5, W6 beside a hand-written loop; ten leader kills.
	scripts/bench.sh

bench-control: build-release ## Leader kills, submissions beside etcd, the takeover of 1,000 jobs; REPETITIONS=20.
	scripts/bench_control.sh --repetitions $(or $(REPETITIONS),20)

bench-checkpoints: build-release ## What checkpoints cost (W2 and W6 with and without), and how soon a killed job is back; REPETITIONS=5.
	scripts/bench_checkpoints.sh

soak-elections: build-release ## Leader changes while executors have all cores busy; SECONDS=600.
	scripts/bench_control.sh --parts soak --seconds $(or $(SECONDS),600)

bench-disk: build-release ## Disk and time that a coordinator's log and snapshots need; JOBS=1000000 for a million submissions.
	"$(CARGO_TARGET_DIR)/release/tidemill-disk" --submissions "$(or $(JOBS),100000)"

microbench: setup ## CPU time of the hot path, piece by piece: chains, exchanges, state, windows, codec; FILTER=state for some.
	$(ENVIRONMENT)
	cargo bench -p tidemill-dataflow --bench hot_path -- $(FILTER)

golden: setup ## Rewrite generated code, golden files and expected texts; read the difference before committing it.
	$(ENVIRONMENT)
	TIDEMILL_UPDATE_GOLDEN=1 UPDATE_EXPECT=1 cargo test --workspace --no-fail-fast

setup:
	@scripts/setup.sh

build-release: setup
	$(ENVIRONMENT)
	cargo build --release --workspace --bins --examples

.ONESHELL:
