"""One drag of the slider against the example's thousand steps, in one run.

    python tests/benchmarks/sampling.py

The cost of both grows in proportion to steps and pictures; guidance doubles the pictures.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from course_utils.model import ClassConditionedUnet
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.sampling import make_scheduler, sample
from course_utils.widgets import ClassPicker

DRAGS = 30


def seconds(action) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main():
    picker = ClassPicker(ClassConditionedPipeline.from_pretrained("mnist"))
    example, ddpm = ClassConditionedUnet(), make_scheduler("ddpm")
    sample(example, ddpm, [3], 5)  # warm up
    drags = [seconds(lambda digit=i % 10: setattr(picker.slider, "value", digit)) for i in range(1, DRAGS + 1)]
    drag, thousand_steps = statistics.median(drags), seconds(lambda: sample(example, ddpm, [3], 1000))
    print(f"one drag: {drag * 1000:.1f} ms (median of {DRAGS}); the example's 1000 steps: {thousand_steps:.2f} s")
    result = dict(drag_ms=drag * 1000, example_ms=thousand_steps * 1000, times_as_fast=thousand_steps / drag)
    print(
        json.dumps(
            result | dict(steps=picker.steps.value, guidance=picker.guidance.value, threads=torch.get_num_threads())
        )
    )


if __name__ == "__main__":
    main()
