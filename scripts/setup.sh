#!/usr/bin/env bash
# Installs what a machine with a Rust toolchain needs for `. scripts/env.sh && cargo build --release`.
#
#   scripts/setup.sh          Open MPI, parallel HDF5 and libclang by apt, PyTorch 2.11 for the CPU (0.55 GB)
#   scripts/setup.sh --cuda   the same with all of PyTorch's CUDA libraries (4 GB)
#   scripts/setup.sh --test   the same with HyperSpy, which judges the files that coreloss writes
#
# Uses what exists already: compilers and libraries of a cluster's modules, the PyTorch 2.11 of python3 or of an exported
# LIBTORCH, the HyperSpy of an exported CORELOSS_PYTHON. Otherwise PyTorch goes to a virtual environment, .venv in the
# checkout or $CORELOSS_VENV, and HyperSpy to its own, .venv-test or $CORELOSS_TEST_VENV. Only apt needs root; without
# root the script says what is missing. Running it again takes less than a second.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${CORELOSS_VENV:-$root/.venv}
test_venv=${CORELOSS_TEST_VENV:-$root/.venv-test}
exported=${LIBTORCH:-}

say() { echo "setup: $*" >&2; }

die() {
    say "$@"
    exit 1
}

cuda=no
judge=no
for argument; do
    case $argument in
        --cuda) cuda=yes ;;
        --test) judge=yes ;;
        -h | --help)
            sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit
            ;;
        *)
            say "unknown argument $argument; see scripts/setup.sh --help"
            exit 2
            ;;
    esac
done

# The value that scripts/env.sh gives to variable $1; empty if it finds nothing.
from_env() {
    (
        # shellcheck source=scripts/env.sh
        . "$root/scripts/env.sh" 2>/dev/null || true
        printf '%s' "${!1:-}"
    )
}

have() { command -v "$1" >/dev/null; }

# Whether bindgen finds a libclang. llvm-config and libclang-cpp do not count: they may exist without one.
has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return
    local folder library
    for folder in "$(llvm-config --libdir 2>/dev/null)" /usr/lib/llvm-*/lib "/usr/lib/$(uname -m)-linux-gnu" /usr/lib64; do
        for library in "$folder"/libclang.so* "$folder"/libclang-[0-9]*.so*; do
            [ ! -e "$library" ] || return 0
        done
    done
    return 1
}

# A Python that can make virtual environments, at least 3.$1 and not newer than the wheels support.
find_python() {
    local python
    for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if "$python" -c "import sys, ensurepip; sys.exit(not (3, $1) <= sys.version_info < (3, 15))" 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    return 1
}

needs_libtorch() { [ -z "$(from_env LIBTORCH)" ]; }

# Whether --test was given, and HyperSpy is not there in the versions of the list.
needs_judge() {
    [ "$judge" = yes ] && [ -z "${CORELOSS_PYTHON:-}" ] &&
        ! { cmp -s "$root/scripts/requirements-test.txt" "$test_venv/installed.txt" && "$test_venv/bin/python" -c ''; }
}

check_rust() {
    local wanted found
    have cargo || die "no cargo: install Rust with rustup, or load a module that has it"
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    found=$(cargo --version | cut -d' ' -f2)
    [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n1)" = "$wanted" ] ||
        die "cargo is $found, and coreloss needs $wanted or newer: rustup update, or a newer module"
}

has_browser() { have chromium || have chromium-browser || have google-chrome; }

# Debian's names of what is missing, one a line; a cluster's module may provide the same.
missing_packages() {
    have c++ || echo build-essential
    { have mpicc && have mpirun; } || printf '%s\n' libopenmpi-dev openmpi-bin
    [ -n "$(from_env HDF5_DIR)" ] || echo libhdf5-openmpi-dev
    has_libclang || echo libclang-dev
    have pkg-config || echo pkg-config
    # A browser for the test of the report; without one, and without root to install it, that test is left out.
    ! { [ "$judge" = yes ] && have apt-get && [ "$(id -u)" = 0 ]; } || has_browser || echo chromium
    if needs_judge; then
        find_python 11 >/dev/null || echo python3-venv
    elif needs_libtorch; then
        find_python 10 >/dev/null || echo python3-venv
    fi
}

