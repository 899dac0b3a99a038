#!/usr/bin/env python3
"""Writes the training curves of runs (metrics.jsonl) as TensorBoard events.

Usage: tensorboard_events.py RUN...     then `tensorboard --logdir` with the folder above them   (needs the package tensorboard)

RUN is the folder of a run, which may still be training. Its events replace those in RUN/tensorboard.
"""

import json
import shutil
import sys
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

# These say where a line belongs; they are not curves.
PLACES = {"step", "steps", "epoch"}


def scalars(line: dict) -> Summary:
    kind = "epoch" if "train" in line else "step"
    named = ((f"{kind}/{name}", value) for name, value in line.items() if name not in PLACES)
    return Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in named if value is not None])


def convert(run: Path) -> None:
    metrics, folder = run / "metrics.jsonl", run / "tensorboard"
    if not metrics.exists():
        sys.exit(f"{metrics} does not exist: give the folder of a run that trained")
    shutil.rmtree(folder, ignore_errors=True)
    writer = EventFileWriter(str(folder))
    began = metrics.stat().st_mtime
    with open(metrics, encoding="utf-8") as lines:
        # If the run is still training, its last line may be incomplete.
        for line in (json.loads(line) for line in lines if line.endswith("\n")):
            writer.add_event(Event(wall_time=began, step=line["step"], summary=scalars(line)))
    writer.close()
    print(f"{folder}: {metrics} as TensorBoard events")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for run in sys.argv[1:]:
        convert(Path(run))
