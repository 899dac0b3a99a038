#!/usr/bin/env bash
# Holds the rules of DESIGN that a compiler does not: which module may name which crate, how long a file may grow,
# and that nothing names one machine's folders or a package registry. Prints each breach as file:line, and fails.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
breaches=$(mktemp)
trap 'rm -f "$breaches"' EXIT

# only CRATE PLACE...: no Rust file but those in PLACEs, modules of src as folder or file, names CRATE in its code.
# A crate is named by `use CRATE`, `extern crate CRATE` or `CRATE::`, and not by a module's path that ends in its name.
only() {
    local crate=$1 allowed
    shift
    allowed=$(printf 'src/%s(/|\\.rs$)|' "$@")
    local path="(^|[^A-Za-z0-9_:])(::)?${crate}::"
    local import="(use|crate)[[:space:]]+(::)?${crate}[[:space:]]*(;|as[[:space:]])"
    source_files | grep -Ev "^(${allowed%|})" | while read -r file; do
        sed -E 's,(^|[[:space:]])//.*,,' "$file" | { grep -nE "$path|$import" || true; } |
            sed "s|^\([0-9]*\):.*|$file:\1: names the crate $crate, which only $* may|"
    done >>"$breaches"
}

source_files() { find src -name '*.rs' | sort; }

# What git tracks or would; everything but the ignored folders where there is no git.
tracked_files() {
    git ls-files -co --exclude-standard --deduplicate 2>/dev/null ||
        find . \( -path ./.git -o -path ./target -o -path './.venv*' -o -path ./out \) -prune -o -type f -printf '%P\n'
}

only mpi comm
only hdf5 archive output
only hdf5_sys archive output
only serde_yaml config
only tch model train pca gpu bench

tracked_files | grep -E '\.(rs|sh|py)$' | while read -r file; do
    [ -e "$file" ] || continue # removed, and not yet from git
    lines=$(wc -l <"$file")
    [ "$lines" -le 500 ] || echo "$file:500: has $lines lines; split it by concept"
done >>"$breaches"

# Brackets keep the patterns from finding themselves. Cargo.lock says where its crates come from, and has to.
hosts='pypi[.]org|pythonhosted[.]org|crates[.]io|anaconda[.]org|download[.]pytorch[.]org|pypi[.]nvidia[.]com'
folders='(^|[^A-Za-z0-9_./-])(/root[/]|/home[/][a-z]|/work[/](main|shared|[.]library)|/tmp[/]wt?[/])'
tracked_files | grep -Ev '(^|/)Cargo\.lock$' | tr '\n' '\0' | {
    xargs -0 grep -nIEos -e "$hosts" -e "$folders" /dev/null || true
} | sed 's/$/: a registry host or a folder of one machine/' >>"$breaches"

if [ -s "$breaches" ]; then
    cat "$breaches" >&2
    exit 1
fi
