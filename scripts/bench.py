"""The measurements and tables of bench.sh, which says how to start it."""

import argparse
import collections
import pathlib
import statistics
import sys
import tempfile
import time

from measure import BINARY, RIVALS, Failed, bench, last_line, median_of, median_ratio, on_ranks, print_table
from measure import python_environment, rival, run

SHAPES = [(1, 2), (2, 1)]  # ranks, threads


class Measurements:
    """All rounds: by part, and by who was measured, a list of findings."""

    def __init__(self, rivals, cube, dataset):
        self.rivals, self.cube, self.dataset = rivals, cube, dataset
        self.spec = rivals / "spec_compact.json"
        self.found = collections.defaultdict(lambda: collections.defaultdict(list))

    def keep(self, part, who, finding):
        self.found[part][who].append(finding)

    def training(self):
        for ranks, threads in SHAPES:
            part = f"training {ranks} x {threads}"
            self.keep(part, "coreloss", bench(ranks, threads, "train", "--spec", self.spec))
            ddp = [self.rivals / "torch_ddp.py", "--spec", self.spec, "--ranks", ranks, "--threads", threads]
            self.keep(part, "plain", rival(*ddp))
            self.keep(part, "channels-last", rival(*ddp, "--channels-last"))

    def pca(self):
        of_dataset = ["--set", f"archive.dataset={self.dataset}"]
        self.keep("pca", "exact", bench(2, 1, "pca", self.cube, *of_dataset))
        randomized = [*of_dataset, "--set", "pca.solver=randomized"]
        self.keep("pca", "randomized", bench(2, 1, "pca", self.cube, *randomized))
        for mode in ("eigh", "randomized"):
            found = rival(self.rivals / "pca.py", self.cube, self.dataset, "--mode", mode)
            self.keep("pca", f"scikit-learn {mode}", found)

    def reading(self):
        for ranks in (1, 2):
            found = bench(ranks, 1, "io", self.cube, "--set", f"archive.dataset={self.dataset}")
            self.keep("reading", f"coreloss, {ranks} {'rank' if ranks == 1 else 'ranks'}", found)
        found = rival(self.rivals / "io.py", self.cube, self.dataset)
        self.keep("reading", "h5py", dict(found, read_mb_s=found["h5py_mb_s"]))

    def sums(self):
        self.keep("sums", "coreloss", bench(2, 1, "allreduce"))
        script = self.rivals / "allreduce.py"
        try:
            found = last_line(run(["mpirun", "--oversubscribe", "-n", "2", sys.executable, script], python_environment()))
        except Failed as failed:
            say(f"no mpi4py: {failed}")
        else:
            self.keep("sums", "mpi4py", found)

    def reconstruction(self):
        words = ["--spec", self.spec, "--side", 96]
        for ranks, threads in SHAPES:
            self.keep("reconstruction", f"coreloss, {ranks} x {threads}", bench(ranks, threads, "reconstruct", *words))
        tiles = RIVALS / "torch_tiles.py"
        self.keep("reconstruction", "PyTorch plain", rival(tiles, *words))
        self.keep("reconstruction", "PyTorch channels-last", rival(tiles, *words, "--channels-last"))
        batch = ["--channels-last", "--batch", 32]
        self.keep("reconstruction", "PyTorch channels-last, batch 32", rival(tiles, *words, *batch))

    def ranks(self):
        for ranks in (1, 2, 3, 4):
            words = ["--spec", self.spec, "--batch", 48 // ranks, "--steps", 6]
            self.keep("ranks", ranks, bench(ranks, 2 if ranks == 1 else 1, "train", *words))

    def start(self):
        once = ["--spec", self.spec, "--steps", 1, "--warmup", 0]
        self.keep("start", "coreloss", seconds(lambda: bench(2, 1, "train", "--steps-only", *once)))
        ddp = [self.rivals / "torch_ddp.py", "--ranks", 2, *once, "--channels-last"]
        self.keep("start", "PyTorch", seconds(lambda: rival(*ddp)))


def seconds(work):
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def say(text):
    print(f"bench: {text}", file=sys.stderr)


def peak_mib(rows):
    """The median of the memory of all ranks together."""
    peaks = (row["peak_rss_mib"] for row in rows)
    return statistics.median(sum(peak) if isinstance(peak, list) else peak for peak in peaks)


def training_table(found):
    rows = []
    for ranks, threads in SHAPES:
        here = found[f"training {ranks} x {threads}"]
        ours, *others = (here[who] for who in ("coreloss", "plain", "channels-last"))
        speeds = [f"{median_of(side, 'samples_per_s'):.0f}" for side in (ours, *others)]
        least = min(median_ratio(ours, other, "samples_per_s") for other in others)
        share, price = (median_of(ours, key) for key in ("share_of_matrix_product", "price_of_exact"))
        rows.append([f"{ranks} x {threads}", *speeds, f"{least:.2f}", f"{share:.0%}", f"{price:.1%}"])
    print_table(
        [
            "training, ranks x threads",
            "coreloss, samples/s",
            "PyTorch plain",
            "channels-last",
            "ratio to the better",
            "of the matrix-product rate",
            "price of exact",
        ],
        rows,
    )


def pca_table(found):
    solvers = [found["pca"][solver] for solver in ("exact", "randomized")]
    rows = []
    for name, side in zip(("exact", "randomized"), solvers):
        memory = f"{peak_mib(side):.0f}"
        rows.append([f"coreloss {name}, 2 ranks (memory summed)", f"{median_of(side, 'seconds'):.2f}", memory, "", ""])
    for name in ("scikit-learn eigh", "scikit-learn randomized"):
        side = found["pca"][name]
        faster = [f"{median_ratio(side, ours, 'seconds'):.2f}" for ours in solvers]
        rows.append([name, f"{median_of(side, 'seconds'):.2f}", f"{peak_mib(side):.0f}", *faster])
    shape, components = "x".join(map(str, solvers[0][0]["shape"])), solvers[0][0]["components"]
    title = f"PCA of {shape}, {components} components"
    print_table([title, "s", "peak MiB", "exact is faster by", "randomized is faster by"], rows)


def reading_table(found):
    h5py = found["reading"]["h5py"]
    rows = [
        [who, f"{median_of(side, 'read_mb_s'):.0f}", f"{median_ratio(side, h5py, 'read_mb_s'):.2f}"]
        for who, side in found["reading"].items()
    ]
    print_table(["reading", "MB/s of the decoded array", "ratio to h5py"], rows)


def reconstruction_table(found):
    sides = found["reconstruction"]
    others = [side for who, side in sides.items() if who.startswith("PyTorch")]
    rows = []
    for who, side in sides.items():
        least = min(median_ratio(side, other, "spectra_per_s") for other in others)
        rows.append([who, f"{median_of(side, 'spectra_per_s'):.0f}", f"{peak_mib(side):.0f}", f"{least:.2f}"])
    print_table(["reconstruction of 96 x 96", "spectra/s", "peak MiB", "ratio to PyTorch's best"], rows)


def ranks_table(found):
    two = found["ranks"][2]
    rows = [
        [ranks, f"{median_of(side, 'step_ms'):.0f}", f"{median_ratio(side, two, 'step_ms'):.2f}"]
        for ranks, side in found["ranks"].items()
    ]
    print_table(["48 patches a step, ranks", "ms a step", "ratio to 2 ranks"], rows)


def start_line(found):
    ours, theirs = found["start"]["coreloss"], found["start"]["PyTorch"]
    ratio = statistics.median(one / other for one, other in zip(ours, theirs))
    print(
        f"Start to the end of the first step, 2 ranks: {statistics.median(ours):.2f} s; "
        f"PyTorch {statistics.median(theirs):.2f} s; ratio {ratio:.2f}"
    )


def sums_table(found):
    ours, mpi4py = found["sums"]["coreloss"], found["sums"]["mpi4py"]
    rows = []
    for i, first in enumerate(ours[0]["sizes"]):
        sizes = [row["sizes"][i] for row in ours]
        values = [median_of(sizes, key) for key in ("bare_gb_per_s", "fast_ratio", "exact_ratio")]
        same = [size for row in mpi4py for size in row["sizes"] if size["mib"] == first["mib"]]
        rival_rate = f"{median_of(same, 'gb_per_s'):.2f}" if same else ""
        rows.append([first["mib"], *(f"{value:.2f}" for value in values), rival_rate])
    print_table(["gradient, MiB", "bare MPI_Allreduce, GB/s", "fast, of it", "exact, of it", "mpi4py, GB/s"], rows)


def simulate(folder):
    """A cube of 256 x 256 x 1312 in `folder`: its path and dataset."""
    config = folder / "cube.yaml"
    scene = "{shape: [256, 256, 1312], dispersion_ev: 0.3}"
    config.write_text(f"simulate: {{dir: {folder}, cubes: [{{name: cube, scene: {scene}}}]}}\n", encoding="utf-8")
    on_ranks(2, BINARY, "simulate", config)
    return folder / "cube.hspy", "Experiments/spectra/data"


def main():
    parser = argparse.ArgumentParser(prog="bench.sh", description="Measures this machine beside rival programs.")
    parser.add_argument("rivals", nargs="?", type=pathlib.Path, default=RIVALS, help="their folder")
    parser.add_argument("rounds", nargs="?", type=int, default=5)
    parser.add_argument("cube", nargs="?", help="HDF5 file; simulated by default")
    parser.add_argument("dataset", nargs="?", help="spectrum image in it")
    given = parser.parse_args()
    if given.cube and not given.dataset:
        parser.error("CUBE needs the path of its DATASET")
    with tempfile.TemporaryDirectory() as folder:
        cube = (given.cube, given.dataset) if given.cube else simulate(pathlib.Path(folder))
        measurements = Measurements(given.rivals, *cube)
        parts = ("training", "pca", "reading", "sums", "reconstruction", "ranks", "start")
        for round_ in range(1, given.rounds + 1):
            for part in parts:
                say(f"round {round_} of {given.rounds}, {part}")
                getattr(measurements, part)()
    tables = (training_table, pca_table, reading_table, reconstruction_table, ranks_table, start_line, sums_table)
    for table in tables:
        table(measurements.found)
        print()


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"bench: {failed}")
