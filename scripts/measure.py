"""Runs `coreloss bench` and the rival programs, and reads the line of JSON that each prints last.

CARGO_TARGET_DIR says where coreloss was built (default target). Rivals run with the Python that runs this.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys

SCRIPTS = pathlib.Path(__file__).resolve().parent
RIVALS = SCRIPTS / "rivals"
BINARY = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", SCRIPTS.parent / "target")) / "release" / "coreloss"


class Failed(Exception):
    """A command that failed, and what it said."""


def on_ranks(ranks, program, *words, threads=None):
    """Runs a program on MPI ranks, more than there are cores if need be; returns its stdout."""
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    if threads is not None:
        environment["CORELOSS_THREADS"] = str(threads)
    mpirun = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)]
    return run([*mpirun, program, *words], environment)


def bench(ranks, threads, *words):
    """What `coreloss bench WORDS --json` finds."""
    return last_line(on_ranks(ranks, BINARY, "bench", *words, "--json", threads=threads))


def rival(script, *words, timeout=None):
    """What a script of the rivals finds."""
    return last_line(run([sys.executable, script, *words], python_environment(), timeout))


def python_environment():
    # The libraries that coreloss is linked to are not those of Python's torch.
    return {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}


def run(command, environment, timeout=None):
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Failed(f"took more than {timeout} s: {' '.join(command)}") from None
    if done.returncode != 0:
        raise Failed(f"failed: {' '.join(command)}\n{done.stderr}")
    return done.stdout


def last_line(output):
    return json.loads(output.splitlines()[-1])


def median_of(rows, key):
    return statistics.median(row[key] for row in rows)


def median_ratio(rows, others, key):
    """The median of the ratios of pairs that were measured in turns."""
    return statistics.median(row[key] / other[key] for row, other in zip(rows, others))


def print_table(columns, rows):
    """A Markdown table."""
    for row in (columns, ["---"] * len(columns), *rows):
        print("| " + " | ".join(map(str, row)) + " |")
