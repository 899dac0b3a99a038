"""The trial of configs/experiments/trial.yaml as a sweep, and what came out of it (see scripts/trial.sh).

    .venv-test/bin/python scripts/trial.py plan [--conditions 2,14 | --judged | --all] [--linear] [--name NAME] [--fresh]
    .venv-test/bin/python scripts/trial.py tables out/experiments/trial/full/sweep.yaml

`plan` writes the sweep of the chosen conditions and prints its path. `tables` prints what `coreloss sweep collect` found.
"""

import argparse
import csv
import json
import pathlib
import shutil

import numpy
import yaml

TRIAL = pathlib.Path("configs/experiments/trial.yaml")
OUTPUT = pathlib.Path("out/experiments/trial")
# Keys of a condition that are no keys of a scene.
OWN = ["number", "learned", "height_of", "discs", "radius_px"]
CLEAN = "none"
HEIGHTS = ["low15", "low30", "high30"]
# The best that any model can do, and the methods that a network must beat.
TRUTH, NETWORK, ENSEMBLE = "truth", "cvae", "ensemble"


def points(condition, cubes):
    """The points of a condition: one that learns from bulk, or one for each cube that learns from itself."""
    scene = "simulate.cubes.*.scene."
    keys = {scene + key: value for key, value in condition.items() if key not in OWN}
    keys |= {scene + "seed": condition["number"], scene + "specimen": 0}
    for place, name in enumerate(cubes):
        of_cube = f"simulate.cubes.{place}.scene."
        keys[of_cube + "scan"] = place
        if name not in ("bulk", CLEAN):
            keys |= {f"{of_cube}anomalies.0.{key}": condition[key] for key in ("discs", "radius_px")}
        if name in HEIGHTS:
            keys[of_cube + "anomalies.0.element"] = condition["height_of"]
    name = f"{condition['number']:02d}"
    inputs = {cube: f"simulated/{cube}.hspy" for cube in cubes if cube != "bulk"}
    if condition["learned"] == "bulk":
        return [{"name": name} | keys | {"archive.inputs": list(inputs.values())}]
    alone = {"archive.train_inputs": None}
    return [{"name": f"{name} {cube}"} | keys | alone | {"archive.inputs": [path]} for cube, path in inputs.items()]


def plan(options):
    trial = yaml.safe_load(TRIAL.read_text())
    conditions = trial["conditions"]
    if options.conditions:
        wanted = {int(number) for number in options.conditions.split(",")}
        chosen = [condition for condition in conditions if condition["number"] in wanted]
        if len(chosen) < len(wanted):
            raise SystemExit(f"--conditions {options.conditions}: numbers are 1 to {len(conditions)}")
    else:
        halves = {(True, False): [0, 1], (False, True): [1], (False, False): [0]}[options.all, options.judged]
        chosen = [condition for condition in conditions if condition["number"] % 2 in halves]
    output = OUTPUT / (options.name or ("linear" if options.linear else "full"))
    if options.fresh and output.exists():
        shutil.rmtree(output)
    output.mkdir(parents=True, exist_ok=True)
    # Models are of one version of the program; cubes serve all.
    (OUTPUT / "archive").mkdir(exist_ok=True)
    if not (output / "archive").is_symlink():
        (output / "archive").symlink_to("../archive")
    cubes = [cube["name"] for cube in trial["base"]["simulate"]["cubes"]]
    sweep = {
        "output": str(output),
        "base": trial["base"],
        "list": [point for condition in chosen for point in points(condition, cubes)],
        "grid": {"seed": trial["seeds"][:1] if options.linear else trial["seeds"]},
        "train": not options.linear,
    }
    path = output / "sweep.yaml"
    # JSON is YAML.
    path.write_text(json.dumps(sweep, indent=1))
    print(path)


