#!/usr/bin/env bash
# Shows what coreloss does, from a fresh clone to maps.
#
#   scripts/demo.sh            simulates spectrum images with known anomalies and finds them again
#   scripts/demo.sh FILE...    looks for anomalies in your own .dm3, .dm4, .hspy, .h5, .nxs or .emd files
#
# Sets up and builds what is missing first. Runs on two ranks, even on one core. Results go to out/.
set -euo pipefail

# One YAML string in double quotes, whatever is in $1.
yaml_string() {
    local text=$1
    text=${text//\\/\\\\}
    text=${text//\"/\\\"}
    text=${text//$'\n'/\\n}
    text=${text//$'\t'/\\t}
    printf '"%s"' "$text"
}

# A glob that matches only file $1: wildcards in its name are escaped.
literal_glob() {
    printf '%s' "$1" | sed 's/[][*?]/[&]/g'
}

# Given paths are relative to your folder; those of configurations are relative to the checkout.
inputs=
stem=
for file; do
    [ -e "$file" ] || {
        echo "demo: no such file: $file" >&2
        exit 2
    }
    if [ -z "$stem" ]; then
        stem=$(basename -- "$file")
        stem=${stem%.*}
    fi
    inputs+=${inputs:+, }$(yaml_string "$(literal_glob "$(realpath -- "$file")")")
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
# shellcheck source=scripts/env.sh
. scripts/env.sh
cargo build --release
coreloss=${CARGO_TARGET_DIR:-target}/release/coreloss

# More ranks than cores are allowed, and no rank is bound to one core, which would bind all its threads there.
two_ranks() {
    echo "demo: coreloss $*" >&2
    mpirun --oversubscribe --bind-to none -n 2 "$coreloss" "$@"
}

if [ -z "$inputs" ]; then
    output=out/demo/run
    two_ranks simulate configs/demo.yaml
    two_ranks run configs/demo.yaml
else
    output=out/${stem:-files}
    status=0
    two_ranks run configs/real.yaml --set "archive.inputs=[$inputs]" --set "output=$(yaml_string "$output")" || status=$?
    # 3: done, with some inputs set aside.
    [ "$status" = 0 ] || [ "$status" = 3 ] || exit "$status"
fi

echo
echo "Report:  $output/report.html"
echo "Maps, which HyperSpy opens:"
find "$output" -name '*.coreloss.hspy' | sort | sed 's/^/  /'
exit "${status:-0}"
