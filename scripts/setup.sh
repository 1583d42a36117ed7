#!/usr/bin/env bash
# Makes sure that this machine can build Tidemill, and writes what the build must know of it to an environment file.
#
# usage: scripts/setup.sh    (the Makefile calls it before every build; when all is there it takes a moment)
#
# 1. Tools: cargo, a C++ compiler and libclang (RocksDB's bindings are made from its headers). On Debian and its
#    relatives missing packages are installed, as root or by a sudo that asks nothing; elsewhere it says what to install.
# 2. RocksDB's static library, built once by cargo from the crate's own sources and shared by all profiles and target
#    folders. ROCKSDB_LIB_DIR names another folder to take it from.
# 3. $CARGO_TARGET_DIR/tidemill-env.sh: `export` lines to be sourced before calling cargo by hand.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
environment=$target/tidemill-env.sh

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

have_libclang() {
  if [ -n "${LIBCLANG_PATH:-}" ]; then return 0; fi
  # /sbin is often not in the PATH of ordinary users; a machine without ldconfig is no error here. libclang-cpp, which
  # other packages bring along, is another library.
  local known
  known=$({
    (ldconfig -p || /sbin/ldconfig -p || true) 2>/dev/null
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' || true
  } | grep -v 'libclang-cpp' | grep -c 'libclang[-.]' || true)
  [ "$known" -gt 0 ]
}

check_tools() {
  if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
    die "cargo is in $HOME/.cargo/bin, which is not in PATH: run '. \"$HOME/.cargo/env\"' first"
  fi
  command -v cargo >/dev/null || die "cargo is missing: install Rust as https://rustup.rs says, then try again"
  local missing=()
  command -v c++ >/dev/null || command -v "${CXX:-c++}" >/dev/null || missing+=(g++)
  command -v cc >/dev/null || command -v "${CC:-cc}" >/dev/null || missing+=(gcc)
  have_libclang || missing+=(libclang-dev)
  if [ ${#missing[@]} -gt 0 ]; then install_packages "${missing[@]}"; fi
}

install_packages() {
  local as_root=()
  command -v apt-get >/dev/null ||
    die "missing, by their Debian names: $*; install them with this system's package manager, then try again"
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || die "missing packages: run 'sudo apt-get install $*', then try again"
    as_root=(sudo -n)
  fi
  say "installing $*"
  "${as_root[@]}" apt-get update -qq >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 ||
    die "apt-get could not install $*: its message is above"
}

# The version of librocksdb-sys that Cargo.lock pins, such as 0.19.0+11.8.1.
rocksdb_version() {
  awk '/^name = "librocksdb-sys"/ { getline; gsub(/[^0-9.+]/, ""); print; exit }' Cargo.lock
}

# Builds the library with the features that the workspace asks for, and keeps it in the folder $1.
build_rocksdb() {
  local keep=$1 scratch=$target/rocksdb-build
  say "building RocksDB $version: about 24 minutes on two idle cores, once; it is kept in $keep"
  mkdir -p "$scratch/src"
  : >"$scratch/src/lib.rs"
  cp Cargo.lock "$scratch/"
  printf '[package]\nname = "rocksdb-build"\nversion = "0.0.0"\nedition = "2024"\n\n[dependencies]\n%s\n\n[workspace]\n' \
    "$(grep '^rocksdb = ' Cargo.toml)" >"$scratch/Cargo.toml"
  env -u ROCKSDB_STATIC CARGO_TARGET_DIR="$scratch/target" \
    cargo build --release --manifest-path "$scratch/Cargo.toml" -p librocksdb-sys >&2
  local built
  built=$(find "$scratch/target" -path '*/librocksdb-sys-*/out/librocksdb.a' -print -quit)
  [ -n "$built" ] || die "cargo built librocksdb-sys, but there is no librocksdb.a below $scratch/target"
  # Renamed into place, so that a build that is interrupted leaves nothing that looks whole.
  cp "$built" "$keep/librocksdb.a.$$"
  mv "$keep/librocksdb.a.$$" "$keep/librocksdb.a"
  rm -rf "$scratch"
}

find_rocksdb() {
  if [ -n "${ROCKSDB_LIB_DIR:-}" ]; then
    [ -e "$ROCKSDB_LIB_DIR/librocksdb.a" ] || [ -e "$ROCKSDB_LIB_DIR/librocksdb.so" ] ||
      die "ROCKSDB_LIB_DIR is $ROCKSDB_LIB_DIR, which has no librocksdb.a: unset it to have RocksDB built"
    rocksdb=$ROCKSDB_LIB_DIR
    return
  fi
  version=$(rocksdb_version)
  [ -n "$version" ] || die "Cargo.lock names no librocksdb-sys"
  rocksdb=${XDG_CACHE_HOME:-$HOME/.cache}/tidemill/rocksdb/$version
  if [ -e "$rocksdb/librocksdb.a" ]; then return; fi
  mkdir -p "$rocksdb"
  # Two builds at once would do the same long work twice.
  exec 9>"$rocksdb/lock"
  if command -v flock >/dev/null; then flock 9; fi
  if [ ! -e "$rocksdb/librocksdb.a" ]; then build_rocksdb "$rocksdb"; fi
  exec 9>&-
}

write_environment() {
  mkdir -p "$target"
  {
    echo "# Written by scripts/setup.sh; source it before calling cargo by hand."
    printf 'export CARGO_TARGET_DIR=%q ROCKSDB_LIB_DIR=%q\n' "$target" "$rocksdb"
    if [ -e "$rocksdb/librocksdb.a" ]; then echo "export ROCKSDB_STATIC=1"; fi
  } >"$environment.$$"
  # An unchanged file is left alone.
  if cmp -s "$environment.$$" "$environment"; then rm "$environment.$$"; else mv "$environment.$$" "$environment"; fi
}

check_tools
find_rocksdb
write_environment