def read(folder):
    """{(condition, method, seed, cube): (flagged, F1)} by the default score."""
    found = {}
    with open(folder / "table.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["state"] == "done" and row["default_score"] == "1":
                key = (int(float(row["name"].split()[0])), row["method"], int(float(row["seed"])), row["cube"])
                found[key] = (float(row["flagged"]), float(row["f1"] or "nan"))
    return found


def pixels(number, trial):
    y, x, _ = next(c for c in trial["conditions"] if c["number"] == number)["shape"]
    return y * x


def print_conditions(found, trial, kinds):
    """A line for each condition and method: medians over the training seeds."""
    print(f"{'condition':<42}{'method':<9}{'flagged':>9}{'of':>8}" + "".join(f"{kind:>10}" for kind in kinds))
    for condition in trial["conditions"]:
        number = condition["number"]
        y, x, channels = condition["shape"]
        title = f"{number:02d} {condition['layout']} {y}x{x}x{channels} {condition['dose']:.0f} e {condition['learned']}"
        for method in methods(found, number):
            values = by_cube(found, number, method)
            line = f"{title:<42}{method:<9}{numpy.max([v[0] for v in values.get(CLEAN, [(numpy.nan, 0)])]):>9.0f}"
            line += f"{y * x:>8}"
            line += "".join(f"{numpy.median([v[1] for v in values.get(kind, [(0, numpy.nan)])]):>10.3f}" for kind in kinds)
            print(line)
            title = ""


def methods(found, number):
    return sorted({method for n, method, _, _ in found if n == number}, key=lambda m: (m != TRUTH, m != NETWORK, m))


def by_cube(found, number, method):
    """{cube: [(flagged, F1) of each seed]}."""
    values = {}
    for (n, m, _, cube), value in found.items():
        if (n, m) == (number, method):
            values.setdefault(cube, []).append(value)
    return values


def print_summary(found, trial, kinds):
    """Over all conditions: what is flagged where nothing is, how far F1 is below that of the true expectation, by kind."""
    numbers = sorted({number for number, *_ in found})
    print(f"\n{len(numbers)} conditions. F1 below that of the true expectation: median (worst)")
    print(f"{'method':<9}{'flagged % worst':>16}{'conditions':>12}" + "".join(f"{kind:>16}" for kind in kinds) + f"{'seeds':>8}")
    for method in sorted({m for _, m, _, _ in found}, key=lambda m: (m != TRUTH, m != NETWORK, m)):
        shares, below, spread = [], {kind: [] for kind in kinds}, [0.0]
        for number in numbers:
            values, truth = by_cube(found, number, method), by_cube(found, number, TRUTH)
            shares += [100 * flagged / pixels(number, trial) for flagged, _ in values.get(CLEAN, [])]
            for kind in kinds:
                f1, best = ([f1 for _, f1 in v.get(kind, [])] for v in (values, truth))
                if f1 and best:
                    below[kind] += [best[0] - one for one in f1]
                    spread.append(max(f1) - min(f1))
        line = f"{method:<9}{max(shares, default=numpy.nan):>16.3f}{sum(share > 0.05 for share in shares):>12}"
        for kind in kinds:
            gaps = below[kind] or [numpy.nan]
            line += f"{numpy.median(gaps):>9.3f} ({max(gaps):.2f})".rjust(16)
        print(line + f"{max(spread):>8.3f}")
    print("conditions: clean cubes of which more than .05 % are flagged; seeds: the largest difference between two trainings")


def print_against_linear(found, kinds):
    """How often the network is better or worse than the best linear method."""
    gains = []
    for number in sorted({number for number, *_ in found}):
        rivals = [m for m in methods(found, number) if m not in (TRUTH, NETWORK, ENSEMBLE)]
        network = by_cube(found, number, NETWORK)
        for kind in kinds:
            own = [f1 for _, f1 in network.get(kind, [])]
            best = [f1 for m in rivals for _, f1 in by_cube(found, number, m).get(kind, [])]
            if own and best:
                gains.append((numpy.median(own) - max(best), number, kind))
    if gains:
        worst = min(gains)
        better, worse = (sum(sign * gain > limit for gain, *_ in gains) for sign, limit in ((1, 0.03), (-1, 0.02)))
        print(
            f"\n{NETWORK} against the best linear method of each cube: better by .03 on {better} of {len(gains)} cubes, worse "
            f"by .02 on {worse}; worst {worst[0]:+.3f} (condition {worst[1]}, {worst[2]})"
        )


def tables(options):
    trial = yaml.safe_load(TRIAL.read_text())
    cubes = [cube["name"] for cube in trial["base"]["simulate"]["cubes"]]
    kinds = [cube for cube in cubes if cube not in ("bulk", CLEAN)]
    found = read(pathlib.Path(options.sweep).parent)
    print_conditions(found, trial, kinds)
    print_summary(found, trial, kinds)
    print_against_linear(found, kinds)


def main():
    parser = argparse.ArgumentParser(description="The trial as a sweep, and its tables.")
    commands = parser.add_subparsers(required=True)
    planned = commands.add_parser("plan")
    planned.add_argument("--conditions", help="numbers, as 2,14; by default those to choose by")
    planned.add_argument("--judged", action="store_true", help="those that judge")
    planned.add_argument("--all", action="store_true")
    planned.add_argument("--linear", action="store_true", help="without the network")
    planned.add_argument("--name", help="folder of the results; full or linear by default")
    planned.add_argument("--fresh", action="store_true", help="removes what is in that folder")
    planned.set_defaults(work=plan)
    printed = commands.add_parser("tables")
    printed.add_argument("sweep")
    printed.set_defaults(work=tables)
    options = parser.parse_args()
    options.work(options)


if __name__ == "__main__":
    main()
