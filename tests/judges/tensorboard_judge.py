"""Compares the events of a run, as TensorBoard reads them, with its metrics.jsonl.

Usage: tensorboard_judge.py RUN   (needs tensorboard)
"""

import json
import math
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

run = Path(sys.argv[1])
events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
events.Reload()
lines = [json.loads(line) for line in open(run / "metrics.jsonl", encoding="utf-8")]
steps = [line for line in lines if "loss" in line]
assert steps
assert "step/learning_rate" in events.Tags()["scalars"], events.Tags()
for name in ("loss", "kl", "grad_norm"):
    found = [(event.step, event.value) for event in events.Scalars(f"step/{name}")]
    assert len(found) == len(steps), name
    for (step, value), line in zip(found, steps):
        assert step == line["step"] and math.isclose(value, line[name], rel_tol=1e-6), (name, step)