install_packages() {
    local packages
    mapfile -t packages < <(missing_packages)
    [ "${#packages[@]}" -gt 0 ] || return 0
    if have apt-get && [ "$(id -u)" = 0 ]; then
        say "installing ${packages[*]}"
        apt-get update -q >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y "${packages[@]}" >&2
        mapfile -t packages < <(missing_packages)
        [ "${#packages[@]}" -eq 0 ] || die "still missing after apt-get install: ${packages[*]}"
        return
    fi
    say "missing: ${packages[*]}"
    if have apt-get; then
        die "as root: apt-get update && apt-get install -y ${packages[*]}"
    fi
    say "these are Debian's names. On a cluster load modules for a C++ compiler, Open MPI, HDF5 built for it,"
    say "LLVM and Python 3.11 or newer, then: export HDF5_DIR=<prefix> LIBCLANG_PATH=<folder of libclang.so>"
    exit 1
}

# Whether the CUDA half of libtorch $1 finds all its libraries; the driver's own come with the GPU.
has_cuda() {
    [ -e "$1/lib/libtorch_cuda.so" ] &&
        ! ldd "$1/lib/libtorch_cuda.so" | grep 'not found' | grep -qv 'libcuda\.so'
}

# Makes virtual environment $1 with Python $2 and more arguments for venv. Git never sees it.
make_venv() {
    say "making $1"
    "$2" -m venv "${@:3}" "$1"
    echo '*' >"$1/.gitignore"
}

# Installs what list $2 names, and only that, into virtual environment $1; more arguments are for pip.
pip_install() {
    "$1/bin/python" -m pip install -q --disable-pip-version-check --only-binary :all: --no-deps --require-hashes \
        -r "$2" "${@:3}" >&2
}

# Puts the pinned PyTorch of list $1 into the virtual environment; what a broken run left there is written over.
install_libtorch() {
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || make_venv "$venv" "$(find_python 10)"
    say "installing PyTorch 2.11 into $venv"
    pip_install "$venv" "$1" --ignore-installed
}

# Makes HyperSpy's environment from nothing: it is all ours, and is remade when the list changes.
install_judge() {
    make_venv "$test_venv" "$(find_python 11)" --clear
    say "installing HyperSpy into $test_venv"
    pip_install "$test_venv" "$root/scripts/requirements-test.txt"
    cp "$root/scripts/requirements-test.txt" "$test_venv/installed.txt"
}

check_rust
install_packages
libtorch=$(from_env LIBTORCH)
if [ "$cuda" = yes ] && ! { [ -n "$libtorch" ] && has_cuda "$libtorch"; }; then
    case $exported in
        '' | "$venv"/*) ;;
        *) die "LIBTORCH=$exported has not all the CUDA libraries that it needs: unset it to have PyTorch installed" ;;
    esac
    install_libtorch "$root/scripts/requirements-cuda.txt"
elif [ -z "$libtorch" ]; then
    install_libtorch "$root/scripts/requirements-libtorch.txt"
fi

libtorch=$(from_env LIBTORCH)
[ -n "$libtorch" ] || die "PyTorch was installed into $venv, and is not whole: remove that folder and run this again"
[ "$cuda" = no ] || has_cuda "$libtorch" || die "libtorch_cuda.so of $libtorch misses libraries: see ldd"
if needs_judge; then
    install_judge
fi
if [ "$judge" = yes ]; then
    python=${CORELOSS_PYTHON:-$test_venv/bin/python}
    [ -z "${CORELOSS_PYTHON:-}" ] || "$python" -c 'import exspy, h5py, hyperspy, matplotlib' ||
        die "CORELOSS_PYTHON=$python has no HyperSpy: unset it to have one installed"
    say "HyperSpy $python"
fi
say "libtorch $libtorch"
say "HDF5     $(from_env HDF5_DIR)"
say "next: . scripts/env.sh && cargo build --release"
