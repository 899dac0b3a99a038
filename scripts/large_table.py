"""Prints the table of large.sh: large_table.py FOLDER GIB..."""

import json
import pathlib
import sys

from measure import print_table


def row(folder, gib):
    summary = json.loads((folder / f"run_{gib}" / "summary.json").read_text(encoding="utf-8"))
    stages = {name: seconds for name, seconds in summary["timings_s"].items() if name != "train"}
    total = sum(stages.values())
    parts = ", ".join(f"{name} {seconds:.0f}" for name, seconds in stages.items())
    return [gib, f"{total:.0f}", f"{total / float(gib):.1f}", parts, f"{max(summary['peak_rss_mib']):.0f}"]


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    columns = ["GiB", "s beside training", "s a GiB", "stages, s", "most memory of a rank, MiB"]
    print_table(columns, [row(folder, gib) for gib in sys.argv[2:]])
