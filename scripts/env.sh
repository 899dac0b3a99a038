# Names the libraries that coreloss is built on: source it before cargo, `. scripts/env.sh`, from any directory.
#
# Exports LIBTORCH, HDF5_DIR, LD_LIBRARY_PATH, HDF5_USE_FILE_LOCKING and, for root alone, Open MPI's leave to run.
# Keeps what is exported already, if it works. Written for any POSIX shell; returns 1 if something was not found.
# shellcheck shell=sh

# Finds the checkout that this file belongs to. Only bash names the file that is being sourced; other shells keep it open.
_coreloss_root() {
    # shellcheck disable=SC3028,SC3054  # an array in bash, empty elsewhere
    if [ -n "${BASH_VERSION:-}" ]; then
        _coreloss_file=$(eval 'printf %s "${BASH_SOURCE[0]}"')
    else
        _coreloss_file=$0
        read -r _coreloss_pid _coreloss_rest </proc/self/stat
        for _coreloss_fd in /proc/"$_coreloss_pid"/fd/*; do
            case $(readlink "$_coreloss_fd") in
                */scripts/env.sh) _coreloss_file=$(readlink "$_coreloss_fd") ;;
            esac
        done
    fi
    case $_coreloss_file in
        */env.sh) _coreloss_dir=$(dirname "$_coreloss_file")/.. ;;
        env.sh) _coreloss_dir=.. ;;
        *) _coreloss_dir=. ;;
    esac
    _coreloss_dir=$(cd "$_coreloss_dir" && pwd)
}

# Whether $1 holds headers and libraries of PyTorch 2.11, with everything that these load. A zip of libtorch has the file
# build-version. For a wheel pip writes INSTALLER, beside its folder, last.
_coreloss_is_libtorch() {
    [ -e "$1/lib/libtorch_cpu.so" ] && [ -d "$1/include/torch/csrc/api/include" ] || return 1
    grep -qs '^2\.11\.' "$1/build-version" || ls "${1%/*}"/torch-2.11.*.dist-info/INSTALLER >/dev/null 2>&1 || return 1
    _coreloss_ldd=$(ldd "$1/lib/libtorch_cpu.so" 2>&1) || return 1
    case $_coreloss_ldd in *'not found'*) return 1 ;; esac
}

# Whether $1 holds a parallel HDF5. On Debian $1/include links to the folder of its headers.
_coreloss_is_hdf5() {
    [ -e "$1/lib/libhdf5.so" ] && grep -Eqs '^#define H5_HAVE_PARALLEL 1' "$1"/include/H5pubconf*.h
}

_coreloss_find_libtorch() {
    if [ -n "${LIBTORCH:-}" ]; then
        _coreloss_is_libtorch "$LIBTORCH" && return
        echo "scripts/env.sh: LIBTORCH=$LIBTORCH is no whole PyTorch 2.11; looking elsewhere" >&2
        unset LIBTORCH
    fi
    _coreloss_venv=$(cd "${CORELOSS_VENV:-$_coreloss_dir/.venv}" 2>/dev/null && pwd)
    for _coreloss_item in "$_coreloss_venv"/lib/python3.*/site-packages/torch; do
        if _coreloss_is_libtorch "$_coreloss_item"; then
            export LIBTORCH="$_coreloss_item"
            return
        fi
    done
    _coreloss_item=$(python3 -c 'from importlib.util import find_spec
spec = find_spec("torch")
print(spec.submodule_search_locations[0] if spec else "")' 2>/dev/null)
    if [ -n "$_coreloss_item" ] && _coreloss_is_libtorch "$_coreloss_item"; then
        export LIBTORCH="$_coreloss_item"
        return
    fi
    echo "scripts/env.sh: no PyTorch 2.11: run scripts/setup.sh, or export LIBTORCH" >&2
    return 1
}

_coreloss_find_hdf5() {
    if [ -n "${HDF5_DIR:-}" ]; then
        _coreloss_is_hdf5 "$HDF5_DIR" && return
        echo "scripts/env.sh: HDF5_DIR=$HDF5_DIR is no parallel HDF5; looking elsewhere" >&2
        unset HDF5_DIR
    fi
    for _coreloss_item in "${HDF5_ROOT:-}" "${HDF5_HOME:-}" "/usr/lib/$(uname -m)-linux-gnu/hdf5/openmpi" \
        "$(pkg-config --variable=prefix hdf5 2>/dev/null)"; do
        if [ -n "$_coreloss_item" ] && _coreloss_is_hdf5 "$_coreloss_item"; then
            export HDF5_DIR="$_coreloss_item"
            return
        fi
    done
    echo "scripts/env.sh: no parallel HDF5: run scripts/setup.sh, or export HDF5_DIR" >&2
    return 1
}

# Puts folder $1 first in LD_LIBRARY_PATH, once.
_coreloss_add_libraries() {
    [ -d "$1" ] || return 0
    case ":${LD_LIBRARY_PATH:-}:" in
        *":$1:"*) ;;
        *) export LD_LIBRARY_PATH="$1${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" ;;
    esac
}

_coreloss_env() {
    _coreloss_status=0
    _coreloss_root
    _coreloss_find_hdf5 || _coreloss_status=1
    if _coreloss_find_libtorch; then
        _coreloss_add_libraries "${LIBTORCH%/*}/nvidia/cu13/lib"
        _coreloss_add_libraries "$LIBTORCH/lib"
    else
        _coreloss_status=1
    fi
    # Lustre and NFS mounted without locks refuse those of HDF5. Where locks exist, they are still used.
    export HDF5_USE_FILE_LOCKING="${HDF5_USE_FILE_LOCKING:-BEST_EFFORT}"
    if [ "$(id -u)" = 0 ]; then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
    return $_coreloss_status
}

# As one list, so that with `set -e` too the functions are unset, whatever the result.
_coreloss_env && _coreloss_status=0 || _coreloss_status=1
unset -f _coreloss_root _coreloss_is_libtorch _coreloss_is_hdf5 _coreloss_find_libtorch _coreloss_find_hdf5 \
    _coreloss_add_libraries _coreloss_env
unset _coreloss_file _coreloss_pid _coreloss_rest _coreloss_fd _coreloss_dir _coreloss_venv _coreloss_item _coreloss_ldd
[ "$_coreloss_status" = 0 ]
