"""The checks and tables of gpu_check.sh, which says how to start it."""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

from measure import BINARY, RIVALS, Failed, bench, on_ranks, print_table, rival

CONFIG = """
seed: 1
archive: {{inputs: [{folder}/archive/shift.hspy]}}
simulate:
  dir: {folder}/archive
  cubes:
    - {{name: shift, scene: {{shape: [48, 48, 240], anomalies: [{{kind: shift, amount: 5.4}}]}}}}
train: {{steps: 100}}
pca: {{components: [3]}}
"""
# The longest that one of PyTorch's measurements may take.
PATIENCE_S = 180


def say(text):
    print(f"gpu_check: {text}", file=sys.stderr)


def has_card():
    return shutil.which("nvidia-smi") and subprocess.call(["nvidia-smi"], stdout=subprocess.DEVNULL) == 0


def show_doctor():
    doctor = subprocess.run([BINARY, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    for line in doctor.stdout.splitlines():
        if any(word in line.lower() for word in ("gpu", "cuda", "libtorch")):
            print(line, file=sys.stderr)


def trainings(device):
    """Name, ranks, device and options of each training that is compared."""
    same = ["--set", "train.deterministic=true"]
    runs = [
        ("cpu", 1, "cpu", []),
        ("one", 1, device, []),
        ("f32", 1, device, ["--set", "train.precision=f32"]),
        ("same", 1, device, same),
        ("two", 2, device, same),
    ]
    if device == "cuda":
        runs.append(("nccl", 1, device, [*same, "--set", "comm.backend=nccl"]))
    return runs


def losses(run):
    lines = (json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def f1(run):
    (cube,) = json.loads((run / "summary.json").read_text(encoding="utf-8"))["cubes"]
    return cube["methods"]["cvae"]["combined"]["f1"]


def checks(given):
    """The device is found and learns what the CPU learns; the same to the bit on two ranks and through NCCL."""
    say("doctor")
    show_doctor()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        config = folder / "config.yaml"
        config.write_text(CONFIG.format(folder=folder), encoding="utf-8")
        on_ranks(1, BINARY, "simulate", config)
        runs = trainings(given.device)
        for name, ranks, device, options in runs:
            say(f"training {name}: on {device}, ranks {ranks} {' '.join(options)}")
            here = ["--set", f"train.device={device}", "--set", f"output={folder / name}"]
            on_ranks(ranks, BINARY, "run", config, *here, *options)
        names = [name for name, *_ in runs]
        checks_table(given.device, {name: losses(folder / name) for name in names}, [f1(folder / name) for name in names])


def checks_table(device, of, f1_of):
    def beside_cpu(name):
        return statistics.mean(of[name][-20:]) / statistics.mean(of["cpu"][-20:]) - 1

    first = [f"{of[name][0] / of['cpu'][0] - 1:+.1e}" for name in ("one", "f32")]
    last = [f"{beside_cpu(name):+.1%}" for name in ("one", "f32", "same")]
    rows = [
        ["first loss beside the CPU's: bf16, f32", ", ".join(first)],
        ["mean of the last 20 losses beside the CPU's: bf16, f32, deterministic", ", ".join(last)],
        ["deterministic: losses of 2 ranks equal those of 1", of["same"] == of["two"]],
    ]
    if "nccl" in of:
        rows.append(["deterministic: losses of one rank through NCCL equal those without", of["same"] == of["nccl"]])
    rows.append([f"F1 of 5.4 eV: {', '.join(of)}", ", ".join(f"{value:.3f}" for value in f1_of)])
    print_table([f"check, {device}", ""], rows)


def speed(given):
    """Samples a second, beside PyTorch's ways."""
    usual = "compact:32 compact:128 compact:512 paper:32" if given.device == "cuda" else "compact:8"
    rows = []
    for size in os.environ.get("SIZES", usual).split():
        preset, batch = size.split(":")
        say(f"{preset}, batch {batch}")
        rows += speed_rows(given, preset, batch)
    print_table(["preset, batch", "coreloss, samples/s", "PyTorch", "ratio", "its way", "matrix-product rate"], rows)


def speed_rows(given, preset, batch):
    options = ["--spec", given.rivals / f"spec_{preset}.json", "--batch", batch, "--steps", 15, "--warmup", 6]
    keys = {
        "train.device": given.device,
        "train.cudnn_tries": 10,
        "train.micro_batch": batch,
        "train.global_batch": batch,
    }
    sets = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
    ours = attempt("coreloss", lambda: bench(1, None, "train", *options, *sets))
    if given.device == "cuda":
        ways = ["--channels-last --bf16", "--channels-last --bf16 --compile"]
    else:
        ways = ["", "--channels-last"]
    title = f"{preset}, {batch}"
    rows = []
    for way in ways:
        words = [*options, "--device", given.device, "--ranks", 1, *way.split()]
        theirs = attempt(f"PyTorch {way}", lambda: rival(given.rivals / "torch_ddp.py", *words, timeout=PATIENCE_S))
        if theirs is None:
            continue
        own, ratio, share = "no room", "", ""
        if ours is not None:
            own, ratio = f"{ours['samples_per_s']:.0f}", f"{ours['samples_per_s'] / theirs['samples_per_s']:.2f}"
            share = f"{ours['share_of_matrix_product']:.1%}"
        rows.append([title, own, f"{theirs['samples_per_s']:.0f}", ratio, way or "plain", share])
    return rows


def attempt(who, measure):
    """What is measured, or none where there is no room for it."""
    try:
        return measure()
    except Failed as failed:
        say(f"{who}: no room, or failed: {str(failed).splitlines()[-1]}")
        return None


PARTS = {"checks": checks, "speed": speed}


def main():
    parser = argparse.ArgumentParser(prog="gpu_check.sh", description="Checks the GPU path beside PyTorch.")
    parser.add_argument("device", nargs="?", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("rivals", nargs="?", type=pathlib.Path, default=RIVALS, help="folder of the rival programs")
    parser.add_argument("parts", nargs="*", metavar="PART", help="checks, speed; both by default")
    given = parser.parse_args()
    unknown = set(given.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if given.device == "cuda" and not has_card():
        say("SKIPPED: nvidia-smi finds no card")
        return
    for part in given.parts or PARTS:
        PARTS[part](given)
        print()


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"gpu_check: {failed}")
